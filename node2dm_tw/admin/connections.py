"""The limits of the views' listeners: connections, bytes unread, bytes unwritten, work a turn."""

import socket
import struct
from abc import abstractmethod
from collections import deque
from collections.abc import Callable
from typing import Any, ClassVar

import attrs
from twisted.internet.interfaces import (
    IDelayedCall,
    IHalfCloseableProtocol,
    IReactorTime,
    ISSLTransport,
)
from twisted.internet.protocol import Protocol
from twisted.python.failure import Failure
from zope.interface import implementer

from node2dm_tw.core.logs import logger

log = logger()

MAX_BUFFERED_BYTES = 4_096
"""Bytes that one read takes from a socket; with more than that unsent, nothing further is read."""

SEND_BUFFER_BYTES = 65_536
"""Bytes of answers that the kernel holds for a client that does not read; it doubles this."""

TURN_SECONDS = 0.002
"""Seconds of answering requests before the reactor looks at its sockets again."""

MAX_ABORTING = 32
"""Connections of a listener whose place is given away while their descriptors are still open."""

SILENT_SECONDS = 1.0
"""Seconds that a new connection has to ask something before others are of more use."""

IDLE_SECONDS = 60.0
"""Seconds without a request, or without reading an answer, after which a connection is closed."""

CLOSE_SECONDS = 15.0
"""Seconds for a client to read the last answer and close its side."""

MAX_DISCARDED_BYTES = 2 * 1024 * 1024
"""Bytes of what a client still sends, read and dropped, so that it gets to read the last answer."""

_PEER_WINDOW = struct.Struct("I")
_PEER_WINDOW_OFFSET = 228  # of tcpi_snd_wnd in Linux's struct tcp_info


@attrs.define(eq=False)
class Turns:
    """Spreads work over turns of the reactor, so that pushes go on between.

    Args:
        clock: the reactor.
    """

    clock: IReactorTime
    _waiting: deque[Callable[[], None]] = attrs.field(factory=deque, init=False)
    _is_due: bool = attrs.field(default=False, init=False)

    def add(self, work: Callable[[], None]) -> None:
        """Call `work`, which does not raise, in one of the next turns."""
        self._waiting.append(work)
        self._schedule()

    def _schedule(self) -> None:
        if self._waiting and not self._is_due:
            self._is_due = True
            self.clock.callLater(0, self._run)

    def _run(self) -> None:
        self._is_due = False
        end = self.clock.seconds() + TURN_SECONDS
        for _ in range(len(self._waiting)):
            self._waiting.popleft()()
            if self.clock.seconds() >= end:
                break
        self._schedule()


@attrs.define(eq=False)
class Connections:
    """The open connections of one listener. For one too many, the least useful gives way.

    That is one that has been silent since it opened, else the one whose last request is the oldest
    of those that are not busy.

    Args:
        turns: when requests are answered.
        maximum: connections open at once.
        max_descriptor: file descriptors from this number on are not for clients of the views.
    """

    turns: Turns
    maximum: int
    max_descriptor: int
    _unserved: dict["BoundedProtocol", float] = attrs.field(factory=dict, init=False)
    _served: dict["BoundedProtocol", None] = attrs.field(factory=dict, init=False)
    _aborting: int = attrs.field(default=0, init=False)
    _next_failure: float = attrs.field(default=float("-inf"), init=False)

    def __len__(self) -> int:
        return len(self._unserved) + len(self._served)

    @property
    def is_overrun(self) -> bool:
        """Whether so many connections come at once that a further one is closed unseen."""
        return self._aborting >= min(MAX_ABORTING, self.maximum)

    def add(self, connection: "BoundedProtocol", descriptor: int) -> None:
        """Take a new connection in."""
        if len(self) >= self.maximum or descriptor >= self.max_descriptor:
            given_up = self._least_useful() or connection
            self._forget(given_up)
            self._aborting += 1
            given_up.transport.abortConnection()
            if given_up is connection:
                return
        self._unserved[connection] = self.turns.clock.seconds()

    def _least_useful(self) -> "BoundedProtocol | None":
        oldest = next(iter(self._unserved.items()), None)
        if oldest is not None:
            connection, opened = oldest
            if not self._served or self.turns.clock.seconds() >= opened + SILENT_SECONDS:
                return connection
        idle = (connection for connection in self._served if not connection.is_busy)
        return next(idle, None) or next(iter(self._served), None)

    def mark_served(self, connection: "BoundedProtocol") -> None:
        """Take note that a connection is of use at this moment."""
        if connection in self._unserved or connection in self._served:
            self._forget(connection)
            self._served[connection] = None

    def remove(self, connection: "BoundedProtocol") -> None:
        """Forget a connection that is closed."""
        if connection in self._unserved or connection in self._served:
            self._forget(connection)
        else:
            self._aborting -= 1

    def _forget(self, connection: "BoundedProtocol") -> None:
        self._unserved.pop(connection, None)
        self._served.pop(connection, None)

    def log_failure(self, failure: Failure | None = None) -> None:
        """Log a failure, or the exception at hand; one a second, as clients may repeat it."""
        now = self.turns.clock.seconds()
        if now >= self._next_failure:
            self._next_failure = now + 1.0
            log.failure("a request could not be answered", failure)


@implementer(IHalfCloseableProtocol)
class BoundedProtocol(Protocol):
    """One connection of a client: one request at a time, each answered in a turn of its own.

    Until the answer is written nothing more is read. A subclass finds requests in the bytes that
    come and answers them; it calls `finish_request` when the answer is complete.
    """

    transport: Any
    MAX_REQUEST_BYTES: ClassVar[int]

    def __init__(self, connections: Connections) -> None:
        """Be one of `connections` while connected."""
        self.idle_seconds = IDLE_SECONDS
        self.is_at_end = False
        self.is_closing = False
        self.is_busy = False  # a client has sent what must not be lost
        self._connections = connections
        self._clock = connections.turns.clock
        self._unread = b""
        self._discarded = 0
        self._is_answering = False
        self._is_writable = True
        self._timer: IDelayedCall | None = None

    @abstractmethod
    def find_end(self, data: bytes) -> int:
        """Give the length of the request that `data` begins with; 0: it is not complete."""

    @abstractmethod
    def answer(self, request: bytes) -> None:
        """Answer a request."""

    @abstractmethod
    def refuse_long(self) -> None:
        """Tell the client that a request is longer than `MAX_REQUEST_BYTES`; close."""

    def on_request_begun(self) -> None:
        """Take note that the first bytes of a request have come."""

    def connectionMade(self) -> None:
        self.transport.bufferSize = MAX_BUFFERED_BYTES
        self.transport.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
        self.transport.registerProducer(self, True)
        self.wait(self.idle_seconds)
        self._connections.add(self, self.transport.fileno())

    def connectionLost(self, reason: Any = None) -> None:
        self.is_closing = True
        self._connections.remove(self)
        if self._timer is not None and self._timer.active():
            self._timer.cancel()

    def dataReceived(self, data: bytes) -> None:
        if self.is_closing:
            self._discarded += len(data)
            if self._discarded > MAX_DISCARDED_BYTES:
                self.transport.abortConnection()
            return
        is_first = not self._unread
        self._unread += data
        if is_first:
            self.on_request_begun()
        self._proceed()

    def readConnectionLost(self) -> None:
        """Answer what the client asked before it closed its side, then close ours."""
        self.is_at_end = True
        if self.is_closing:
            self.transport.loseConnection()
        self._proceed()

    def writeConnectionLost(self) -> None:
        pass  # that was us

    def pauseProducing(self) -> None:
        """Answer nothing more: the client does not read what is written."""
        self._is_writable = False

    def resumeProducing(self) -> None:
        """Go on: what was written is on its way."""
        self._is_writable = True
        if not self._is_answering:
            self.wait(self.idle_seconds)
        self._proceed()

    def stopProducing(self) -> None:
        pass  # `connectionLost` follows

    def _proceed(self) -> None:
        """Take up the next request, or read on."""
        if self.is_closing or self._is_answering or not self._is_writable:
            return
        end = self.find_end(self._unread)
        if (end or len(self._unread)) > self.MAX_REQUEST_BYTES:
            self.refuse_long()
        elif end:
            request, self._unread = self._unread[:end], self._unread[end:]
            self._is_answering = True
            self.transport.pauseProducing()
            self._connections.turns.add(lambda: self._take_turn(request))
        elif self.is_at_end:
            self.close()
        else:
            self.transport.resumeProducing()

    def _take_turn(self, request: bytes) -> None:
        if self.is_closing:
            return
        self.mark_served()
        try:
            self.answer(request)
        except Exception:  # noqa: BLE001 - one client's request must not end the turn
            self._connections.log_failure()
            self.transport.abortConnection()

    def finish_request(self) -> None:
        """Go on to the next request: this one is answered."""
        self._is_answering = False
        if not self.is_closing:
            self.wait(self.idle_seconds)
            if self._unread:
                self.on_request_begun()
            self._proceed()

    def mark_served(self) -> None:
        """Take note that the connection is of use at this moment."""
        self._connections.mark_served(self)

    def close(self) -> None:
        """Close once the answers are read; by force where nobody reads them or closes."""
        if self.is_closing:
            return
        self.is_closing = True
        self._unread = b""
        self.transport.unregisterProducer()
        self.wait(CLOSE_SECONDS)
        if self.is_at_end or ISSLTransport.providedBy(self.transport):
            self.transport.loseConnection()
        else:
            # To close with bytes unread would reset the connection, and the answer with it.
            self.transport.loseWriteConnection()
            self.transport.resumeProducing()

    def wait(self, seconds: float | None) -> None:
        """Close the connection after so many seconds, unless told otherwise; None: never."""
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._timer = None if seconds is None else self._clock.callLater(seconds, self._time_out)

    def _time_out(self) -> None:
        if self.is_closing:
            self.transport.abortConnection()
        else:
            self.close()

    @property
    def peer_window(self) -> int:
        """Bytes that the client's kernel would still take: it shrinks while a client reads nothing.

        0 where the kernel does not tell.
        """
        try:
            info = self.transport.socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 256)
            window: int = _PEER_WINDOW.unpack_from(info, _PEER_WINDOW_OFFSET)[0]
        except (OSError, struct.error):
            return 0
        return window
