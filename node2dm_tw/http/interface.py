"""The seam between pushes and the wire: one request out, one response back."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Protocol

from twisted.internet.defer import Deferred

MAX_RESPONSE = 64 * 1024
"""Bytes read of a body, and of a header block; the rest is cut off."""

Headers = tuple[tuple[bytes, bytes], ...]
"""Request headers in order. Clients may key a cache by the identity of the tuple."""


class Response(NamedTuple):
    """One answer.

    Args:
        status: the HTTP status code.
        headers: names in lower case; values of a repeated header joined with ``b", "``.
        body: at most `MAX_RESPONSE` bytes, uncompressed.
        truncated: a part is missing: header block or body was longer than `MAX_RESPONSE`, broken
            off, or could not be read.
    """

    status: int
    headers: Mapping[bytes, bytes]
    body: bytes
    truncated: bool = False


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

Done = Callable[[Outcome, Any], None]
"""Is told an outcome, and the context that came with the request."""


class InFlight(Protocol):
    """A request that has not ended."""

    def cancel(self) -> None:
        """Break it off: it ends with `NotSent` or `NoAnswer`. Not after it has ended."""
        ...


class HTTPClient(Protocol):
    """Moves requests. Redirects are not followed, and nothing is retried.

    A whole status line of 200 or above makes a `Response`, whatever becomes of the rest. A
    connection on which a request times out while nothing is answered is closed, and its other
    requests end as `NoAnswer`.

    Attributes:
        name: ``treq`` or ``curl``, for the statistics.
        on_reported: called after outcomes have been told, of one request or of many at once, but
            not for a request that ends within `send`.
    """

    name: str
    on_reported: Callable[[], None]

    @property
    def handshakes(self) -> int:
        """Connections opened so far."""
        ...

    @property
    def reconnects(self) -> int:
        """Requests that the client sent a second time by itself."""
        ...

    def send(
        self, url: str, headers: Headers, body: bytes, done: Done, context: Any
    ) -> InFlight | None:
        """POST `body`, and call done(outcome, context) once, when the request has ended.

        The client adds Host, Content-Length and `Accept-Encoding: identity`. Connection, request
        and the reading of the body share one time-out, set when the client is made.

        Returns:
            What cancels the request; None where it has ended already.
        """
        ...

    def post(self, url: str, headers: Headers, body: bytes) -> Deferred[Response]:
        """Do as `send` does, but give a Deferred.

        It can be cancelled, and fails with `RequestFailed` alone.
        """
        ...

    def close(self) -> Deferred[None]:
        """Close every connection; requests in flight fail with `NoAnswer`."""
        ...
