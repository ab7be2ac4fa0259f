"""Snapshots for the views' tests."""

import socket
from collections import Counter
from collections.abc import Callable
from typing import Any

import attrs
from twisted.internet.task import Clock

from node2dm_tw.app.memory import MemoryMeter
from node2dm_tw.core.snapshot import LaneState, MemoryUse, ProcessSnapshot, RouteSnapshot
from node2dm_tw.core.stats import RouteStats
from node2dm_tw.delivery.blocked_devices import BlockedDevices
from node2dm_tw.delivery.recent_errors import RecentErrors
from tests.support.tools import tool as tool

ROUTE = RouteSnapshot(
    messages_sent=4,
    refused_reasons={},
    messages_in_queue=0,
    messages_in_flight=0,
    messages_waiting=0,
    window=8,
    backing_off=False,
    rate_limited_tokens=0,
    signed_in=True,
    token_age=None,
    token_left=None,
    renewal_error=None,
    state=LaneState.READY,
    state_reason=None,
    pause_left=0.0,
    oldest_age=0.0,
    max_queued=100,
    queued_bytes=0,
    logged_in_to_c2dm=True,
    bad_device_alarm=None,
    project_rate_used=None,
    state_advice=None,
    http_client="treq",
    handshakes=0,
    reconnects=0,
    queue_writable=None,
    upstream_latency=RouteStats().upstream_latency.snapshot(),
    queue_age=RouteStats().queue_age.snapshot(),
    errors=(),
    blocked=(),
)
"""A route at rest."""

PROCESS = ProcessSnapshot(
    version="1.2",
    uptime=3,
    memory=MemoryUse(3_000, 2_000, 1_000),
    routes={"shop": ROUTE},
    invalid={},
    latest_invalid=(),
    callbacks_waiting=0,
    outcomes_dropped=0,
    udp_dropped=0,
    rcvbuf=4_096,
    max_queued_bytes=1_000_000,
)
"""A process with one route, at rest."""


def route(**values: Any) -> RouteSnapshot:
    """A route at rest but for these values; the state is given by its word."""
    if "state" in values:
        values["state"] = LaneState(values["state"])
    return attrs.evolve(ROUTE, **values)


def snapshot(**routes: RouteSnapshot) -> ProcessSnapshot:
    """A process with these routes."""
    return attrs.evolve(PROCESS, routes=routes)


@attrs.define(eq=False)
class FakeRoute:
    """A route whose counters the test moves, and whose other values it names.

    Args:
        values: they do not move.
        live: asked at each snapshot.
    """

    values: dict[str, Any]
    blocked: BlockedDevices
    live: Callable[[], dict[str, Any]] = dict
    stats: RouteStats = attrs.field(factory=RouteStats)
    recent_errors: RecentErrors = attrs.field(factory=RecentErrors)

    def snapshot(self) -> RouteSnapshot:
        return route(
            **self.values,
            **self.live(),
            **self.stats.counters(),
            refused_reasons=dict(self.stats.refused_reasons),
            rate_limited_tokens=len(self.blocked),
            upstream_latency=self.stats.upstream_latency.snapshot(),
            queue_age=self.stats.queue_age.snapshot(),
            errors=self.recent_errors.latest(),
            blocked=self.blocked.latest(),
        )


@attrs.define(eq=False)
class FakeGateway:
    """A process with such routes, which uses as much memory as the test does."""

    clock: Any = attrs.field(factory=Clock)
    routes: dict[str, FakeRoute] = attrs.field(factory=dict)
    invalid: Counter[str] = attrs.field(factory=Counter)
    values: dict[str, Any] = attrs.field(factory=dict)
    _memory: MemoryMeter = attrs.field(init=False)
    _started_at: float = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self._memory = MemoryMeter(self.clock.seconds)
        self._started_at = self.clock.seconds()

    def add_route(self, name: str, **values: Any) -> FakeRoute:
        """Add a route at rest but for these values."""
        made = self.routes[name] = FakeRoute(values, BlockedDevices(self.clock))
        return made

    def snapshot(self) -> ProcessSnapshot:
        return attrs.evolve(
            PROCESS,
            uptime=int(self.clock.seconds() - self._started_at),
            memory=self._memory.read(),
            routes={name: route.snapshot() for name, route in self.routes.items()},
            invalid=dict(self.invalid),
            **self.values,
        )


class StatsdServer:
    """A UDP socket to which reports are sent, on a free port."""

    def __init__(self, host: str = "127.0.0.1", port: int = 0) -> None:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._socket = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        self._socket.bind((host, port))
        self.port: int = self._socket.getsockname()[1]

    def __enter__(self) -> "StatsdServer":
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def lines(self) -> list[str]:
        """The lines that came since the last look."""
        found: list[str] = []
        while True:
            try:
                found += self._socket.recv(65_536).decode().split("\n")
            except BlockingIOError:
                return found
