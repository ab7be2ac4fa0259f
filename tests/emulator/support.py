"""What the emulator's tests share: Google in memory, and its wire without sockets."""

from urllib.parse import urlencode

from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport

from node2dm_tw.emulator.google import Google
from node2dm_tw.emulator.messages import Answer, Call
from node2dm_tw.emulator.settings import EmulatorSettings
from node2dm_tw.emulator.wire import EmulatorFactory

SENDER = "sender@example.com"
NOW = 1_800_000_000.0


class World:
    """An emulator in memory, and whoever talks to it."""

    def __init__(self, state_dir="/nonexistent", **settings):
        self.now = NOW
        self.shown = []
        self.google = Google(
            EmulatorSettings(state_dir, **settings), lambda name: self.shown.append
        )

    def call(self, method, path, body=b"", headers=()):
        path, _, query = path.partition("?")
        call = Call(method, path, query.encode(), dict(headers), body)
        return self.google.answer(call, self.now).answer

    def login(self, email=SENDER, password="secret", **more):
        form = {"Email": email, "Passwd": password, "service": "ac2dm", "source": "a-b-1", **more}
        return self.call("POST", "/accounts/ClientLogin", urlencode(form).encode())

    def auth(self, email=SENDER):
        answer = self.login(email)
        assert answer.status == 200, answer
        return value(answer, "Auth")

    def send(self, token, **form):
        fields = {"registration_id": "demo-phone", "collapse_key": "greeting", "data.data": "hello"}
        fields.update({name.replace("__", "."): text for name, text in form.items()})
        body = urlencode({name: text for name, text in fields.items() if text is not None})
        headers = {b"authorization": b"GoogleLogin auth=" + token.encode()}
        return self.call("POST", "/c2dm/send", body.encode(), headers)


class Wire:
    """One connection to an emulator, with the bytes in hand."""

    def __init__(self, world):
        self.clock = Clock()
        self.factory = EmulatorFactory(self.clock, world.google, lambda: world.now)
        self.channel, self.transport = self.connect()

    def connect(self):
        channel = self.factory.buildProtocol(None)
        transport = Transport()
        transport.protocol = channel
        channel.makeConnection(transport)
        return channel, transport

    def ask(self, request):
        self.transport.clear()
        self.channel.dataReceived(request)
        return self.transport.value()


class Transport(StringTransport):
    """A transport that tells its protocol when it is closed."""

    protocol = None

    def loseConnection(self):
        self._lose()

    def abortConnection(self):
        self.aborting = True
        self._lose()

    def _lose(self):
        from twisted.internet.error import ConnectionDone
        from twisted.python.failure import Failure

        if not self.disconnecting:
            self.disconnecting = True
            self.protocol.connectionLost(Failure(ConnectionDone()))


def value(answer, name):
    """Read one line of a ClientLogin answer."""
    assert isinstance(answer, Answer)
    lines = dict(line.split("=", 1) for line in answer.body.decode().splitlines())
    return lines.get(name)


def request(method, path, body=b"", **headers):
    """Spell out an HTTP request."""
    lines = [f"{method} {path} HTTP/1.1", "Host: localhost"]
    lines += [f"{name.replace('_', '-')}: {text}" for name, text in headers.items()]
    if body:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode() + body
