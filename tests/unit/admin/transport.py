"""A TCP connection in memory, as the views' listeners get one, whose client reads when told to."""

import struct
from typing import Any

from twisted.internet.interfaces import ITCPTransport
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from zope.interface import implementer

from node2dm_tw.admin.connections import Connections, Turns


class ClientSocket:
    """The socket of a connection: knows its options, and how much its client's kernel takes."""

    def __init__(self) -> None:
        self.options: dict[tuple[int, int], int] = {}
        self.window = 65_536

    def setsockopt(self, level: int, option: int, value: int) -> None:
        self.options[level, option] = value

    def getsockopt(self, level: int, option: int, size: int) -> bytes:
        return struct.pack("228xI", self.window)


@implementer(ITCPTransport)
class ClientTransport(StringTransport):
    """A connection. While its client reads nothing, what exceeds `bufferSize` pauses the producer.

    Args:
        descriptor: its file descriptor's number.
    """

    bufferSize = 65_536

    def __init__(self, descriptor: int = 10) -> None:
        StringTransport.__init__(self, lenient=True)
        self.socket = ClientSocket()
        self.descriptor = descriptor
        self.is_read = True
        self.has_half_closed = False
        self._unsent = 0

    def fileno(self) -> int:
        return self.descriptor

    def setTcpNoDelay(self, enabled: bool) -> None:
        pass

    def getTcpNoDelay(self) -> bool:
        return True

    def setTcpKeepAlive(self, enabled: bool) -> None:
        pass

    def getTcpKeepAlive(self) -> bool:
        return False

    def write(self, data: bytes) -> None:
        StringTransport.write(self, data)
        self._unsent += 0 if self.is_read else len(data)
        if self._unsent > self.bufferSize and self.producer is not None:
            self.producer.pauseProducing()

    def read_again(self) -> None:
        """The client reads all that it was sent."""
        self.is_read, self._unsent = True, 0
        if self.producer is not None:
            self.producer.resumeProducing()

    def loseWriteConnection(self) -> None:
        self.has_half_closed = True

    @property
    def is_closed(self) -> bool:
        """Whether the client sees an end."""
        return bool(self.has_half_closed or self.disconnecting)

    @property
    def is_reading(self) -> bool:
        """Whether what the client sends is read."""
        return self.producerState == "producing" and not self.disconnecting


def make_connections(clock: Clock, maximum: int = 64, max_descriptor: int = 1_000) -> Connections:
    """The connections of a listener of its own."""
    return Connections(Turns(clock), maximum, max_descriptor)


def connect(factory: Any, descriptor: int = 10) -> Any:
    """A new connection's protocol; None where it is closed unseen."""
    protocol = factory.buildProtocol(None)
    if protocol is not None:
        protocol.makeConnection(ClientTransport(descriptor))
    return protocol
