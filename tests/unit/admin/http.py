"""The site in memory: what it answers to a request, without a socket."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from twisted.internet.error import ConnectionDone
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from twisted.web.server import Site

from node2dm_tw.admin.events import EventStreams
from node2dm_tw.admin.health import Health, Phase
from node2dm_tw.admin.lines import make_lines
from node2dm_tw.admin.web import Render, WebViews, make_site
from node2dm_tw.core.snapshot import ProcessSnapshot
from node2dm_tw.core.web import Endpoint
from tests.unit.admin.support import PROCESS
from tests.unit.admin.transport import connect, make_connections


def open_site(
    *,
    snapshot: ProcessSnapshot = PROCESS,
    phase: Phase = Phase.RUNNING,
    streams: EventStreams | None = None,
    metrics: Render | None = None,
    web_hosts: tuple[str, ...] = (),
    endpoints: Mapping[bytes, Endpoint] = MappingProxyType({}),
) -> Site:
    """The site over a snapshot that does not change."""
    clock = Clock()
    health = Health(clock.seconds, phase)
    streams = EventStreams(lambda: b"") if streams is None else streams
    views = WebViews(lambda: snapshot, lambda: make_lines(snapshot), health, streams, metrics)
    return make_site(views, make_connections(clock, 200), lambda: web_hosts, endpoints)


class Connection:
    """One connection to the site."""

    def __init__(self, site: Site) -> None:
        self.clock: Any = site.reactor
        self.protocol = connect(site)
        self.transport = self.protocol.transport

    def get(self, path: str, *headers: str, method: str = "GET") -> "Connection":
        """Send a request; the answer is this connection's from now on."""
        host = () if any(h.lower().startswith("host:") for h in headers) else ("Host: localhost",)
        return self.send("\r\n".join([f"{method} {path} HTTP/1.1", *host, *headers, "", ""]))

    def send(self, text: str) -> "Connection":
        """Send this; what is answered to it at once is the answer from now on."""
        self.transport.clear()
        self.protocol.dataReceived(text.encode("latin-1"))
        self.take_turns()
        return self

    def take_turns(self) -> None:
        """Let all that is due be done, without that time passes."""
        self.clock.pump([0] * 10)

    @property
    def status(self) -> int:
        return int(self.transport.value().split(b" ", 2)[1])

    @property
    def headers(self) -> dict[str, str]:
        """The headers of the answer."""
        head = self.transport.value().partition(b"\r\n\r\n")[0].decode().split("\r\n")[1:]
        pairs = (line.split(": ", 1) for line in head)
        return {name.lower(): value for name, value in pairs}

    def header(self, name: str) -> str | None:
        """The value of a header of the answer."""
        return self.headers.get(name)

    @property
    def body(self) -> bytes:
        return self.transport.value().partition(b"\r\n\r\n")[2]

    def lose(self) -> None:
        """The client goes."""
        self.protocol.connectionLost(Failure(ConnectionDone()))
