"""The one set of counters, and the snapshot that every view renders."""

import json
import math
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import attrs
import psutil

Gauge = Callable[[], Any]
"""Gives a number, a boolean or a text; None leaves the line out."""

TERMINAL_COUNTERS = (
    "messages_sent",
    "messages_refused",
    "messages_bad_device",
    "messages_blocked",
    "messages_expired",
    "messages_collapsed",
    "messages_overflowed",
    "messages_handed_over",
)
"""Every push that was received or taken over ends in exactly one of these, or is still here."""

ORDER = (
    "uptime",
    "messages_sent",
    "messages_in_queue",
    "backing_off",
    "total_errors",
    "rate_limited_tokens",
    "logged_in_to_c2dm",
    "token_age",
    "memory_rss",
    "memory_heapTotal",
    "memory_heapUsed",
    "http_client",
    "version",
    "messages_received",
    "messages_taken_over",
    *TERMINAL_COUNTERS[1:],
    "messages_invalid",
    "messages_ambiguous",
    "network_failures",
    "unavailable_answers",
    "quota_answers",
    "spool_damaged",
    "callbacks_sent",
    "callbacks_failed",
    "callbacks_dropped",
    "callbacks_waiting",
    "handshakes",
    "reconnects",
    "udp_dropped",
    "rcvbuf",
)
"""The totals' first lines: node2dm's own in its order and spelling, then ours."""

LATENCY_BOUNDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
AGE_BOUNDS = (
    0.01,
    0.05,
    0.1,
    0.5,
    1.0,
    5.0,
    10.0,
    60.0,
    300.0,
    1_800.0,
    3_600.0,
    21_600.0,
    86_400.0,
)

_COUNTED_TOGETHER = 500

HEAP_CACHE_SECONDS = 10.0
"""Seconds for which the heap's figures hold: to find them takes long where it is fragmented."""


@attrs.define(eq=False)
class Histogram:
    """How often a value was up to each of the bounds, and the last time beyond all of them.

    Args:
        bounds: seconds, ascending.
    """

    bounds: tuple[float, ...]
    _counts: list[int] = attrs.field(init=False)
    _total: float = attrs.field(default=0.0, init=False)
    _new: list[float] = attrs.field(factory=list, init=False)

    def __attrs_post_init__(self) -> None:
        self._counts = [0] * (len(self.bounds) + 1)

    def observe(self, value: float) -> None:
        """Count a value; one below 0 counts as 0."""
        self._new.append(value)
        if len(self._new) == _COUNTED_TOGETHER:
            self._count()

    def snapshot(self) -> dict[str, Any]:
        """``bounds``, ``counts`` (not cumulative, one more than bounds) and ``total``."""
        self._count()
        return {"bounds": self.bounds, "counts": tuple(self._counts), "total": self._total}

    def _count(self) -> None:
        """Count the new values together: in order they cost a tenth of what they cost singly."""
        values = sorted(self._new)
        self._new.clear()
        self._total += sum(values[bisect_right(values, 0.0) :])
        below = 0
        for number, bound in enumerate((*self.bounds, math.inf)):
            up_to = bisect_right(values, bound)
            self._counts[number] += up_to - below
            below = up_to


@attrs.define(eq=False)
class RouteStats:
    """The counters of one route. Whoever ends a push adds one to the attribute of that name.

    Args:
        gauges: what is asked at each snapshot, by name.
        refused_reasons: `messages_refused`, by reason; bounded, as upstreams choose the words.
        upstream_latency: seconds from a request to its answer.
        queue_age: seconds from a push's receipt to a request that carries it.
        details: lists for people, by name, of values that JSON can carry; nothing secret.
    """

    messages_received: int = 0
    messages_taken_over: int = 0
    messages_sent: int = 0
    messages_refused: int = 0
    messages_bad_device: int = 0
    messages_blocked: int = 0
    messages_expired: int = 0
    messages_collapsed: int = 0
    messages_overflowed: int = 0
    messages_handed_over: int = 0
    messages_ambiguous: int = 0
    network_failures: int = 0
    unavailable_answers: int = 0
    quota_answers: int = 0
    spool_damaged: int = 0
    callbacks_sent: int = 0
    callbacks_failed: int = 0
    callbacks_dropped: int = 0
    gauges: dict[str, Gauge] = attrs.field(factory=dict)
    refused_reasons: Counter[str] = attrs.field(factory=Counter)
    upstream_latency: Histogram = attrs.field(factory=lambda: Histogram(LATENCY_BOUNDS))
    queue_age: Histogram = attrs.field(factory=lambda: Histogram(AGE_BOUNDS))
    details: dict[str, Callable[[], list[dict[str, Any]]]] = attrs.field(factory=dict)

    def refuse(self, reason: str) -> None:
        """Count a refused push under its reason, the hundredth and later reasons as `other`."""
        self.messages_refused += 1
        known = reason in self.refused_reasons or len(self.refused_reasons) < 99
        self.refused_reasons[reason if known else "other"] += 1

    def snapshot(self) -> dict[str, Any]:
        """Every value of this route by name, in the order of the reference."""
        values = {name: getattr(self, name) for name in COUNTERS}
        values["total_errors"] = (
            self.messages_refused
            + self.messages_bad_device
            + self.quota_answers
            + self.network_failures
        )
        values |= {f"messages_refused.{reason}": n for reason, n in self.refused_reasons.items()}
        values |= {name: gauge() for name, gauge in self.gauges.items()}
        return {name: value for name, value in values.items() if value is not None}

    def histograms(self) -> dict[str, Any]:
        """Every histogram of this route, by name."""
        return {
            "upstream_latency": self.upstream_latency.snapshot(),
            "queue_age": self.queue_age.snapshot(),
        }


COUNTERS = tuple(field.name for field in attrs.fields(RouteStats) if field.default == 0)

_COUNTER_NAMES = {
    *COUNTERS,
    "total_errors",
    "messages_invalid",
    "handshakes",
    "reconnects",
    "udp_dropped",
}


def is_counter(name: str) -> bool:
    """Whether the line of this name counts events since the start; else it is the state now."""
    return name.partition(".")[0] in _COUNTER_NAMES


@attrs.define(eq=False)
class Stats:
    """Counters and gauges of the whole process.

    Args:
        seconds: the monotonic clock, for the uptime.
        version: of this program.
        invalid: `messages_invalid`, by reason; such lines were never received.
        gauges: of the process: `udp_dropped`, `rcvbuf` and the like.
    """

    seconds: Callable[[], float]
    version: str
    routes: dict[str, RouteStats] = attrs.field(factory=dict)
    invalid: Counter[str] = attrs.field(factory=Counter)
    gauges: dict[str, Gauge] = attrs.field(factory=dict)
    _latest_invalid: dict[str, tuple[str, str, float]] = attrs.field(factory=dict, init=False)
    _started: float = attrs.field(init=False)
    _rss: int = attrs.field(default=0, init=False)
    _heap: dict[str, int] = attrs.field(factory=dict, init=False)
    _heap_seen: float = attrs.field(default=float("-inf"), init=False)

    def __attrs_post_init__(self) -> None:
        self._started = self.seconds()

    def add_route(self, name: str) -> RouteStats:
        """Add the counters of a route. Raises ValueError: it has some."""
        if name in self.routes:
            raise ValueError(f"route {name} is defined twice")
        self.routes[name] = RouteStats()
        return self.routes[name]

    def count_invalid(self, reason: str, detail: str, source: str) -> None:
        """Count bytes that are not a push, and keep what was wrong with the latest of each reason.

        Args:
            reason: one of a fixed set of words.
            detail: a sentence for people, without any value that was sent.
            source: the address it came from.
        """
        self.invalid[reason] += 1
        self._latest_invalid[reason] = (detail, source, self.seconds())

    def snapshot(self) -> dict[str, Any]:
        """Everything at this moment.

        Returns:
            ``{"totals": {name: value}, "routes": {route: {name: value}}}``; values are numbers,
            booleans or texts. The totals begin with node2dm's lines in node2dm's order. Beside
            them, for those views that can show them, ``histograms`` and ``details`` of each route,
            and ``invalid``: for each reason the latest push that was none.
        """
        routes = {name: stats.snapshot() for name, stats in self.routes.items()}
        # Without a C2DM route all of them are signed in: node2dm's lines are always there.
        values = {"logged_in_to_c2dm": True} | _merge(list(routes.values()))
        values["uptime"] = int(self.seconds() - self._started)
        values["version"] = self.version
        values["messages_invalid"] = self.invalid.total()
        values |= self._memory()
        values |= {name: gauge() for name, gauge in self.gauges.items()}
        values |= {f"messages_invalid.{reason}": n for reason, n in self.invalid.items()}
        totals = {name: values.pop(name) for name in ORDER if name in values} | values
        return {
            "totals": totals,
            "routes": routes,
            "histograms": {name: stats.histograms() for name, stats in self.routes.items()},
            "details": {
                name: {what: tell() for what, tell in stats.details.items()}
                for name, stats in self.routes.items()
            },
            "invalid": [
                {
                    "reason": reason,
                    "detail": detail,
                    "source": source,
                    "count": self.invalid[reason],
                    "age": round(self.seconds() - when, 1),
                }
                for reason, (detail, source, when) in self._latest_invalid.items()
            ],
        }

    def _memory(self) -> dict[str, int]:
        """Bytes: resident, and of the C heap what is held and what is in use."""
        if self.seconds() >= self._heap_seen + HEAP_CACHE_SECONDS:
            self._heap_seen = self.seconds()
            heap = psutil.heap_info()
            self._heap = {
                "memory_heapTotal": heap.heap_used + heap.mmap_used,
                "memory_heapUsed": heap.heap_used,
            }
        with suppress(OSError):  # without a free file descriptor the last value must do
            # Asked for anew each time: twistd forks after this was made.
            self._rss = psutil.Process().memory_info().rss
        return {"memory_rss": self._rss, **self._heap}


_ROUTES_ONLY = {"state", "state_reason", "state_advice", "renewal_error"}

_MERGED: dict[str, Callable[[list[Any]], Any]] = {
    "backing_off": any,
    "bad_device_alarm": any,
    "logged_in_to_c2dm": all,
    "signed_in": all,
    "token_age": max,
    "token_left": min,
    "oldest_age": max,
    "pause_left": max,
    "http_client": lambda names: ", ".join(sorted(set(names))),
}
"""How the values of several routes make one, where a sum would not do."""


def _merge(routes: list[dict[str, Any]]) -> dict[str, Any]:
    names = dict.fromkeys(name for route in routes for name in route if name not in _ROUTES_ONLY)
    return {
        name: _MERGED.get(name, sum)([route[name] for route in routes if name in route])
        for name in names
    }


def as_json(snapshot: dict[str, Any]) -> bytes:
    """Render a snapshot's totals and routes as JSON on one line."""
    values = {"totals": snapshot["totals"], "routes": snapshot["routes"]}
    # DEL is the one control character that JSON does not ask to be escaped.
    return json.dumps(values, separators=(",", ":")).replace("\x7f", "\\u007f").encode()


def as_text(snapshot: dict[str, Any]) -> list[str]:
    """Render a snapshot as ``name: value`` lines: the totals, then ``ROUTE.name: value``."""
    totals = [_line(name, value) for name, value in snapshot["totals"].items()]
    return totals + [
        _line(f"{route}.{name}", value)
        for route, values in snapshot["routes"].items()
        for name, value in values.items()
    ]


def _line(name: str, value: object) -> str:
    if name == "uptime":
        return f"uptime: {value} seconds"
    return f"{name}: {str(value).lower() if isinstance(value, bool) else value}"
