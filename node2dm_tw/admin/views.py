"""The admin endpoints of one process, and the one-second tick that updates them."""

from collections.abc import Callable, Collection, Mapping
from functools import partial
from types import MappingProxyType
from typing import Any

import attrs
from twisted.internet.defer import Deferred, gatherResults, succeed
from twisted.internet.interfaces import IListeningPort, IReactorTime, IStreamServerEndpoint
from twisted.internet.task import LoopingCall

from node2dm_tw.admin.connections import MAX_ABORTING, Connections, Turns
from node2dm_tw.admin.events import EventStreams, event
from node2dm_tw.admin.health import Health, Phase
from node2dm_tw.admin.history import History, Point
from node2dm_tw.admin.lines import StatsLines, TakeSnapshot, make_lines
from node2dm_tw.admin.memo import Memo
from node2dm_tw.admin.statsd import StatsdFormatter, StatsdSender, resolve_host
from node2dm_tw.admin.telnet import StatsFactory, TelnetViews
from node2dm_tw.admin.web import Render, WebViews, make_site
from node2dm_tw.core.logs import logger
from node2dm_tw.core.snapshot import ProcessSnapshot, RouteSnapshot
from node2dm_tw.core.web import Endpoint

log = logger()

TICK = 1.0
"""Seconds between two looks at the stats."""


def _find_metrics(
    snapshot: TakeSnapshot, health: Health, seconds: Callable[[], float]
) -> Render | None:
    """Make what renders metrics; None without the extra."""
    try:
        from node2dm_tw.admin.metrics import Metrics
    except ImportError:
        return None
    return Metrics(snapshot, health, seconds).render


@attrs.frozen
class ViewLimits:
    """What clients of the views may hold.

    Args:
        telnet: connections to the telnet port at once.
        web: connections to the web port at once.
        max_descriptor: file descriptors from this number on are not for them.
    """

    telnet: int = 64
    web: int = 200
    max_descriptor: int = 1 << 30

    @staticmethod
    def descriptors(*, has_web: bool) -> int:
        """Count the file descriptors that clients hold at most.

        Each listener has, for a turn, connections that are about to make way for others.
        """
        limits = ViewLimits()
        return limits.telnet + MAX_ABORTING + (limits.web + MAX_ABORTING) * has_web

    @classmethod
    def within(cls, descriptors: int, max_descriptor: int, *, has_web: bool) -> "ViewLimits":
        """Set limits so that clients hold at most so many file descriptors."""
        if descriptors >= cls.descriptors(has_web=has_web):
            return cls(max_descriptor=max_descriptor)
        telnet, web = (descriptors // 6, descriptors // 3) if has_web else (descriptors // 2, 0)
        return cls(max(1, telnet), max(1, web), max_descriptor)


@attrs.define(eq=False)
class AdminServices:
    """Opens the views, updates them, and closes them.

    Args:
        take_snapshot: gives what they show.
        clock: monotonic seconds.
        wall: seconds since the epoch.
        config: the lines of telnet's `config`.
        web_hosts: gives the names under which the web port may be asked.
    """

    take_snapshot: TakeSnapshot
    clock: IReactorTime
    wall: Callable[[], float]
    config: Callable[[], list[str]]
    web_hosts: Callable[[], Collection[str]] = tuple
    health: Health = attrs.field(init=False)
    history: History = attrs.field(init=False)
    streams: EventStreams = attrs.field(init=False)
    _turns: Turns = attrs.field(init=False)
    _snapshot: Memo[ProcessSnapshot] = attrs.field(init=False)
    _lines: Memo[StatsLines] = attrs.field(init=False)
    _newest: Memo[bytes] = attrs.field(init=False)
    _past: bytes = attrs.field(default=b"", init=False)
    _ports: list[IListeningPort] = attrs.field(factory=list, init=False)
    _loops: list[LoopingCall] = attrs.field(factory=list, init=False)
    _statsd: StatsdSender | None = attrs.field(default=None, init=False)

    def __attrs_post_init__(self) -> None:
        seconds = self.clock.seconds
        self.health = Health(seconds)
        self.history = History(seconds)
        self.streams = EventStreams(self._first)
        self._turns = Turns(self.clock)
        self._snapshot = Memo(seconds, self.take_snapshot)
        self._lines = Memo(seconds, lambda: make_lines(self._snapshot()))
        self._newest = Memo(seconds, lambda: event("now", self._now(self._snapshot(), None)))

    def open_telnet(
        self, endpoint: IStreamServerEndpoint, limits: ViewLimits = ViewLimits()
    ) -> Deferred[Any]:
        """Answer telnet."""
        views = TelnetViews(self._snapshot, self._lines, self.health, self.config)
        connections = Connections(self._turns, limits.telnet, limits.max_descriptor)
        return endpoint.listen(StatsFactory(connections, views)).addCallback(self._keep)

    def open_web(
        self,
        endpoint: IStreamServerEndpoint,
        limits: ViewLimits = ViewLimits(),
        endpoints: Mapping[bytes, Endpoint] = MappingProxyType({}),
    ) -> Deferred[Any]:
        """Answer HTTP.

        Args:
            endpoints: what is answered beside the views, by path.
        """
        metrics = _find_metrics(self._snapshot, self.health, self.clock.seconds)
        if metrics is None:
            log.warn(
                "/metrics is disabled: it needs prometheus-client (pip install prometheus-client)"
            )
        views = WebViews(self._snapshot, self._lines, self.health, self.streams, metrics)
        connections = Connections(self._turns, limits.web, limits.max_descriptor)
        site = make_site(views, connections, self.web_hosts, endpoints)
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
            self._statsd.send_last(make_lines(self.take_snapshot()))
        self.streams.close()
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
            self._statsd.send(make_lines(self.take_snapshot()))

    def _tick(self) -> None:
        snapshot = self.take_snapshot()
        self.health.watch(snapshot)
        point = self.history.add(snapshot)
        if point is not None:
            self._past = b""
        if self.streams:
            self.streams.send(event("now", self._now(snapshot, point)))

    def _first(self) -> bytes:
        """Render what a page needs when it opens."""
        # Kept for the next page: after a restart many of them come at once.
        self._past = self._past or event("history", self.history.series())
        return self._past + self._newest()

    def _now(self, snapshot: ProcessSnapshot, point: dict[str, Point] | None) -> dict[str, Any]:
        lines = make_lines(snapshot)
        return {
            "when": round(self.wall(), 3),
            "totals": lines.totals,
            "routes": lines.routes,
            "details": {name: _details(route) for name, route in snapshot.routes.items()},
            "invalid": [attrs.asdict(each, recurse=False) for each in snapshot.latest_invalid],
            "health": self.health.report(snapshot).as_json(),
            "point": point,
        }


def _details(route: RouteSnapshot) -> dict[str, Any]:
    return {
        "errors": [
            {
                "kind": error.kind,
                "reason": error.reason,
                "count": error.count,
                "when": error.when,
                "device": error.device,
            }
            for error in route.errors
        ],
        "blocked": [{"device": each.device, "left": each.left} for each in route.blocked],
    }


def statsd_sender(host: str, port: int, prefix: str, reactor: Any) -> StatsdSender:
    """Make what tells the statsd at `host`, which may be a name."""
    address = host.strip("[]")
    resolve = succeed if ":" in address else partial(resolve_host, reactor.nameResolver)
    return StatsdSender(address, port, StatsdFormatter(prefix), resolve, reactor)
