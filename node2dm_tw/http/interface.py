"""The seam between pushes and the wire: one request out, one response back."""

from collections.abc import Callable
from typing import Any, Protocol

from twisted.internet.defer import Deferred

from node2dm_tw.core.response import MAX_RESPONSE as MAX_RESPONSE
from node2dm_tw.core.response import Headers as Headers
from node2dm_tw.core.response import Response as Response


class RequestFailed(Exception):
    """No answer came. The subclass says whether the upstream may have acted on the request.

    Args:
        reason: a text for the log, without secrets.
        timed_out: the time-out ended it.
        retry_at_once: sending it again at once is right: a kept-alive connection closed before
            any byte of the answer, or the upstream says that it did not process the request.
        is_collateral: its connection was closed because another request on it timed out.
    """

    def __init__(
        self,
        reason: str,
        *,
        timed_out: bool = False,
        retry_at_once: bool = False,
        is_collateral: bool = False,
    ) -> None:
        super().__init__(reason)
        self.timed_out = timed_out
        self.retry_at_once = retry_at_once
        self.is_collateral = is_collateral


class NotSent(RequestFailed):
    """No byte of the request was processed by the upstream: sending it again is safe."""


class NoAnswer(RequestFailed):
    """The request, or a part of it, went out: the upstream may have acted on it."""


class CertificateRefused(NotSent):
    """The certificate of the upstream did not verify; nothing was sent to it."""


Outcome = Response | RequestFailed

OnOutcomes = Callable[[list[tuple[Outcome, Any]]], None]
"""Receives the outcomes of requests that have ended, each with the context of its request."""


class InFlight(Protocol):
    """A request that has not ended."""

    def cancel(self) -> None:
        """End it now, with `NotSent` or `NoAnswer`. Must not be called after it has ended."""
        ...


class HTTPClient(Protocol):
    """Sends requests. Redirects are not followed, and nothing is retried.

    Outcomes go to the constructor's argument `on_outcomes`, in batches: all that end in one
    wake-up of the reactor. A request has ended once `on_outcomes` is called with its outcome.

    A whole status line of 200 or above makes a `Response`, whatever becomes of the rest. A
    connection on which a request times out while nothing is answered is closed, and its other
    requests end as `NoAnswer`.

    Attributes:
        name: ``treq`` or ``curl``, for the statistics.
    """

    name: str

    @property
    def handshakes(self) -> int:
        """Connections opened so far."""
        ...

    @property
    def reconnects(self) -> int:
        """Requests that the client sent a second time by itself."""
        ...

    def send(self, url: str, headers: Headers, body: bytes, context: object) -> InFlight | None:
        """POST `body`; the outcome is handed back once, with `context`.

        The client adds Host, Content-Length and `Accept-Encoding: identity`. Connection, request
        and the reading of the body share one time-out, set when the client is made.

        Returns:
            What cancels the request; None if it ended within this call.
        """
        ...

    def close(self) -> Deferred[None]:
        """Close every connection; requests in flight fail with `NoAnswer`."""
        ...


class _Pending:
    """The context of one request of `post`."""

    def __init__(self) -> None:
        self.result: Deferred[Response] = Deferred(self._cancel)
        self.in_flight: InFlight | None = None

    def _cancel(self, _: object) -> None:
        if self.in_flight is not None:
            self.in_flight.cancel()
        else:  # It has ended, in one batch with the request whose callback cancels it.
            self.result.errback(NoAnswer("cancelled"))


def post(client: HTTPClient, url: str, headers: Headers, body: bytes) -> Deferred[Response]:
    """POST `body` by a client whose outcomes go to `finish_posts`: for what is not hot.

    Returns:
        A Deferred that can be cancelled, and that fails with `RequestFailed` alone.
    """
    pending = _Pending()
    pending.in_flight = client.send(url, headers, body, pending)
    return pending.result


def finish_posts(outcomes: list[tuple[Outcome, _Pending]]) -> None:
    """Fire the Deferreds of the requests that have ended."""
    for _, pending in outcomes:
        pending.in_flight = None
    for outcome, pending in outcomes:
        if pending.result.called:
            continue
        if isinstance(outcome, Response):
            pending.result.callback(outcome)
        else:
            pending.result.errback(outcome)
