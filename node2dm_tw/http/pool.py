"""The connections of the treq client: opened once verified, watched while a header comes in."""

import re
from collections.abc import Hashable
from typing import Any, cast

from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.endpoints import wrapClientTLS
from twisted.internet.interfaces import (
    IHandshakeListener,
    IProtocol,
    IProtocolFactory,
    IReactorTime,
    IStreamClientEndpoint,
)
from twisted.protocols.policies import ProtocolWrapper, WrappingFactory
from twisted.python.failure import Failure
from twisted.web.client import URI, HTTPConnectionPool
from twisted.web.error import SchemeNotSupported
from twisted.web.iweb import IAgentEndpointFactory
from zope.interface import implementer

from node2dm_tw.http.exchange import Exchange
from node2dm_tw.http.head import parse_status
from node2dm_tw.http.hosts import PlainHostEndpoint
from node2dm_tw.http.interface import MAX_RESPONSE, CertificateRefused
from node2dm_tw.http.limits import IDLE_TIMEOUT
from node2dm_tw.http.tls import VerifiedTLS, verify_name

MAX_LINE = 16384
"""Bytes of one header line; Twisted's parser gives up beyond it, so the gate cuts there."""

_BLANK_LINE = re.compile(rb"\r?\n\r?\n")


@implementer(IHandshakeListener)
class Gate(ProtocolWrapper):
    """Stands between a transport and Twisted's HTTP protocol, as a watchman.

    It opens when the handshake is done and the name is verified: nothing is written before. While
    the header of an answer comes in it holds the bytes, so that too long a one ends here.

    Attributes:
        ready: fires with the HTTP protocol once requests may be sent.
        gone: fires when the connection is lost.
    """

    def __init__(self, factory: "GateFactory", wrapped: IProtocol) -> None:
        super().__init__(factory, wrapped)
        self.ready: Deferred[IProtocol] = Deferred(lambda _: self.abortConnection())
        self.gone: Deferred[None] = Deferred()
        self.wrappedProtocol: Any = wrapped
        self.transport: Any = None
        self._pool = factory.pool
        self._host = factory.host
        self._exchange: Exchange | None = None
        self._head: bytearray | None = None
        self._heads = 0

    def connectionMade(self) -> None:
        self._pool.gates.add(self)
        if self._host is None:
            self._open()

    def handshakeCompleted(self) -> None:
        assert self._host is not None
        try:
            verify_name(self.transport.getHandle(), self._host)
        except CertificateRefused as refusal:
            self.abortConnection()
            self.ready.errback(refusal)
        else:
            self._open()

    def _open(self) -> None:
        self._pool.handshakes += 1
        self.ready.callback(self.wrappedProtocol)

    def serve(self, exchange: Exchange) -> None:
        """Expect the answer of `exchange` next."""
        self._exchange = exchange
        self._head = bytearray()
        self._heads = 0

    def dataReceived(self, data: bytes) -> None:
        exchange = self._exchange
        if exchange is None or exchange.settled:
            self.loseConnection()  # Nobody asked.
            return
        exchange.answered = True
        if self._head is None:
            self.wrappedProtocol.dataReceived(data)
        else:
            self._collect(exchange, data)

    def _collect(self, exchange: Exchange, data: bytes) -> None:
        head = self._head
        assert head is not None
        searched = max(0, len(head) - 3)
        head += data
        if not head.startswith(b"HTTP/"[: len(head)]):
            exchange.give_up("the answer is not HTTP")
            return
        while blank := _BLANK_LINE.search(head, searched):
            end, searched = blank.end(), 0
            if self._heads + end > MAX_RESPONSE or _longest_line(head[:end]) > MAX_LINE:
                exchange.cut_head(bytes(head[:end][:MAX_RESPONSE]))
                return
            block, self._heads = bytes(head[:end]), self._heads + end
            del head[:end]
            if not 100 <= (parse_status(block.partition(b"\n")[0]) or 0) < 200:
                self._head = None
                self.wrappedProtocol.dataReceived(block + head)
                return
            self.wrappedProtocol.dataReceived(block)
        if self._heads + len(head) > MAX_RESPONSE:
            exchange.cut_head(bytes(head[:MAX_RESPONSE]))

    def loseConnection(self) -> None:
        """Say goodbye, and close without waiting for the other side's."""
        self.transport.loseConnection()
        self.transport.stopProducing()

    def connectionLost(self, reason: Failure) -> None:  # type: ignore[override]
        self._pool.gates.discard(self)
        cast(Any, super()).connectionLost(reason)
        if not self.ready.called:
            self.ready.errback(reason)
        self.gone.callback(None)


def _longest_line(head: bytearray) -> int:
    return max(len(line) for line in head.split(b"\n"))


class GateFactory(WrappingFactory[Gate]):
    """Puts a `Gate` round every protocol of one request's endpoint.

    Args:
        wrapped: the pool's factory of HTTP protocols.
        pool: where the gates are kept.
        host: the name to verify; None means there is no TLS.
    """

    protocol = Gate
    noisy = False

    def __init__(self, wrapped: IProtocolFactory, pool: "ExchangePool", host: str | None) -> None:
        cast(Any, super()).__init__(wrapped)
        self.pool = pool
        self.host = host


class ExchangePool(HTTPConnectionPool):
    """Keeps idle connections, tells each exchange's gate of them, closes everything at the end.

    Args:
        reactor: the reactor, as Twisted's pool wants it.
        connections: how many idle connections to one server are kept.

    Attributes:
        gates: every open connection.
        handshakes: connections opened so far.
    """

    def __init__(self, reactor: IReactorTime, connections: int) -> None:
        cast(Any, super()).__init__(reactor, persistent=True)
        self.retryAutomatically = False
        self.cachedConnectionTimeout = IDLE_TIMEOUT
        self.maxPersistentPerHost = connections
        self.gates: set[Gate] = set()
        self.handshakes = 0

    def getConnection(self, key: Hashable, endpoint: Any) -> Deferred[Any]:
        def attach(connection: Any) -> Any:
            endpoint.exchange.reused = not endpoint.connected
            connection.transport.serve(endpoint.exchange)
            return connection

        return super().getConnection(key, endpoint).addCallback(attach)

    def close(self) -> Deferred[None]:
        """Close idle and active connections; fires when the last one is gone."""
        gone = [gate.gone for gate in self.gates]
        gone.append(cast(Any, self).closeCachedConnections())
        for gate in list(self.gates):
            gate.abortConnection()
        return gatherResults(gone).addCallback(lambda _: None)


@implementer(IStreamClientEndpoint)
class _Endpoint:
    """Connects for one exchange, and remembers whether it was asked to."""

    def __init__(
        self, exchange: Exchange, endpoint: IStreamClientEndpoint, pool: ExchangePool, uri: URI
    ) -> None:
        self.exchange = exchange
        self.connected = False
        self._endpoint = endpoint
        self._pool = pool
        self._host = uri.host.decode("ascii") if uri.scheme == b"https" else None

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        self.connected = True
        protocolFactory.noisy = False  # type: ignore[attr-defined]
        gates = GateFactory(protocolFactory, self._pool, self._host)
        connected: Deferred[Any] = self._endpoint.connect(gates)
        return connected.addCallback(lambda gate: gate.ready)


@implementer(IAgentEndpointFactory)
class ExchangeEndpoints:
    """Makes the endpoint of one exchange.

    Args:
        reactor: provides TCP, name resolution and time.
        exchange: whose request it is.
        pool: keeps the connection.
        tls: which servers to trust.
        timeout: seconds to connect and shake hands.
    """

    def __init__(
        self,
        reactor: Any,
        exchange: Exchange,
        pool: ExchangePool,
        tls: VerifiedTLS,
        timeout: float,
    ) -> None:
        self._reactor = reactor
        self._exchange = exchange
        self._pool = pool
        self._tls = tls
        self._timeout = timeout

    def endpointForURI(self, uri: URI) -> _Endpoint:
        if uri.scheme not in {b"http", b"https"}:
            raise SchemeNotSupported(f"Unsupported scheme: {uri.scheme!r}")
        host = uri.host.decode("ascii")
        endpoint: Any = PlainHostEndpoint(self._reactor, host, uri.port, timeout=self._timeout)
        if uri.scheme == b"https":
            endpoint = wrapClientTLS(self._tls.creatorForNetloc(uri.host, uri.port), endpoint)
        return _Endpoint(self._exchange, endpoint, self._pool, uri)
