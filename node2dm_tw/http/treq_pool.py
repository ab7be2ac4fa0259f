"""The connections of the treq client, which are used only after the server is verified."""

from collections.abc import Hashable
from typing import Protocol, cast

from OpenSSL import SSL
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.endpoints import wrapClientTLS
from twisted.internet.interfaces import (
    IHandshakeListener,
    IProtocol,
    IProtocolFactory,
    IReactorPluggableNameResolver,
    IReactorTCP,
    IReactorTime,
    IStreamClientEndpoint,
)
from twisted.protocols.policies import ProtocolWrapper, WrappingFactory
from twisted.python.failure import Failure
from twisted.web.client import URI, HTTP11ClientProtocol, HTTPConnectionPool  # type: ignore[attr-defined]
from twisted.web.error import SchemeNotSupported
from twisted.web.iweb import IAgentEndpointFactory
from zope.interface import implementer

from node2dm_tw.http.interface import CertificateRefused
from node2dm_tw.http.limits import IDLE_TIMEOUT
from node2dm_tw.http.sockets import seconds_silent, set_user_timeout
from node2dm_tw.http.tls import VerifiedTLS, verify_name
from node2dm_tw.http.treq_hosts import PlainHostEndpoint
from node2dm_tw.http.treq_request import TreqRequest


class ITCPReactor(IReactorTime, IReactorTCP, IReactorPluggableNameResolver):
    """The reactor interfaces that connections to hosts need."""


class GuardedTransport(Protocol):
    """The methods of a transport, plain or TLS, that a `ConnectionGuard` needs."""

    def fileno(self) -> int: ...
    def getHandle(self) -> SSL.Connection: ...
    def loseConnection(self) -> None: ...
    def stopProducing(self) -> None: ...


@implementer(IHandshakeListener)
class ConnectionGuard(ProtocolWrapper):
    """A protocol between a transport and Twisted's HTTP protocol.

    It allows requests only after the handshake, when the name is verified, and passes received
    bytes through the request that waits for them.

    Attributes:
        ready: fires with the HTTP protocol when requests may be sent.
        closed: fires when the connection is lost.
    """

    def __init__(self, factory: "GuardFactory", wrapped: IProtocol) -> None:
        super().__init__(factory, wrapped)
        self.ready: Deferred[IProtocol] = Deferred(lambda _: self.abortConnection())
        self.closed: Deferred[None] = Deferred()
        self.wrappedProtocol: IProtocol = wrapped
        self.transport: GuardedTransport  # type: ignore[assignment]
        self._pool = factory.pool
        self._host = factory.host
        self._request: TreqRequest | None = None

    def connectionMade(self) -> None:
        self._pool.guards.add(self)
        set_user_timeout(self.transport.fileno(), self._pool.timeout)
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

    def expect(self, request: TreqRequest) -> None:
        """Pass the next answer to `request`."""
        self._request = request

    def seconds_silent(self) -> float:
        """Return the seconds since data last arrived."""
        return seconds_silent(self.transport.fileno())

    def dataReceived(self, data: bytes) -> None:
        request = self._request
        if request is None or request.is_done:
            self.loseConnection()  # No request waits for this data.
        elif passed := request.filter(data):
            self.wrappedProtocol.dataReceived(passed)

    def loseConnection(self) -> None:
        """Send close_notify, and close without waiting for the server's."""
        self.transport.loseConnection()
        self.transport.stopProducing()

    def connectionLost(self, reason: Failure) -> None:  # type: ignore[override]
        self._pool.guards.discard(self)
        super().connectionLost(reason)  # type: ignore[no-untyped-call]
        if not self.ready.called:
            self.ready.errback(reason)
        self.closed.callback(None)


class GuardFactory(WrappingFactory[ConnectionGuard]):
    """Wraps every protocol of one request's endpoint in a `ConnectionGuard`.

    Args:
        wrapped: the pool's factory of HTTP protocols.
        pool: stores the guards.
        host: the name to verify; None: no TLS.
    """

    protocol = ConnectionGuard
    noisy = False

    def __init__(self, wrapped: IProtocolFactory, pool: "RequestPool", host: str | None) -> None:
        super().__init__(wrapped)  # type: ignore[no-untyped-call]
        self.pool = pool
        self.host = host


class RequestPool(HTTPConnectionPool):
    """Keeps idle connections, passes each guard its request, and closes all at the end.

    Args:
        reactor: the reactor for Twisted's pool.
        connections: maximum number of idle connections to one server.
        timeout: seconds for connecting and the handshake, and until sent data is acknowledged.

    Attributes:
        guards: all open connections.
        handshakes: connections opened so far.
    """

    def __init__(self, reactor: IReactorTime, connections: int, timeout: float) -> None:
        super().__init__(reactor, persistent=True)  # type: ignore[no-untyped-call]
        self.timeout = timeout
        self.retryAutomatically = False
        self.cachedConnectionTimeout = IDLE_TIMEOUT
        self.maxPersistentPerHost = connections
        self.guards: set[ConnectionGuard] = set()
        self.handshakes = 0

    def getConnection(
        self, key: Hashable, endpoint: IStreamClientEndpoint
    ) -> Deferred[HTTP11ClientProtocol]:
        assert isinstance(endpoint, _Endpoint)

        def attach(connection: HTTP11ClientProtocol) -> HTTP11ClientProtocol:
            endpoint.request.reused = not endpoint.connected
            cast(ConnectionGuard, connection.transport).expect(endpoint.request)
            return connection

        return super().getConnection(key, endpoint).addCallback(attach)

    def close_silent(self, seconds: float) -> None:
        """Close idle connections that received nothing for `seconds`."""
        for key, idle in self._connections.items():
            for connection in [c for c in idle if c.transport.seconds_silent() >= seconds]:
                self._timeouts[connection].cancel()
                self._removeConnection(key, connection)  # type: ignore[no-untyped-call]

    def close(self) -> Deferred[None]:
        """Close all connections; the Deferred fires when the last one is closed."""
        closed = [guard.closed for guard in self.guards]
        closed.append(self.closeCachedConnections())  # type: ignore[no-untyped-call]
        for guard in list(self.guards):
            guard.abortConnection()
        return gatherResults(closed).addCallback(lambda _: None)


@implementer(IStreamClientEndpoint)
class _Endpoint:
    """Connects for one request, and records whether it connected."""

    def __init__(
        self, request: TreqRequest, endpoint: IStreamClientEndpoint, pool: RequestPool, uri: URI
    ) -> None:
        self.request = request
        self.connected = False
        self._endpoint = endpoint
        self._pool = pool
        self._host = uri.host.decode("ascii") if uri.scheme == b"https" else None

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        self.connected = True
        protocolFactory.noisy = False  # type: ignore[attr-defined]
        guards = GuardFactory(protocolFactory, self._pool, self._host)
        connected = self._endpoint.connect(guards)
        return connected.addCallback(lambda guard: cast(ConnectionGuard, guard).ready)


@implementer(IAgentEndpointFactory)
class RequestEndpoints:
    """Makes the endpoint of one request.

    Args:
        reactor: provides TCP, name resolution and time.
        request: the request.
        pool: keeps the connection.
        tls: verifies servers.
    """

    def __init__(
        self,
        reactor: ITCPReactor,
        request: TreqRequest,
        pool: RequestPool,
        tls: VerifiedTLS,
    ) -> None:
        self._reactor = reactor
        self._request = request
        self._pool = pool
        self._tls = tls

    def endpointForURI(self, uri: URI) -> _Endpoint:
        if uri.scheme not in {b"http", b"https"}:
            raise SchemeNotSupported(f"Unsupported scheme: {uri.scheme!r}")
        host = uri.host.decode("ascii")
        timeout = self._pool.timeout
        endpoint: IStreamClientEndpoint = PlainHostEndpoint(
            self._reactor, host, uri.port, timeout=timeout
        )
        if uri.scheme == b"https":
            endpoint = wrapClientTLS(self._tls.creatorForNetloc(uri.host, uri.port), endpoint)
        return _Endpoint(self._request, endpoint, self._pool, uri)
