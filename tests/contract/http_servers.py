"""A server of the tests: real sockets, TLS, and answers written byte by byte by a script."""

import attrs
from twisted.internet import reactor
from twisted.internet.defer import Deferred, gatherResults, maybeDeferred
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.ssl import CertificateOptions
from twisted.protocols.tls import TLSMemoryBIOFactory
from zope.interface import directlyProvides, providedBy

from tests.contract.http_certificates import good

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


DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY = 0, 1, 3, 4, 6, 7
END_STREAM, END_HEADERS, ACK = 1, 4, 1
MAX_CONCURRENT_STREAMS, INITIAL_WINDOW_SIZE = 3, 4
NO_ERROR, INTERNAL_ERROR, REFUSED_STREAM, ENHANCE_YOUR_CALM = 0, 2, 7, 11
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
STATUS_200 = b"\x88"  # An entry of HPACK's static table.


class HTTP2Connection(Connection):
    """As much of HTTP/2 (RFC 9113) as a script needs: `script(connection, stream number)`.

    Header blocks that come in are not decoded. A script hears of a request when its end is there,
    or with `initial_window` 0, when its header is.
    """

    def connectionMade(self):
        super().connectionMade()
        self.preface = len(PREFACE)
        settings = [*self.factory.settings, (INITIAL_WINDOW_SIZE, self.factory.initial_window)]
        pairs = (key.to_bytes(2, "big") + value.to_bytes(4, "big") for key, value in settings)
        self.frame(SETTINGS, 0, 0, b"".join(pairs))

    def frame(self, kind, flags, stream, payload=b""):
        head = len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big")
        self.write(head + payload)

    def begin(self, stream, fields=b""):
        self.frame(HEADERS, END_HEADERS, stream, STATUS_200 + fields)

    def answer(self, stream, body=b"ok"):
        self.begin(stream)
        self.frame(DATA, END_STREAM, stream, body)

    def refuse(self, stream, error=REFUSED_STREAM):
        self.frame(RST_STREAM, 0, stream, error.to_bytes(4, "big"))

    def go_away(self, last_stream, error=NO_ERROR):
        payload = last_stream.to_bytes(4, "big") + error.to_bytes(4, "big")
        self.frame(GOAWAY, 0, 0, payload)

    def dataReceived(self, data):
        self.factory.received += data
        skipped = min(self.preface, len(data))
        self.preface -= skipped
        self.buffer += data[skipped:]
        while len(self.buffer) >= 9:
            length = int.from_bytes(self.buffer[:3], "big")
            if len(self.buffer) < 9 + length:
                return
            kind, flags = self.buffer[3:5]
            stream = int.from_bytes(self.buffer[5:9], "big")
            self.buffer = self.buffer[9 + length :]
            self.frame_received(kind, flags, stream)

    def frame_received(self, kind, flags, stream):
        if kind == SETTINGS and not flags & ACK:
            self.frame(SETTINGS, ACK, 0)
        elif (kind in (HEADERS, DATA) and flags & END_STREAM) or (
            kind == HEADERS and not self.factory.initial_window
        ):
            self.requests += 1
            self.factory.script(self, stream)


class ScriptedServer(Factory):
    """Listens on a free port of 127.0.0.1; `script(connection, request)` answers each request.

    Attributes:
        received: every decrypted byte that came in.
        settings: HTTP/2's, as pairs of numbers; `initial_window` is one of them.
        greet: called with each new connection, before any request.
    """

    protocol = Connection
    noisy = False

    def __init__(self, script, identity=None, *, tls=True, http2=False, port=0, host="127.0.0.1"):
        self.script = script
        if http2:
            self.protocol = HTTP2Connection
        self.greet = None
        self.settings = ()
        self.initial_window = 65_535
        self.received = b""
        self.requests = []
        self.connections = []
        factory = self
        if tls:
            identity = identity or good()
            options = CertificateOptions(
                privateKey=identity.key,
                certificate=identity.certificate,
                acceptableProtocols=[b"h2" if http2 else b"http/1.1"],
            )
            factory = TLSMemoryBIOFactory(options, isClient=False, wrappedFactory=self)
            factory.noisy = False
        self.scheme = "https" if tls else "http"
        self.port = reactor.listenTCP(port, factory, interface=host)

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
