"""A whole gateway in this process: real files and a real UDP socket, in a network in memory."""

import gc
import json
import signal
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
from twisted.application.service import Application
from twisted.internet._resolver import HostResolution
from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import (
    IHostnameResolver,
    IReactorFromThreads,
    IReactorPluggableNameResolver,
)
from twisted.internet.testing import MemoryReactorClock, StringTransport
from twisted.logger import LogEvent, formatEvent, globalLogPublisher
from twisted.python.failure import Failure
from zope.interface import implementer

from node2dm_tw.admin.lines import make_lines
from node2dm_tw.app.hangups import HangUps
from node2dm_tw.app.options import Options
from node2dm_tw.app.parts import Parts
from node2dm_tw.app.route import Route
from node2dm_tw.app.runtime import Runtime
from node2dm_tw.app.service import GatewayService
from node2dm_tw.core.logs import set_level
from tests.support.doubles import WALL
from tests.unit.admin.transport import ClientTransport
from tests.unit.providers.keys import CONTENT

SIGNALS = (signal.SIGHUP, signal.SIGTERM, signal.SIGINT)

Answer = bytes | tuple[int, bytes]
"""A body, or a status and a body."""

ACCOUNT = """\
[c2dm]
username = sender@example.com
password = secret-word
login_url = http://google.test/login
send_url = http://google.test/send
"""


@implementer(IHostnameResolver)
class Resolver:
    """Knows every name."""

    def resolveHostName(
        self, receiver, hostName, portNumber=0, addressTypes=None, transportSemantics="TCP"
    ):
        resolution = HostResolution(hostName)
        receiver.resolutionBegan(resolution)
        receiver.addressResolved(IPv4Address("TCP", "127.0.0.1", portNumber))
        receiver.resolutionComplete()
        return resolution


@implementer(IReactorFromThreads, IReactorPluggableNameResolver)
class MemoryNetwork(MemoryReactorClock):
    """A reactor whose HTTP connections are answered by `answer`, and whose ports are memory.

    Args:
        answer: gives the answer to a path and a body; None: there will be none.
    """

    def __init__(self, answer: Callable[[bytes, bytes], Answer | None]) -> None:
        super().__init__()
        self.nameResolver = Resolver()
        self.answer = answer
        self.connections: list[tuple[Any, StringTransport]] = []

    def callFromThread(self, call, *arguments, **named):
        self.callLater(0, call, *arguments, **named)

    def start(self) -> None:
        """Begin to run, as a reactor does once twistd has started the services."""
        self.running = self.hasRun = True
        for call, arguments, named in self.whenRunningHooks:
            call(*arguments, **named)

    def turn(self, seconds: float = 0.0) -> None:
        """Let time pass, and answer every request until there are no more."""
        self.advance(seconds)
        for _ in range(50):
            self._connect()
            if not self._answer() and not self._close():
                return
            self.advance(0)

    def _connect(self) -> None:
        while self.tcpClients:
            host, port, factory, *_ = self.tcpClients.pop(0)
            protocol = factory.buildProtocol(IPv4Address("TCP", host, port))
            transport = ClientTransport(1 << 20)  # a file that nobody has open
            protocol.makeConnection(transport)
            self.connections.append((protocol, transport))

    def _answer(self) -> bool:
        """Answer what was posted meanwhile; return whether anything was."""
        is_any = False
        for protocol, transport in self.connections:
            head, _, body = transport.value().partition(b"\r\n\r\n")
            if head:
                transport.clear()
                said = self.answer(head.split(b" ")[1], body)
                if said is None:
                    continue
                status, said = said if isinstance(said, tuple) else (200, said)
                protocol.dataReceived(
                    b"HTTP/1.1 %d\r\nContent-Length: %d\r\n\r\n%b" % (status, len(said), said)
                )
                is_any = True
        return is_any

    def _close(self) -> bool:
        """Close what its client has left; return whether there was any."""
        closing = [each for each in self.connections if each[1].disconnecting]
        for connection in closing:
            self.connections.remove(connection)
            connection[0].connectionLost(Failure(ConnectionDone()))
        return bool(closing)


@attrs.define(eq=False)
class MemoryGateway:
    """A gateway under `folder`; every test closes what it opened.

    Args:
        config: its file's text but for ports and state_dir.
        node2dm: more lines of [node2dm].
        twistd: the options of twistd.

    Attributes:
        answers: by path a body, or a status and a body; what has none is never answered.
        posted: path and body of each request.
        statuses: with which the process would end.
    """

    folder: Path
    config: str = ACCOUNT
    node2dm: str = ""
    twistd: dict[str, Any] = attrs.field(factory=lambda: {"nodaemon": True, "logfile": "log"})
    reactor: MemoryNetwork = attrs.field(init=False)
    service: GatewayService = attrs.field(init=False)
    posted: list[tuple[bytes, bytes]] = attrs.field(factory=list, init=False)
    answers: dict[bytes, Answer] = attrs.field(init=False)
    statuses: list[int] = attrs.field(factory=list, init=False)
    events: list[LogEvent] = attrs.field(factory=list, init=False)
    _handlers: dict[int, Any] = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self._handlers = {number: signal.getsignal(number) for number in SIGNALS}
        globalLogPublisher.addObserver(self.events.append)
        self.answers = {b"/login": b"Auth=a-token\n", b"/send": b"id=1"}
        self.reactor = MemoryNetwork(self._answer)
        self._write_keys()
        self.write_config()
        options = Options()
        options.parent = None
        options.parseOptions(["-c", str(self.folder / "config.ini")])
        options.parent = self.twistd
        runtime = Runtime(
            self.reactor,
            lambda: WALL + self.reactor.seconds(),
            lambda: 0.5,
            HangUps(),
            self.statuses.append,
        )
        self.service = GatewayService(options, runtime)

    def _answer(self, path: bytes, body: bytes) -> Answer | None:
        self.posted.append((path, body))
        return self.answers.get(path)

    def _write_keys(self) -> None:
        """Write the keys of two service accounts: key.json and other.json."""
        for name in ("key", "other"):
            file = self.folder / f"{name}.json"
            email, token_uri = f"{name}@shop.example", "http://google.test/token"
            content = {**CONTENT, "client_email": email, "token_uri": token_uri}
            file.write_text(json.dumps(content), encoding="utf-8")
            file.chmod(0o600)

    def write_config(self) -> None:
        file = self.folder / "config.ini"
        file.write_text(
            f"[node2dm]\nstate_dir = state\nudp = 127.0.0.1:0\nstats = tcp:1\nweb = tcp:2\n"
            f"http_client = treq\n{self.node2dm}\n{self.config}",
            encoding="utf-8",
        )
        file.chmod(0o600)

    def start(self) -> "MemoryGateway":
        self.service.setServiceParent(Application("node2dm"))
        self.service.startService()
        self.reactor.start()
        self.reactor.turn()
        return self

    def hang_up(self) -> None:
        """Write the file, and send SIGHUP."""
        self.write_config()
        signal.raise_signal(signal.SIGHUP)
        self.reactor.turn()

    def stop(self, seconds: float = 60.0) -> bool:
        """Stop the service; return whether it has ended within so many seconds."""
        ended: list[object] = []
        stopped: Deferred[object] = self.service.stopService()
        stopped.addBoth(ended.append)
        for _ in range(int(seconds)):
            if not ended:
                self.reactor.turn(1.0)
        return ended == [None]

    def close(self) -> None:
        """Give back what belongs to the process of the tests."""
        if self.service.running:
            self.stop()
        globalLogPublisher.removeObserver(self.events.append)
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        set_level("info")
        gc.unfreeze()

    @property
    def parts(self) -> Parts:
        found = self.service._parts
        assert found is not None
        return found

    @property
    def route(self) -> Route:
        return next(iter(self.parts.routes.values()))

    def push(self, *lines: bytes) -> None:
        """Send datagrams to the socket, and have the reactor read each."""
        ((_, port),) = self.service._udp
        assert port in self.reactor.getReaders()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            for line in lines:
                sender.sendto(line, port.socket.getsockname())
                port.doRead()
        self.reactor.turn()

    def stats(self, name: str) -> Any:
        """Give a value of the lines that telnet shows."""
        return make_lines(self.service._take_snapshot()).totals[name]

    def ask(self, *head: str) -> bytes:
        """Send a request without a body to the web port; return the status."""
        factory = next(factory for port, factory, *_ in self.reactor.tcpServers if port == 2)
        protocol = factory.buildProtocol(IPv4Address("TCP", "127.0.0.1", 50_000))
        transport = ClientTransport()
        protocol.makeConnection(transport)
        protocol.dataReceived("\r\n".join([*head, "", ""]).encode())
        self.reactor.turn(0.1)
        return transport.value().split(b" ")[1]

    @property
    def log(self) -> str:
        return "\n".join(formatEvent(event) for event in self.events)
