"""Pushes by UDP."""

import ipaddress
import socket
import struct
from collections.abc import Iterator, Sequence
from itertools import repeat
from typing import Protocol, cast

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IReactorFDSet, IReadDescriptor
from twisted.internet.protocol import DatagramProtocol
from twisted.python.failure import Failure
from zope.interface import implementer

from node2dm_tw.core.logs import logger
from node2dm_tw.core.push import InvalidPush
from node2dm_tw.intake.parser import LineParser, Source

log = logger()

MAX_DATAGRAM = 65_536
"""Bytes; no UDP datagram is longer."""

DATAGRAM_OVERHEAD = 512
"""Bytes that the kernel charges to the buffer for a datagram, at the least."""

MAX_BYTES_PER_WAKEUP = 131_072
"""Bytes read before the reactor gets its turn, so that sending keeps up with intake."""

_SOURCES_REMEMBERED = 10_000
_SO_RCVBUFFORCE = 33  # Linux: beyond net.core.rmem_max, for those permitted; not in `socket`
_SO_MEMINFO = 55
_MEMINFO = struct.Struct("9I")

IPNetwork = ipaddress.IPv4Network | ipaddress.IPv6Network


def bind(host: str, port: int, rcvbuf: int, reuse_port: bool) -> socket.socket:
    """Open a UDP socket with a large receive buffer.

    Args:
        rcvbuf: bytes to ask for; the kernel grants more than net.core.rmem_max only to processes
            with CAP_NET_ADMIN.
        reuse_port: share the port with other processes that do; the kernel spreads sources.

    Raises:
        CannotListenError: the port is taken, or the address is none of this machine's.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    found = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
    try:
        found.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, rcvbuf)
    except OSError:
        found.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, rcvbuf)
    try:
        if reuse_port:
            found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        found.bind((host, port))
    except OSError as error:
        found.close()
        raise CannotListenError(host, port, error) from error
    return found


def listen(reactor: IReactorFDSet, intake: "UDPIntake", bound: socket.socket) -> "BatchingUDPPort":
    """Have `intake` read from `bound`, which is closed with what this returns."""
    port = BatchingUDPPort(reactor, intake, bound)
    intake.makeConnection(port)  # type: ignore[arg-type]  # it has the socket that is needed
    reactor.addReader(port)
    return port


class HasSocket(Protocol):
    """What a `UDPIntake` needs of its transport."""

    socket: socket.socket


@implementer(IReadDescriptor)
@attrs.define(eq=False)
class BatchingUDPPort:
    """A transport whose protocol reads by itself, many datagrams each time the reactor calls.

    Twisted's own port hands over one by one, which costs as much as to make each a push.

    Args:
        reactor: reads the socket.
        intake: the protocol.
        socket: does not block.
    """

    _reactor: IReactorFDSet
    _intake: "UDPIntake"
    socket: socket.socket

    def fileno(self) -> int:
        return self.socket.fileno()

    def logPrefix(self) -> str:
        return type(self._intake).__name__

    def doRead(self) -> None:
        try:
            self._intake.read_batch()
        except OSError:
            raise  # the socket is of no use any more: the reactor logs it and closes it
        except Exception:  # noqa: BLE001 - for a fault of ours the reactor would close it too
            log.failure("a datagram could not be handled")

    def stopListening(self) -> None:
        """Close the socket, and lose what the kernel still holds."""
        if self.fileno() >= 0:
            self._reactor.removeReader(self)
            self._intake.doStop()  # type: ignore[no-untyped-call]
            self.socket.close()

    def connectionLost(self, reason: Failure) -> None:
        self.stopListening()


@attrs.define(eq=False)
class UDPIntake(DatagramProtocol):
    """Hands datagrams on, if their source is allowed.

    Works on any datagram transport that has a `socket`; `listen` is the one that costs least.

    Args:
        parser: reads their lines.
        allow: networks whose datagrams are read.
    """

    parser: LineParser
    allow: Sequence[IPNetwork]
    effective_rcvbuf: int = attrs.field(default=0, init=False)
    _socket: socket.socket | None = attrs.field(default=None, init=False)
    _dropped: int = attrs.field(default=0, init=False)
    _sources: dict[str, bool] = attrs.field(factory=dict, init=False)
    noisy = False

    def startProtocol(self) -> None:
        found = cast(HasSocket, self.transport).socket
        self._socket = found
        # Linux reports the double of what may be used: it keeps half for its own records.
        self.effective_rcvbuf = found.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) // 2

    def allow_only(self, allow: Sequence[IPNetwork]) -> None:
        """Read datagrams from these networks alone, from now on."""
        self.allow = allow
        self._sources.clear()

    def read_batch(self) -> None:
        """Read what waits in the kernel, and leave the rest to the next turn of the reactor."""
        self.parser.datagrams(self._receive(MAX_BYTES_PER_WAKEUP))

    def drain_socket(self) -> Deferred[None] | None:
        """Read what the kernel still holds, at most a buffer full, before the port is closed.

        Returns:
            Fires when the queues keep what was read; None: they do.
        """
        self.parser.datagrams(self._receive(self.effective_rcvbuf))
        return self.parser.wait_for_puts()

    def _receive(self, most: int) -> Iterator[tuple[bytes, Source]]:
        """Take datagrams from the kernel; yield those of allowed sources, each with its source.

        Args:
            most: bytes, and a datagram for each overhead that they would be.
        """
        if self._socket is None:
            return
        sources = self._sources
        latest = ""  # nearly all datagrams of one wake-up come from one source
        several = repeat(MAX_DATAGRAM, most // DATAGRAM_OVERHEAD)
        try:
            for received in map(self._socket.recvfrom, several):
                datagram, addr = received
                host = addr[0]
                if host == latest or sources.get(host) or self._is_allowed(host):
                    latest = host
                    yield received
                else:
                    self._refuse_source(datagram, addr)
                most -= len(datagram)
                if most <= 0:
                    return
        except (BlockingIOError, ConnectionRefusedError):
            return  # there is no more

    @property
    def dropped(self) -> int:
        """Datagrams that the kernel threw away because our buffer was full (SO_MEMINFO)."""
        if self._socket is not None and self._socket.fileno() >= 0:
            info = self._socket.getsockopt(socket.SOL_SOCKET, _SO_MEMINFO, _MEMINFO.size)
            self._dropped = _MEMINFO.unpack(info)[8]
        return self._dropped

    def datagramReceived(self, datagram: bytes, addr: Source) -> None:
        if self._is_allowed(addr[0]):
            self.parser.datagram(datagram, addr)
        else:
            self._refuse_source(datagram, addr)

    def _refuse_source(self, datagram: bytes, addr: Source) -> None:
        self.parser.refuse(InvalidPush("source"), addr, len(datagram))

    def _is_allowed(self, host: str) -> bool:
        allowed = self._sources.get(host)
        if allowed is None:
            address = ipaddress.ip_address(host.partition("%")[0])
            mapped = getattr(address, "ipv4_mapped", None)
            allowed = any((mapped or address) in network for network in self.allow)
            if len(self._sources) >= _SOURCES_REMEMBERED:
                self._sources.clear()
            self._sources[host] = allowed
        return allowed
