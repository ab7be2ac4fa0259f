"""A request of the treq client, from its first byte to its outcome."""

from collections.abc import Callable
from typing import Any

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

from node2dm_tw.http.content import decode
from node2dm_tw.http.head import Fields, HeadReader, join_fields
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
    """Describe in one line why a request failed.

    Only network errors are quoted, because the text of others may contain headers with secrets.
    """
    value = reason.value
    wrapped = getattr(value, "reasons", None)
    if wrapped:
        return describe(wrapped[0])
    name = type(value).__name__
    return f"{name}: {value}" if isinstance(value, _SPEAKABLE) and str(value) else name


@implementer(IBodyProducer)
class TreqRequest(Protocol):
    """Writes the request's body, reads the answer, and reports the outcome exactly once.

    Args:
        clock: schedules the time-out.
        timeout: seconds for the whole request.
        body: the body of the request.
        on_outcome: called with the outcome.

    Attributes:
        sent: the header was written, so the upstream may process the request.
        reused: the request was sent on a kept-alive connection.
        answered: a byte of the answer was received.
        is_done: the outcome was reported.
    """

    def __init__(
        self,
        clock: IReactorTime,
        timeout: float,
        body: bytes,
        on_outcome: Callable[[Outcome], None],
    ) -> None:
        self.length = len(body)
        self.sent = self.reused = self.answered = self.is_done = False
        self._request_body = body
        self._on_outcome = on_outcome
        self._head = HeadReader()
        self._chunks: list[bytes] = []
        self._received = 0
        self._response: IResponse | None = None
        self._request: Deferred[Any] | None = None
        self._timeout = timeout
        self._timer: IDelayedCall = clock.callLater(timeout, self._on_timeout)

    def attach(self, request: Deferred[Any]) -> None:
        """Store treq's Deferred, to handle its failure and to cancel it."""
        self._request = request
        request.addErrback(self._on_failure)

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

    def filter(self, data: bytes) -> bytes:
        """Process received bytes.

        Returns:
            The bytes for Twisted's parser. It rejects answers with one invalid header line, so it
            gets a rewritten header block.
        """
        self.answered = True
        if self._head.is_complete:
            return data
        try:
            rest = self._head.feed(data)
        except ValueError as fault:
            self._fail(str(fault))
            return b""
        if rest is None:
            return b""
        framing = self._head.framing()
        if framing is None:
            self._fail("the answer's length is not clear")
            return b""
        return framing + rest

    def read(self, response: IResponse) -> IResponse:
        """Start reading the body of the answer."""
        self._response = response
        response.deliverBody(self)
        return response

    def dataReceived(self, data: bytes) -> None:
        if self.is_done:
            return
        self._chunks.append(data)
        self._received += len(data)
        if self._received > MAX_RESPONSE:
            self._settle(self._make_response(truncated=True))

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if isinstance(reason.value, (ResponseDone, PotentialDataLoss)):
            self._settle(self._make_response(truncated=False))
        else:
            self._on_failure(reason)

    def abort(self, reason: str) -> None:
        """End the request early, and ignore the answer so far."""
        self._settle(self._failure(reason))

    def cancel(self) -> None:
        """End the request early."""
        self.abort("cancelled")

    def _make_response(self, *, truncated: bool) -> Response:
        status, fields = self._head.status, self._head.fields
        if not status:  # An agent in tests has no connection, so nothing was filtered.
            assert self._response is not None
            status, fields = self._response.code, _fields_of(self._response)
        body, is_whole = b"".join(self._chunks)[:MAX_RESPONSE], True
        if b"content-encoding" in fields:
            body, is_whole = decode(fields[b"content-encoding"], body)
        return Response(status, fields, body, truncated or not is_whole)

    def _on_failure(self, reason: Failure) -> None:
        value = reason.value
        if isinstance(value, CertificateRefused):
            self._settle(value)
        else:
            self._fail(describe(reason), timed_out=isinstance(value, _TIMEOUTS), lost=True)

    def _on_timeout(self) -> None:
        what = "answer" if self.sent else "connection"
        self._fail(f"no {what} within {self._timeout:g} s", timed_out=True)

    def _fail(self, text: str, *, timed_out: bool = False, lost: bool = False) -> None:
        """End with an incomplete answer if there is a status line, otherwise with a failure."""
        if self._head.status:
            self._settle(self._make_response(truncated=True))
        else:
            self._settle(self._failure(text, timed_out=timed_out, lost=lost))

    def _failure(self, text: str, *, timed_out: bool = False, lost: bool = False) -> RequestFailed:
        if not self.sent:
            return NotSent(text, timed_out=timed_out)
        is_stale = lost and self.reused and not self.answered
        return NoAnswer(text, timed_out=timed_out, retry_at_once=is_stale)

    def _settle(self, outcome: Outcome) -> None:
        if self.is_done:
            return
        self.is_done = True
        self._chunks.clear()
        if self._timer.active():
            self._timer.cancel()
        self._break_off()
        self._on_outcome(outcome)

    def _break_off(self) -> None:
        """Close the connection if it has not received the whole answer."""
        if self._response is None and self._request is not None:
            self._request.cancel()
        elif self.transport is not None:
            # loseConnection on TLS continues to read.
            self.transport.stopProducing()  # type: ignore[attr-defined]


def _fields_of(response: IResponse) -> Fields:
    fields = response.headers.getAllRawHeaders()
    return join_fields((name, value) for name, values in fields for value in values)
