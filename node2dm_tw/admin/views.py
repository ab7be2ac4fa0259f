"""All the views of one process, and the second hand that keeps them going."""

from collections.abc import Callable
from functools import partial
from typing import Any

import attrs
from twisted.internet.defer import Deferred, gatherResults, succeed
from twisted.internet.interfaces import IListeningPort, IReactorTime, IStreamServerEndpoint
from twisted.internet.task import LoopingCall

from node2dm_tw.admin.events import Pages, event
from node2dm_tw.admin.health import Health, Phase
from node2dm_tw.admin.history import History
from node2dm_tw.admin.statsd import Report, StatsdSender, resolve_host
from node2dm_tw.admin.telnet import Sources, StatsFactory
from node2dm_tw.admin.web import Render, Views, make_site
from node2dm_tw.logs import logger
from node2dm_tw.stats import Stats

log = logger()

TICK = 1.0
"""Seconds between two looks at the stats."""

Values = dict[str, Any]


def _find_metrics(stats: Stats, health: Health) -> Render | None:
    """Make what renders metrics; None without the extra."""
    try:
        from node2dm_tw.admin.metrics import Metrics
    except ImportError:
        return None
    return Metrics(stats.snapshot, health).render


@attrs.define(eq=False)
class Admin:
    """Opens the views, shows them what is, and closes them.

    Args:
        stats: what they show.
        clock: monotonic seconds.
        wall: seconds since the epoch.
        config: the lines of telnet's `config`.
    """

    stats: Stats
    clock: IReactorTime
    wall: Callable[[], float]
    config: Callable[[], list[str]]
    health: Health = attrs.field(init=False)
    history: History = attrs.field(init=False)
    pages: Pages = attrs.field(init=False)
    _past: bytes = attrs.field(default=b"", init=False)
    _ports: list[IListeningPort] = attrs.field(factory=list, init=False)
    _loops: list[LoopingCall] = attrs.field(factory=list, init=False)
    _statsd: StatsdSender | None = attrs.field(default=None, init=False)

    def __attrs_post_init__(self) -> None:
        self.health = Health(self.clock.seconds)
        self.history = History(self.clock.seconds)
        self.pages = Pages(self._first)

    def open_telnet(self, endpoint: IStreamServerEndpoint) -> Deferred[Any]:
        """Answer telnet."""
        sources = Sources(self.stats.snapshot, self.health, self.config)
        return endpoint.listen(StatsFactory(self.clock, sources)).addCallback(self._keep)

    def open_web(self, endpoint: IStreamServerEndpoint) -> Deferred[Any]:
        """Answer HTTP."""
        metrics = _find_metrics(self.stats, self.health)
        if metrics is None:
            log.warn("/metrics is off: it wants the extra `metrics` (node2dm_tw[metrics])")
        views = Views(self.stats.snapshot, self.health, self.pages, metrics)
        site = make_site(views, self.clock)
        return endpoint.listen(site).addCallback(self._keep)

    def open_statsd(self, sender: StatsdSender, interval: float) -> None:
        """Tell statsd, every `interval` seconds."""
        self._statsd = sender
        self._repeat(interval, self._tell_statsd, now=False)

    def start(self) -> None:
        """Look at the stats every second: the start is over."""
        self.health.phase = Phase.RUNNING
        self._repeat(TICK, self._tick, now=True)

    def drain(self) -> None:
        """Say that the process takes nothing more in."""
        self.health.phase = Phase.DRAINING

    def stop(self) -> Deferred[Any]:
        """Tell statsd the rest, and close everything."""
        for loop in self._loops:
            loop.stop()
        if self._statsd is not None:
            self._statsd.send_last(self.stats.snapshot())
        self.pages.close()
        closed = [port.stopListening() or succeed(None) for port in self._ports]
        return gatherResults(closed)

    def _keep(self, port: IListeningPort) -> IListeningPort:
        self._ports.append(port)
        return port

    def _repeat(self, seconds: float, what: Callable[[], None], *, now: bool) -> None:
        """Call `what` again and again, also where it has failed."""

        def guarded() -> None:
            try:
                what()
            except Exception:  # noqa: BLE001 - a loop ends at the first failure, for ever
                log.failure("a view could not be brought up to date")

        loop = LoopingCall(guarded)
        loop.clock = self.clock
        loop.start(seconds, now=now)
        self._loops.append(loop)

    def _tell_statsd(self) -> None:
        if self._statsd is not None:
            self._statsd.send(self.stats.snapshot())

    def _tick(self) -> None:
        snapshot = self.stats.snapshot()
        self.health.watch(snapshot)
        point = self.history.add(snapshot)
        if point is not None:
            self._past = b""
        if self.pages:
            self.pages.tell(event("now", self._now(snapshot, point)))

    def _first(self) -> bytes:
        """All that a page needs when it opens."""
        # Kept for the next page: after a restart many of them come at once.
        self._past = self._past or event("history", self.history.series())
        return self._past + event("now", self._now(self.stats.snapshot(), None))

    def _now(self, snapshot: Values, point: Any) -> Values:
        return {
            "when": round(self.wall(), 3),
            "totals": snapshot["totals"],
            "routes": snapshot["routes"],
            "details": snapshot["details"],
            "invalid": snapshot["invalid"],
            "health": self.health.report(snapshot).as_json(),
            "point": point,
        }


def statsd_sender(host: str, port: int, prefix: str, reactor: Any) -> StatsdSender:
    """Make what tells the statsd at `host`, which may be a name."""
    address = host.strip("[]")
    resolve = succeed if ":" in address else partial(resolve_host, reactor.nameResolver)
    return StatsdSender(address, port, Report(prefix), resolve, reactor)
