"""A server of the tests: real sockets, TLS, and answers written byte by byte by a script."""

import attrs
from http_certificates import good
from twisted.internet import reactor
from twisted.internet.defer import Deferred, gatherResults, maybeDeferred
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.ssl import CertificateOptions
from twisted.protocols.tls import TLSMemoryBIOFactory
from zope.interface import directlyProvides, providedBy

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


@attrs.frozen
class Request:
    """One request as it came in: header names in lower case."""

    line: bytes
    headers: dict[bytes, bytes]
    body: bytes


class Connection(Protocol):
    """Collects requests, and hands each to the server's script."""

    def connectionMade(self):
        self.buffer = b""
        self.gone = Deferred()
        self.requests = 0
        self.factory.connections.append(self)
        if self.factory.greet is not None:
            self.factory.greet(self)

    def dataReceived(self, data):
        self.factory.received += data
        self.buffer += data
        while b"\r\n\r\n" in self.buffer:
            head, _, rest = self.buffer.partition(b"\r\n\r\n")
            line, *fields = head.split(b"\r\n")
            headers = {name.lower(): value for name, value in (f.split(b": ", 1) for f in fields)}
            length = int(headers.get(b"content-length", b"0"))
            if len(rest) < length:
                return
            self.buffer = rest[length:]
            self.requests += 1
            request = Request(line, headers, rest[:length])
            self.factory.requests.append(request)
            self.factory.script(self, request)

    def connectionLost(self, reason):
        self.gone.callback(None)

    def write(self, data):
        self.transport.write(data)

    def close(self):
        self.transport.loseConnection()

    def reset(self):
        self.transport.abortConnection()


class ScriptedServer(Factory):
    """Listens on a free port of 127.0.0.1; `script(connection, request)` answers each request.

    Attributes:
        received: every decrypted byte that came in.
        greet: called with each new connection, before any request.
    """

    protocol = Connection
    noisy = False

    def __init__(self, script, identity=None, *, tls=True):
        self.script = script
        self.greet = None
        self.received = b""
        self.requests = []
        self.connections = []
        factory = self
        if tls:
            identity = identity or good()
            options = CertificateOptions(
                privateKey=identity.key,
                certificate=identity.certificate,
                acceptableProtocols=[b"http/1.1"],
            )
            factory = TLSMemoryBIOFactory(options, isClient=False, wrappedFactory=self)
            factory.noisy = False
        self.scheme = "https" if tls else "http"
        self.port = reactor.listenTCP(0, factory, interface="127.0.0.1")

    @property
    def used(self):
        """The connections on which a request came."""
        return [connection for connection in self.connections if connection.requests]

    def url(self, host="localhost", path="/send"):
        return f"{self.scheme}://{host}:{self.port.getHost().port}{path}"

    def stop(self):
        for connection in self.connections:
            if not connection.gone.called:
                connection.reset()
        gone = [connection.gone for connection in self.connections]
        return gatherResults([maybeDeferred(self.port.stopListening), *gone])


class ClockedReactor:
    """The real reactor's network with the time of a `Clock`."""

    def __init__(self, clock):
        self._clock = clock
        directlyProvides(self, providedBy(reactor))

    def callLater(self, delay, function, *args, **kwargs):
        return self._clock.callLater(delay, function, *args, **kwargs)

    def seconds(self):
        return self._clock.seconds()

    def __getattr__(self, name):
        return getattr(reactor, name)


def always(answer):
    """A script that gives every request the same bytes."""
    return lambda connection, request: connection.write(answer)
