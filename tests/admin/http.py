"""The site in memory: what it answers to a request, without a socket."""

from typing import Any

from twisted.internet.error import ConnectionDone
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from twisted.web.server import Site

from node2dm_tw.admin.events import Pages
from node2dm_tw.admin.health import Health, Phase
from node2dm_tw.admin.web import Render, Views, make_site
from tests.admin.support import ROUTE

SNAPSHOT: dict[str, Any] = {
    "totals": {"version": "1.2"},
    "routes": {"shop": ROUTE},
    "histograms": {},
    "details": {},
}


def open_site(
    *,
    snapshot: dict[str, Any] | None = None,
    phase: Phase = Phase.RUNNING,
    pages: Pages | None = None,
    metrics: Render | None = None,
) -> Site:
    """The site over a snapshot that does not change."""
    clock = Clock()
    health = Health(clock.seconds, phase)
    pages = Pages(lambda: b"") if pages is None else pages
    return make_site(Views(lambda: snapshot or SNAPSHOT, health, pages, metrics), clock)


class Connection:
    """One connection to the site."""

    def __init__(self, site: Site) -> None:
        self.transport = StringTransport()
        self.channel: Any = site.buildProtocol(None)
        self.channel.makeConnection(self.transport)

    def get(self, path: str, *headers: str, method: str = "GET") -> "Connection":
        """Send a request; the answer is this connection's from now on."""
        self.transport.clear()
        lines = [f"{method} {path} HTTP/1.1", "Host: localhost", *headers, "", ""]
        self.channel.dataReceived("\r\n".join(lines).encode())
        return self

    @property
    def status(self) -> int:
        return int(self.transport.value().split(b" ", 2)[1])

    def header(self, name: str) -> str | None:
        """The value of a header of the answer."""
        head = self.transport.value().partition(b"\r\n\r\n")[0].decode().split("\r\n")[1:]
        pairs = dict(line.split(": ", 1) for line in head)
        return {key.lower(): value for key, value in pairs.items()}.get(name)

    @property
    def body(self) -> bytes:
        return self.transport.value().partition(b"\r\n\r\n")[2]

    def lose(self) -> None:
        """The client goes."""
        self.channel.connectionLost(Failure(ConnectionDone()))
