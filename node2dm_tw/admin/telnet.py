"""The state of the gateway by telnet: one line asks, lines answer."""

import re
from collections.abc import Callable

import attrs
from twisted.internet.interfaces import IAddress
from twisted.internet.protocol import Factory

from node2dm_tw.admin.connections import IDLE_SECONDS, BoundedProtocol, Connections
from node2dm_tw.admin.health import Health
from node2dm_tw.admin.lines import StatsLines, TakeSnapshot
from node2dm_tw.core.logs import escape_controls

LINGER_SECONDS = 1.0
"""Seconds, where the last line ended in LF alone: `nc` waits for us, a person sends CR LF."""

_HTTP = re.compile(rb"\S+ \S+ HTTP/1\.[01]")

NOT_HTTP = (
    b"HTTP/1.0 400 Bad Request\r\nContent-Type: text/plain\r\nConnection: close\r\n\r\n"
    b"Invalid command: this is the stats port: expected a line such as `stats` or `help`."
    b" HTTP is answered at the address of the option `web` in the section [node2dm].\n"
)
"""The answer to who asks by HTTP, which is shown by browsers and curl."""

HELP = """\
help        this list
stats       counters and gauges, one a line
stats json  the same as JSON on one line
health      whether the gateway is ready, and the state of each route
version     the version of this program
config      the options in force; what may be secret is hidden
quit        close the connection\
"""


@attrs.frozen
class TelnetViews:
    """What the answers are made of.

    Args:
        snapshot: takes one, or gives that of a moment ago.
        lines: makes its lines, likewise.
        health: judges it.
        config: the lines of `config`.
    """

    snapshot: TakeSnapshot
    lines: Callable[[], StatsLines]
    health: Health
    config: Callable[[], list[str]]


class StatsProtocol(BoundedProtocol):
    """One connection: each of its requests is a line."""

    MAX_REQUEST_BYTES = 1025

    def __init__(self, connections: Connections, views: TelnetViews) -> None:
        """Answer from `views`."""
        BoundedProtocol.__init__(self, connections)
        self._views = views
        self._line_end = "\n"

    def find_end(self, data: bytes) -> int:
        end = data.find(b"\n") + 1
        return len(data) if self.is_at_end and not end else end

    def answer(self, request: bytes) -> None:
        is_nc = request.endswith(b"\n") and not request.endswith(b"\r\n")
        self.idle_seconds = LINGER_SECONDS if is_nc else IDLE_SECONDS
        if request.endswith(b"\n"):
            self._line_end = "\n" if is_nc else "\r\n"
        command = request.strip()
        if _HTTP.fullmatch(command):
            self.transport.write(NOT_HTTP)
            self.close()
        elif command == b"quit":
            self.close()
        elif command or request.endswith(b"\n"):
            self._write(self._lines(command))
        self.finish_request()

    def refuse_long(self) -> None:
        self._write(["Line too long"])
        self.close()

    def _lines(self, command: bytes) -> list[str]:
        """Build the answer to a command."""
        views = self._views
        match command:
            case b"help":
                return HELP.split("\n")
            case b"stats":
                return views.lines().as_text()
            case b"stats json":
                return [views.lines().as_json().decode()]
            case b"health":
                return views.health.report(views.snapshot()).as_text()
            case b"version":
                return [f"node2dm_tw {views.snapshot().version}"]
            case b"config":
                return views.config()
            case _:
                return ["Invalid command"]

    def _write(self, lines: list[str]) -> None:
        # Names and reasons come from other sides; none of them may act on a person's terminal.
        text = "".join(escape_controls(line) + self._line_end for line in lines)
        self.transport.write(text.encode())


@attrs.define(eq=False)
class StatsFactory(Factory):
    """Makes a `StatsProtocol` for each connection."""

    connections: Connections
    views: TelnetViews
    noisy = False

    def buildProtocol(self, addr: IAddress | None) -> StatsProtocol | None:
        if self.connections.is_overrun:
            return None
        return StatsProtocol(self.connections, self.views)
