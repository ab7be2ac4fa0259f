"""Receives pushes by UDP."""

import ipaddress
import socket
import struct
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
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
from node2dm_tw.intake.signatures import SignatureVerifier

log = logger()

MAX_DATAGRAM = 65_536
"""Maximum length of a UDP datagram."""

DATAGRAM_OVERHEAD = 512
"""Minimum number of bytes of the buffer that the kernel charges for a datagram."""

MAX_BYTES_PER_WAKEUP = 131_072
"""Maximum number of bytes read in one turn of the reactor, so that sending keeps up."""

_SOURCES_REMEMBERED = 10_000
_SO_RCVBUFFORCE = 33  # Linux: exceeds net.core.rmem_max with CAP_NET_ADMIN; not in `socket`
_SO_MEMINFO = 55
_MEMINFO = struct.Struct("9I")

IPNetwork = ipaddress.IPv4Network | ipaddress.IPv6Network


def bind(host: str, port: int, rcvbuf: int, reuse_port: bool) -> socket.socket:
    """Open a UDP socket with a large receive buffer.

    Args:
        rcvbuf: requested size; the kernel grants more than net.core.rmem_max only to processes
            with CAP_NET_ADMIN.
        reuse_port: share the port with other processes; the kernel distributes the sources.

    Raises:
        CannotListenError: the port is in use, or the address does not belong to this machine.
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
    """Let `intake` read from `bound`. The returned port closes it."""
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
    """A transport whose protocol reads many datagrams each time the reactor calls.

    Twisted's own port passes them one by one, which costs as much as parsing them.

    Args:
        reactor: reads the socket.
        intake: the protocol.
        socket: non-blocking.
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
            raise  # the socket is unusable: the reactor logs the error and closes it
        except Exception:  # noqa: BLE001 - otherwise the reactor would close the socket
            log.failure("a datagram could not be handled")

    def stopListening(self) -> None:
        """Close the socket. Datagrams that were not read are lost."""
        if self.fileno() >= 0:
            self._reactor.removeReader(self)
            self._intake.doStop()  # type: ignore[no-untyped-call]
            self.socket.close()

    def connectionLost(self, reason: Failure) -> None:
        self.stopListening()


@attrs.define(eq=False)
class UDPIntake(DatagramProtocol):
    """Passes datagrams from allowed sources to the parser, if their signatures are right.

    Works with any datagram transport that has a `socket`; the one of `listen` is the fastest.

    Args:
        parser: reads the lines of datagrams.
        allow: the allowed networks.
        verifier: checks signatures if it has a key.
    """

    parser: LineParser
    allow: Sequence[IPNetwork]
    verifier: SignatureVerifier
    effective_rcvbuf: int = attrs.field(default=0, init=False)
    _socket: socket.socket | None = attrs.field(default=None, init=False)
    _dropped: int = attrs.field(default=0, init=False)
    _sources: dict[str, bool] = attrs.field(factory=dict, init=False)
    noisy = False

    def startProtocol(self) -> None:
        found = cast(HasSocket, self.transport).socket
        self._socket = found
        # Linux reports twice the usable size: it needs half for its own records.
        self.effective_rcvbuf = found.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) // 2

    def allow_only(self, allow: Sequence[IPNetwork]) -> None:
        """Accept only datagrams from these networks from now on."""
        self.allow = allow
        self._sources.clear()

    def read_batch(self) -> None:
        """Read the datagrams that wait in the kernel, as many as one turn of the reactor allows."""
        self._parse(self._receive(MAX_BYTES_PER_WAKEUP))

    def drain_socket(self) -> Deferred[None] | None:
        """Read the datagrams that wait in the kernel, at most a full buffer, before a stop.

        From now on the socket receives no more: it is connected to itself, so datagrams go to the
        processes that share its port, or are refused (ICMP). Otherwise those that come between the
        last read and the close would be lost.

        Returns:
            Fires when the queues have stored the pushes; None: they have already.
        """
        if self._socket is not None:
            with suppress(OSError):
                self._socket.connect(self._socket.getsockname())
        self._parse(self._receive(self.effective_rcvbuf))
        return self.parser.wait_for_puts()

    def _parse(self, datagrams: Iterable[tuple[bytes, Source]]) -> None:
        if self.verifier.key is not None:
            datagrams = self._verify(datagrams)
        self.parser.datagrams(datagrams)

    def _verify(self, datagrams: Iterable[tuple[bytes, Source]]) -> Iterator[tuple[bytes, Source]]:
        """Yield what was signed of datagrams; reject those whose signature is not right."""
        for datagram, source in datagrams:
            try:
                rest = self.verifier.verify(datagram)
            except InvalidPush as error:
                self.parser.reject(error, source, len(datagram))
            else:
                yield rest, source

    def _receive(self, most: int) -> Iterator[tuple[bytes, Source]]:
        """Read datagrams from the kernel; yield those of allowed sources, each with its source.

        Args:
            most: maximum number of bytes; it also limits datagrams, at `DATAGRAM_OVERHEAD` each.
        """
        if self._socket is None:
            return
        sources = self._sources
        latest = ""  # nearly all datagrams of one turn come from the same source
        several = repeat(MAX_DATAGRAM, most // DATAGRAM_OVERHEAD)
        try:
            for received in map(self._socket.recvfrom, several):
                datagram, addr = received
                host = addr[0]
                if host == latest or sources.get(host) or self._is_allowed(host):
                    latest = host
                    yield received
                else:
                    self._reject_source(datagram, addr)
                most -= len(datagram)
                if most <= 0:
                    return
        except (BlockingIOError, ConnectionRefusedError):
            return  # nothing is left to read

    @property
    def dropped(self) -> int:
        """Datagrams that the kernel dropped because the buffer was full (SO_MEMINFO)."""
        if self._socket is not None and self._socket.fileno() >= 0:
            info = self._socket.getsockopt(socket.SOL_SOCKET, _SO_MEMINFO, _MEMINFO.size)
            self._dropped = _MEMINFO.unpack(info)[8]
        return self._dropped

    def datagramReceived(self, datagram: bytes, addr: Source) -> None:
        if self._is_allowed(addr[0]):
            self._parse([(datagram, addr)])
        else:
            self._reject_source(datagram, addr)

    def _reject_source(self, datagram: bytes, addr: Source) -> None:
        self.parser.reject(InvalidPush("denied"), addr, len(datagram))

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
