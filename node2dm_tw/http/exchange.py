"""One request of the treq client, from the first byte out to the one outcome it comes to."""

from collections.abc import Callable
from typing import Any, cast

from OpenSSL import SSL
from twisted.internet import defer, error
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IConsumer, IDelayedCall, IReactorTime
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from twisted.web.client import ResponseDone
from twisted.web.http import PotentialDataLoss
from twisted.web.iweb import IBodyProducer, IResponse
from zope.interface import implementer

from node2dm_tw.http.head import join_fields, parse_fields, parse_status
from node2dm_tw.http.interface import (
    MAX_RESPONSE,
    CertificateRefused,
    NoAnswer,
    NotSent,
    Outcome,
    RequestFailed,
    Response,
)

_SPEAKABLE = (OSError, SSL.Error, error.ConnectError, error.ConnectionClosed, RequestFailed)
_TIMEOUTS = (defer.TimeoutError, error.TimeoutError)


def describe(reason: Failure) -> str:
    """Say in one line why a request failed.

    Only network errors are quoted: the text of others may hold headers, and so secrets.
    """
    value = reason.value
    wrapped = getattr(value, "reasons", None)
    if wrapped:
        return describe(wrapped[0])
    name = type(value).__name__
    return f"{name}: {value}" if isinstance(value, _SPEAKABLE) and str(value) else name


@implementer(IBodyProducer)
class Exchange(Protocol):
    """Writes the request's body, reads the answer's, and tells its outcome exactly once.

    Args:
        clock: where the time-out is scheduled.
        timeout: seconds for the whole exchange.
        body: the body of the request.
        done: told the outcome.

    Attributes:
        sent: the request's header was written; the upstream may act on it from here on.
        reused: it went out on a kept-alive connection.
        answered: a byte of the answer came in.
        settled: the outcome was told.
    """

    def __init__(
        self, clock: IReactorTime, timeout: float, body: bytes, done: Callable[[Outcome], None]
    ) -> None:
        self.length = len(body)
        self.sent = self.reused = self.answered = self.settled = False
        self._request_body = body
        self._done = done
        self._chunks: list[bytes] = []
        self._received = 0
        self._response: Any = None
        self._request: Deferred[Any] | None = None
        self._timeout = timeout
        self._timer: IDelayedCall = clock.callLater(timeout, self._out_of_time)

    def follow(self, request: Deferred[Any]) -> None:
        """Take over treq's Deferred: to fail with it, and to cancel it."""
        self._request = request
        request.addErrback(self._failed)

    # The request's body: IBodyProducer

    def startProducing(self, consumer: IConsumer) -> Deferred[None]:
        self.sent = True
        consumer.write(self._request_body)
        return succeed(None)

    def pauseProducing(self) -> None:
        pass

    def resumeProducing(self) -> None:
        pass

    def stopProducing(self) -> None:
        pass

    # The answer

    def read(self, response: Any) -> IResponse:
        """Take the answer's header, and begin on its body."""
        self._response = response
        response.deliverBody(self)
        return cast(IResponse, response)

    def dataReceived(self, data: bytes) -> None:
        if self.settled:
            return
        self._chunks.append(data)
        self._received += len(data)
        if self._received > MAX_RESPONSE:
            self._settle(self._answer(truncated=True))

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if isinstance(reason.value, (ResponseDone, PotentialDataLoss)):
            self._settle(self._answer(truncated=False))
        else:
            self._failed(reason)

    def cut_head(self, head: bytes) -> None:
        """End with what there is of a header block that is too long."""
        lines = head.split(b"\n")[:-1]
        status = parse_status(lines[0]) if lines else None
        if status is None:
            self._settle(NoAnswer("the answer is not HTTP"))
        else:
            self._settle(Response(status, parse_fields(lines[1:]), b"", truncated=True))

    def give_up(self, reason: str, *, timed_out: bool = False) -> None:
        """Break the exchange off."""
        self._settle(self._failure(reason, timed_out=timed_out))

    def _answer(self, *, truncated: bool) -> Response:
        response = self._response
        fields = response.headers.getAllRawHeaders()
        headers = join_fields((name, value) for name, values in fields for value in values)
        body = b"".join(self._chunks)[:MAX_RESPONSE]
        return Response(response.code, headers, body, truncated)

    def _failed(self, reason: Failure) -> None:
        value = reason.value
        if isinstance(value, CertificateRefused):
            self._settle(value)
        else:
            timed_out = isinstance(value, _TIMEOUTS)
            self._settle(self._failure(describe(reason), timed_out=timed_out, lost=True))

    def _failure(self, text: str, *, timed_out: bool, lost: bool = False) -> RequestFailed:
        if not self.sent:
            return NotSent(text, timed_out=timed_out)
        stale = lost and self.reused and not self.answered
        return NoAnswer(text, timed_out=timed_out, retry_at_once=stale)

    def _out_of_time(self) -> None:
        what = "answer" if self.sent else "connection"
        self.give_up(f"no {what} within {self._timeout:g} s", timed_out=True)

    def cancel(self) -> None:
        """End it from our side."""
        self.give_up("cancelled")

    def _settle(self, outcome: Outcome) -> None:
        if self.settled:
            return
        self.settled = True
        self._chunks.clear()
        if self._timer.active():
            self._timer.cancel()
        self._break_off()
        self._done(outcome)

    def _break_off(self) -> None:
        """Close the connection if anything is still to come on it."""
        if self._response is None and self._request is not None:
            self._request.cancel()
        elif self.transport is not None:
            # loseConnection on TLS would go on reading.
            self.transport.stopProducing()  # type: ignore[attr-defined]
