"""What the emulator's tests share: the emulator in memory, and connections without sockets."""

import json
from urllib.parse import urlencode

import jwt
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from twisted.internet.error import ConnectionDone
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure

from node2dm_tw.emulator.google.emulator import GoogleEmulator
from node2dm_tw.emulator.google.messages import IncomingRequest, Reply
from node2dm_tw.emulator.google.oauth import GRANT_TYPE, ServiceAccount
from node2dm_tw.emulator.server.wire import EmulatorFactory
from node2dm_tw.emulator.settings import PROJECT, EmulatorSettings

SENDER = "sender@example.com"
NOW = 1_800_000_000.0


class World:
    """An emulator in memory, and requests to it."""

    def __init__(self, state_dir="/nonexistent", on_tokens=lambda: None, **settings):
        self.now = NOW
        self.shown = []
        self.google = GoogleEmulator(
            EmulatorSettings(state_dir, **settings), lambda name: self.shown.append, on_tokens
        )

    def call(self, method, path, body=b"", headers=()):
        path, _, query = path.partition("?")
        request = IncomingRequest(method, path, query.encode(), dict(headers), body)
        return self.google.answer(request, self.now).reply

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
    """One connection to an emulator, over a transport in memory."""

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
        if not self.disconnecting:
            self.disconnecting = True
            self.protocol.connectionLost(Failure(ConnectionDone()))


def value(answer, name):
    """Read one line of a ClientLogin answer."""
    assert isinstance(answer, Reply)
    lines = dict(line.split("=", 1) for line in answer.body.decode().splitlines())
    return lines.get(name)


def request(method, path, body=b"", **headers):
    """Spell out an HTTP request."""
    lines = [f"{method} {path} HTTP/1.1", "Host: localhost"]
    lines += [f"{name.replace('_', '-')}: {text}" for name, text in headers.items()]
    if body:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode() + body


PEM = rsa.generate_private_key(public_exponent=65537, key_size=2048)
KEY = PEM.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
PUBLIC_KEY = PEM.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
ACCOUNT = ServiceAccount("robot@example.com", PROJECT, "https://127.0.0.1:8443/token", PUBLIC_KEY)
MESSAGING = "https://www.googleapis.com/auth/firebase.messaging"


def claims(**changed):
    """The claims of a good assertion, made at `NOW`."""
    made = {
        "iss": ACCOUNT.client_email,
        "scope": MESSAGING,
        "aud": ACCOUNT.token_uri,
        "iat": int(NOW),
        "exp": int(NOW) + 3600,
        **changed,
    }
    return {name: value for name, value in made.items() if value is not None}


class Firebase(World):
    """A world whose sender has signed in to FCM."""

    def __init__(self, **settings):
        super().__init__(**settings)
        self.google.oauth.account = ACCOUNT
        answer = self.sign_in()
        assert answer.status == 200, answer.body
        self.token = json.loads(answer.body)["access_token"]

    def sign_in(self, *, key=KEY, algorithm="RS256", grant_type=GRANT_TYPE, **changed):
        self.assertion = jwt.encode(claims(**changed), key, algorithm=algorithm)
        form = {"grant_type": grant_type, "assertion": self.assertion}
        return self.call("POST", "/token", urlencode(form).encode())

    def post(self, content, *, project=PROJECT, token=None):
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        header = f"Bearer {self.token if token is None else token}".encode()
        path = f"/v1/projects/{project}/messages:send"
        return self.call("POST", path, body, {b"authorization": header})

    def push(self, **message):
        return self.post({"message": {"token": "demo-phone", **message}})
