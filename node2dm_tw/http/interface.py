"""The interface of HTTP clients."""

from collections.abc import Callable
from typing import Any, Protocol

from twisted.internet.defer import Deferred

from node2dm_tw.core.response import MAX_RESPONSE as MAX_RESPONSE
from node2dm_tw.core.response import Headers as Headers
from node2dm_tw.core.response import Response as Response


class RequestFailed(Exception):
    """No answer came. The subclass says whether the upstream may have processed the request.

    Args:
        reason: a text for the log, without secrets.
        timed_out: the request timed out.
        retry_at_once: the request should be sent again at once, because a kept-alive connection
            closed before any byte of the answer, or the upstream did not process the request.
        is_collateral: the connection was closed because another request on it timed out.
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
    """The upstream processed no byte of the request, so sending it again is safe."""


class NoAnswer(RequestFailed):
    """The request, or a part of it, was sent: the upstream may have processed it."""


class CertificateRefused(NotSent):
    """The upstream's certificate did not verify, so nothing was sent."""


Outcome = Response | RequestFailed

OnOutcomes = Callable[[list[tuple[Outcome, Any]]], None]
"""Receives the outcomes of requests that have ended, each with the context of its request."""


class InFlight(Protocol):
    """A request that has not ended."""

    def cancel(self) -> None:
        """End the request now, with `NotSent` or `NoAnswer`. Not allowed after it has ended."""
        ...


class HTTPClient(Protocol):
    """Sends requests. Does not follow redirects, and does not retry.

    The constructor's argument `on_outcomes` receives the outcomes in batches: all requests that
    end in one turn of the reactor. A request has ended when it was called with its outcome.

    A complete status line of 200 or above leads to a `Response`, even if the rest is incomplete. If
    a request times out and nothing else on its connection was answered, the connection is closed,
    and its other requests end as `NoAnswer`.

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
        """Requests that the client sent again by itself."""
        ...

    def send(
        self, url: str, headers: Headers, body: bytes | None, context: object
    ) -> InFlight | None:
        """POST `body`; `on_outcomes` gets the outcome once, with `context`.

        Without a body the method is DELETE. The client adds Host, Content-Length and
        `Accept-Encoding: identity`. Its time-out is for connection, request and answer together.

        Returns:
            An object to cancel the request; None if it ended within this call.
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
        else:  # It ended in the same batch as the request whose callback cancels it.
            self.result.errback(NoAnswer("cancelled"))


def post(
    client: HTTPClient, url: str, headers: Headers, body: bytes | None, **more: Any
) -> Deferred[Response]:
    """Send a request with a client whose outcomes go to `finish_posts`. Slower than `send`.

    Args:
        more: what only some clients take: the treq client another `method`.

    Returns:
        A Deferred that can be cancelled, and that fails only with `RequestFailed`.
    """
    pending = _Pending()
    pending.in_flight = client.send(url, headers, body, pending, **more)
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
