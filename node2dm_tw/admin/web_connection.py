"""HTTP on one connection, within its limits: Twisted reads a request's head, never a body."""

from collections.abc import Iterable
from io import BytesIO
from typing import Any

from twisted.internet.interfaces import IAddress, ITCPTransport
from twisted.python.failure import Failure
from twisted.web import server
from twisted.web.http import HTTPChannel, Request

from node2dm_tw.admin.connections import BoundedProtocol, Connections

HEAD_SECONDS = 15.0
"""Seconds from the first byte of a request's head to its last."""

MAX_HEAD_BYTES = 16_384
"""Bytes of a request's head."""

MAX_HEADERS = 100
"""Headers of a request."""

MAX_LINE_BYTES = 2_048
"""Bytes of a request's first line: to take a long query apart takes milliseconds."""

TOO_LONG = b"HTTP/1.1 431 Head Too Long\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"


class ViewRequest(server.Request):
    """A request whose body, if there is one, is not read.

    Attributes:
        has_body: the head announces one.
    """

    has_body = False

    def gotLength(self, length: int | None) -> None:
        self.content = BytesIO()


class HeadChannel(HTTPChannel):
    """Answers each request once its head is read; one with a body is the last of its connection."""

    totalHeadersSize = MAX_HEAD_BYTES
    transport: Any  # a WebConnection

    def allHeadersReceived(self) -> None:
        request: Any = self.requests[-1]
        request.has_body = self.length != 0
        self.length = 0
        # Nobody is asked to go on and send a body.
        request.requestHeaders.removeHeader(b"Expect")
        HTTPChannel.allHeadersReceived(self)

    def checkPersistence(self, request: Any, version: bytes) -> bool:
        persists = HTTPChannel.checkPersistence(self, request, version) and not request.has_body
        if not persists:
            request.responseHeaders.setRawHeaders(b"Connection", [b"close"])
        return persists

    def requestDone(self, request: Request) -> None:
        HTTPChannel.requestDone(self, request)
        self.transport.finish_request()


class WebConnection(BoundedProtocol):
    """One connection: gives its channel one head at a time, and is the channel's transport."""

    MAX_REQUEST_BYTES = MAX_HEAD_BYTES

    def __init__(self, connections: Connections, channel: HeadChannel) -> None:
        """Let `channel` answer."""
        BoundedProtocol.__init__(self, connections)
        self._channel: Any = channel
        self._is_streaming = False

    def connectionMade(self) -> None:
        if ITCPTransport.providedBy(self.transport):
            self.transport.setTcpNoDelay(True)  # an event must not wait for the next one
        self._channel.makeConnection(self)
        BoundedProtocol.connectionMade(self)

    def connectionLost(self, reason: Failure) -> None:  # type: ignore[override]
        BoundedProtocol.connectionLost(self, reason)
        self._channel.connectionLost(reason)

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

    def refuse_long(self) -> None:
        self.write(TOO_LONG)
        self.close()

    def dataReceived(self, data: bytes) -> None:
        if self._is_streaming and not self.is_closing:
            self.abortConnection()  # there is nothing to say to a stream of events
        else:
            BoundedProtocol.dataReceived(self, data)

    def readConnectionLost(self) -> None:
        if self._is_streaming and not self.is_closing:
            self.abortConnection()
        else:
            BoundedProtocol.readConnectionLost(self)

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
