"""HTTP on one connection, within its limits: Twisted reads a request's head, we its body."""

from collections.abc import Callable, Iterable
from functools import partial
from io import BytesIO
from typing import Any

import attrs
from twisted.internet.interfaces import IAddress, ITCPTransport
from twisted.python.failure import Failure
from twisted.web import server
from twisted.web.http import HTTPChannel, Request

from node2dm_tw.admin.connections import (
    IDLE_SECONDS,
    MAX_BUFFERED_BYTES,
    BoundedProtocol,
    Connections,
)

HEAD_SECONDS = 15.0
"""Seconds from the first byte of a request's head to its last."""

MAX_HEAD_BYTES = 16_384
"""Bytes of a request's head."""

MAX_HEADERS = 100
"""Headers of a request."""

MAX_LINE_BYTES = 2_048
"""Bytes of a request's first line: to take a long query apart takes milliseconds."""

BODY_SECONDS = 60.0
"""Seconds from the head of a request to the last byte of its body."""

BODY_READ_BYTES = 65_536
"""Bytes of a body that one read takes from a socket."""

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


def _last_answer(status: bytes, text: bytes = b"") -> bytes:
    """Build an answer after which the connection is closed."""
    return (
        b"HTTP/1.1 %b\r\nConnection: close\r\nContent-Type: text/plain; charset=utf-8\r\n"
        b"Content-Length: %d\r\n\r\n%b" % (status, len(text), text)
    )


TOO_LONG = _last_answer(b"431 Head Too Long")
TOO_SLOW = _last_answer(
    b"408 Request Timeout", b"the body did not arrive within %d s\n" % BODY_SECONDS
)
TOO_SHORT = _last_answer(b"400 Bad Request", b"the body is shorter than its Content-Length\n")


class ViewRequest(server.Request):
    """A request whose body, if there is one, is still to be read when it is processed.

    Attributes:
        body_length: bytes of the body that the head announces; None: it does not say how many.
        expects_continue: the client waits for a 100 before it sends the body.
    """

    body_length: int | None = 0
    expects_continue = False

    def gotLength(self, length: int | None) -> None:
        self.content = BytesIO()

    def leave_body(self) -> None:
        """Let the connection end with this request if it has a body: that is not read."""
        if self.body_length != 0:
            self.channel.persistent = False
            self.responseHeaders.setRawHeaders(b"Connection", [b"close"])


class HeadChannel(HTTPChannel):
    """Processes each request once its head is read."""

    totalHeadersSize = MAX_HEAD_BYTES
    transport: Any  # a WebConnection

    def allHeadersReceived(self) -> None:
        request: Any = self.requests[-1]
        headers = request.requestHeaders
        request.body_length = None if headers.hasHeader(b"Transfer-Encoding") else self.length
        self.length = 0
        # Whether a client is asked to send the body is decided when the request is processed.
        expected = headers.getRawHeaders(b"Expect", [b""])[0].lower()
        request.expects_continue = expected == b"100-continue" and self._version == b"HTTP/1.1"
        headers.removeHeader(b"Expect")
        HTTPChannel.allHeadersReceived(self)

    def headerReceived(self, line: bytes) -> bool:
        try:
            is_valid: bool = HTTPChannel.headerReceived(self, line)
        except ValueError:  # a length of thousands of digits, which Python does not convert
            self._respondToBadRequestAndDisconnect()  # type: ignore[no-untyped-call]
            return False
        return is_valid

    def checkPersistence(self, request: Any, version: bytes) -> bool:
        persists: bool = HTTPChannel.checkPersistence(self, request, version)
        if not persists:
            request.responseHeaders.setRawHeaders(b"Connection", [b"close"])
        return persists

    def requestDone(self, request: Request) -> None:
        HTTPChannel.requestDone(self, request)
        self.transport.finish_request()


@attrs.define(eq=False)
class BodyReader:
    """Collects one body.

    Args:
        missing: bytes of it that are still to come.
        on_body: called once, with the body; with None where the connection ended before it.
    """

    missing: int
    on_body: Callable[[bytes | None], None]
    _data: bytearray = attrs.field(factory=bytearray, init=False)

    def add(self, data: bytes) -> bytes:
        """Add bytes, and return those that follow the body."""
        before, rest = data[: self.missing], data[self.missing :]
        self._data += before  # not a list of many small parts, each of which takes 34 bytes more
        self.missing -= len(before)
        return rest

    def finish(self) -> None:
        """Hand the complete body over."""
        self.on_body(bytes(self._data))


class WebConnection(BoundedProtocol):
    """One connection: gives its channel one head at a time, and is the channel's transport."""

    MAX_REQUEST_BYTES = MAX_HEAD_BYTES

    def __init__(self, connections: Connections, channel: HeadChannel) -> None:
        """Let `channel` answer."""
        BoundedProtocol.__init__(self, connections)
        self._channel: Any = channel
        self._is_streaming = False
        self._body: BodyReader | None = None

    def connectionMade(self) -> None:
        if ITCPTransport.providedBy(self.transport):
            self.transport.setTcpNoDelay(True)  # an event must not wait for the next one
        self._channel.makeConnection(self)
        BoundedProtocol.connectionMade(self)

    def connectionLost(self, reason: Failure) -> None:  # type: ignore[override]
        BoundedProtocol.connectionLost(self, reason)
        self._channel.connectionLost(reason)
        self._end_body()

    def find_end(self, data: bytes) -> int:
        start = len(data) - len(data.lstrip(b"\r\n"))  # some send an empty line after a body
        end = data.find(b"\r\n\r\n", start)
        return end + 4 if end >= 0 else 0

    def on_request_begun(self) -> None:
        self.wait(HEAD_SECONDS)

    def answer(self, request: bytes) -> None:
        request = request.lstrip(b"\r\n")
        if request.find(b"\r\n") > MAX_LINE_BYTES or request.count(b"\r\n") > MAX_HEADERS + 2:
            self.refuse_long()
        else:
            self._channel.dataReceived(request)

    def finish_request(self) -> None:
        self.is_busy = False
        BoundedProtocol.finish_request(self)

    def refuse_long(self) -> None:
        self.write(TOO_LONG)
        self.close()

    def dataReceived(self, data: bytes) -> None:
        if self._is_streaming and not self.is_closing:
            self.abortConnection()  # there is nothing to say to a stream of events
        elif self._is_reading_body:
            self._add_to_body(data)
        else:
            BoundedProtocol.dataReceived(self, data)

    def readConnectionLost(self) -> None:
        if self._is_streaming and not self.is_closing:
            self.abortConnection()
        elif self._is_reading_body:
            self.is_at_end = True
            self._refuse_body(TOO_SHORT)
        else:
            BoundedProtocol.readConnectionLost(self)

    def read_body(
        self, length: int, on_body: Callable[[bytes | None], None], *, expects_continue: bool
    ) -> None:
        """Read the body of the request that is being answered.

        Args:
            on_body: called once, in a turn of its own or at once, with the body; with None where
                the connection ends before it.
            expects_continue: the client waits to be asked for it.
        """
        self.is_busy = True
        body = BodyReader(length, on_body)
        self._unread = body.add(self._unread)
        if not body.missing:
            self.wait(IDLE_SECONDS)
            body.finish()
            return
        if expects_continue and body.missing == length:
            self.write(CONTINUE)
        self._body = body
        self.wait(BODY_SECONDS)
        self.transport.bufferSize = BODY_READ_BYTES
        self.transport.resumeProducing()

    @property
    def _is_reading_body(self) -> bool:
        return self._body is not None and self._body.missing > 0

    def _add_to_body(self, data: bytes) -> None:
        body: Any = self._body
        self._unread = body.add(data)
        if not body.missing:
            self.wait(IDLE_SECONDS)
            self.transport.bufferSize = MAX_BUFFERED_BYTES
            self.transport.pauseProducing()
            self._connections.turns.add(partial(self._finish_body, body))

    def _finish_body(self, body: BodyReader) -> None:
        if self._body is body:
            self._body = None
            self.mark_served()
            body.finish()

    def _end_body(self) -> None:
        """Give up the body that is being read, if there is one."""
        if self._body is not None:
            body, self._body = self._body, None
            body.on_body(None)

    def _refuse_body(self, answer: bytes) -> None:
        self.write(answer)
        self._end_body()
        self.close()

    def _time_out(self) -> None:
        if self._is_reading_body:
            self._refuse_body(TOO_SLOW)
        else:
            BoundedProtocol._time_out(self)

    def pauseProducing(self) -> None:
        BoundedProtocol.pauseProducing(self)
        self._channel.pauseProducing()

    def resumeProducing(self) -> None:
        BoundedProtocol.resumeProducing(self)
        self._channel.resumeProducing()

    def start_stream(self) -> None:
        """Keep the connection for an answer without an end, and notice when the client goes."""
        self._is_streaming = True
        self.wait(None)
        self.transport.resumeProducing()

    # What a channel asks of its transport.

    @property
    def disconnecting(self) -> bool:
        """Whether nothing more is answered."""
        return self.is_closing

    def write(self, data: bytes) -> None:
        """Write a part of an answer."""
        if not self.is_closing:
            self.transport.write(data)

    def writeSequence(self, data: Iterable[bytes]) -> None:
        """Write parts of an answer."""
        self.write(b"".join(data))

    def loseConnection(self) -> None:
        """Close once the answer is read."""
        self.close()

    def abortConnection(self) -> None:
        """Close at once."""
        self.transport.abortConnection()

    def getPeer(self) -> IAddress:
        """Give the address of the client."""
        return self.transport.getPeer()  # type: ignore[no-any-return]

    def getHost(self) -> IAddress:
        """Give our address."""
        return self.transport.getHost()  # type: ignore[no-any-return]
