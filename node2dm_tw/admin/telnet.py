"""The state of the gateway by telnet: one line asks, lines answer."""

from collections.abc import Callable
from typing import Any

import attrs
from twisted.internet.interfaces import IAddress, IDelayedCall, IHalfCloseableProtocol, IReactorTime
from twisted.internet.protocol import Factory
from twisted.protocols.basic import LineReceiver
from zope.interface import implementer

from node2dm_tw.admin.health import Health
from node2dm_tw.stats import as_json, as_text

IDLE = 60.0
"""Seconds without a line after which a connection is closed."""

LINGER = 1.0
"""Seconds, where the last line ended in LF alone: `nc` waits for us, a person sends CR LF."""

Snapshot = Callable[[], dict[str, Any]]

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
class Sources:
    """What the answers are made of.

    Args:
        snapshot: see `node2dm_tw.stats.Stats.snapshot`.
        health: judges it.
        config: the lines of `config`.
    """

    snapshot: Snapshot
    health: Health
    config: Callable[[], list[str]]


@implementer(IHalfCloseableProtocol)
class StatsProtocol(LineReceiver):
    """One connection."""

    transport: Any
    delimiter = b"\n"
    MAX_LENGTH = 1024

    def __init__(self, clock: IReactorTime, sources: Sources) -> None:
        """Answer from `sources`; close by `clock`."""
        self._clock = clock
        self._sources = sources
        self._timer: IDelayedCall | None = None
        self._is_closing = False
        self._line_end = "\n"

    def connectionMade(self) -> None:
        # As long as a client does not read its answers, its questions are not read either.
        self.transport.registerProducer(self, True)
        self._wait(IDLE)

    def connectionLost(self, reason: Any = None) -> None:
        if self._timer is not None and self._timer.active():
            self._timer.cancel()

    def lineReceived(self, line: bytes) -> None:
        self._wait(IDLE if line.endswith(b"\r") else LINGER)
        self._line_end = "\r\n" if line.endswith(b"\r") else "\n"
        self._answer(line.strip())

    def lineLengthExceeded(self, line: bytes) -> None:
        self._say(["Line too long"])
        self._close()

    def readConnectionLost(self) -> None:
        """The client has closed its side: answer a last line without an end, then close ours."""
        rest = self.clearLineBuffer().strip()  # type: ignore[no-untyped-call]
        if rest:
            self._answer(rest)
        self._close()

    def writeConnectionLost(self) -> None:
        self._close()

    def _answer(self, line: bytes) -> None:
        sources = self._sources
        match line:
            case b"help":
                self._say(HELP.split("\n"))
            case b"stats":
                self._say(as_text(sources.snapshot()))
            case b"stats json":
                self._say([as_json(sources.snapshot()).decode()])
            case b"health":
                self._say(sources.health.report(sources.snapshot()).as_text())
            case b"version":
                self._say([f"node2dm_tw {sources.snapshot()['totals']['version']}"])
            case b"config":
                self._say(sources.config())
            case b"quit":
                self._close()
            case _:
                self._say(["Invalid command"])

    def _wait(self, seconds: float) -> None:
        if self._timer is not None and self._timer.active():
            self._timer.reset(seconds)
        else:
            self._timer = self._clock.callLater(seconds, self._time_is_up)

    def _time_is_up(self) -> None:
        if self._is_closing:
            self.transport.abortConnection()
        else:
            self._close()

    def _close(self) -> None:
        """Close once the answers are read; by force where nobody reads them."""
        if not self._is_closing:
            self._is_closing = True
            self.transport.unregisterProducer()
            self.transport.loseConnection()
            self._wait(IDLE)

    def _say(self, lines: list[str]) -> None:
        self.transport.write("".join(line + self._line_end for line in lines).encode())


@attrs.define(eq=False)
class StatsFactory(Factory):
    """Makes a `StatsProtocol` for each connection."""

    clock: IReactorTime
    sources: Sources
    noisy = False

    def buildProtocol(self, addr: IAddress | None) -> StatsProtocol:
        return StatsProtocol(self.clock, self.sources)
