"""The one set of counters and histograms: what happened since the start."""

import math
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable

import attrs

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


@attrs.frozen
class HistogramSnapshot:
    """A histogram at one moment.

    Args:
        bounds: seconds, ascending.
        counts: values up to each bound and above the one before; the last is beyond all of them.
        total: seconds of all values together.
    """

    bounds: tuple[float, ...]
    counts: tuple[int, ...]
    total: float


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

    def snapshot(self) -> HistogramSnapshot:
        """Return what was counted up to now."""
        if self._new:
            self._count()
        return HistogramSnapshot(self.bounds, tuple(self._counts), self._total)

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
class RouteCounters:
    """The counters of one route; docs/stats.md says what each of them counts."""

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
    client_error_answers: int = 0
    spool_damaged: int = 0
    callbacks_sent: int = 0
    callbacks_failed: int = 0
    callbacks_dropped: int = 0


COUNTERS = tuple(field.name for field in attrs.fields(RouteCounters))


@attrs.define(eq=False)
class RouteStats(RouteCounters):
    """What is counted of one route. Whoever ends a push adds one to the attribute of that name.

    Args:
        refused_reasons: `messages_refused`, by reason; bounded, as upstreams choose the words.
        upstream_latency: seconds from a request to its answer.
        queue_age: seconds from a push's receipt to a request that carries it.
    """

    refused_reasons: Counter[str] = attrs.field(factory=Counter)
    upstream_latency: Histogram = attrs.field(factory=lambda: Histogram(LATENCY_BOUNDS))
    queue_age: Histogram = attrs.field(factory=lambda: Histogram(AGE_BOUNDS))

    def count_unsent(self, outcome: str, reason: str) -> None:
        """Count a push that ended unsent; a refused one also under its reason.

        The hundredth and later reasons count as `other`.
        """
        counter = f"messages_{outcome}"
        setattr(self, counter, getattr(self, counter) + 1)
        if outcome == "refused":
            known = reason in self.refused_reasons or len(self.refused_reasons) < 99
            self.refused_reasons[reason if known else "other"] += 1

    def counters(self) -> dict[str, int]:
        """Return the counters by name."""
        return {name: getattr(self, name) for name in COUNTERS}


@attrs.frozen
class LatestInvalid:
    """The latest bytes that were not a push, of those with one reason.

    Args:
        reason: one of a fixed set of words.
        detail: a sentence for people, without any value that was sent.
        source: the address they came from.
        count: how many came with this reason.
        age: seconds since the latest.
    """

    reason: str
    detail: str
    source: str
    count: int
    age: float


@attrs.define(eq=False)
class Stats:
    """The counters of the whole process.

    Args:
        seconds: the monotonic clock, for the ages of invalid pushes.
        routes: the counters of each route.
        invalid: `messages_invalid`, by reason; such lines were never received.
    """

    seconds: Callable[[], float]
    routes: dict[str, RouteStats] = attrs.field(factory=dict)
    invalid: Counter[str] = attrs.field(factory=Counter)
    _latest_invalid: dict[str, tuple[str, str, float]] = attrs.field(factory=dict, init=False)

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

    def latest_invalid(self) -> tuple[LatestInvalid, ...]:
        """List the latest bytes of each reason that were not a push."""
        now = self.seconds()
        return tuple(
            LatestInvalid(reason, detail, source, self.invalid[reason], round(now - when, 1))
            for reason, (detail, source, when) in self._latest_invalid.items()
        )
