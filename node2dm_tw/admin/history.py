"""What the plots show: the last 15 minutes, kept here so that a page opened late has them."""

from collections import deque
from collections.abc import Callable

import attrs

from node2dm_tw.core.snapshot import ProcessSnapshot, RouteSnapshot

STEP = 2.0
"""Seconds between two points."""

POINTS = 450
"""Points kept: 15 minutes."""

Counts = tuple[int, int, int]
"""Pushes received, sent and failed."""

Point = list[float]
"""
Pushes a second: received, sent and failed; then pushes in the queue and the age of the next. Of a
route, whose plot is small: sent and failed.
"""


@attrs.define(eq=False)
class History:
    """A ring of points for the totals and for each route.

    Args:
        seconds: monotonic.
    """

    seconds: Callable[[], float]
    _points: deque[dict[str, Point]] = attrs.field(init=False)
    _before: dict[str, Counts] = attrs.field(factory=dict, init=False)
    _since: float = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self._points = deque(maxlen=POINTS)
        self._since = self.seconds()

    def add(self, snapshot: ProcessSnapshot) -> dict[str, Point] | None:
        """Add a point, once a step is over.

        Returns:
            The point of each route, that of the totals under the empty name; None where it is
            too early for another.
        """
        elapsed = self.seconds() - self._since
        # A timer may ring a little early; half a step would not show.
        if elapsed < STEP * 0.75:
            return None
        self._since += elapsed
        routes = snapshot.routes
        counts = {name: _count(route) for name, route in routes.items()}
        received, sent, failed = map(sum, zip(*counts.values(), strict=True))
        point = {"": self._rates("", (received, sent, failed), elapsed)}
        point[""].append(sum(route.messages_in_queue for route in routes.values()))
        point[""].append(max(route.oldest_age for route in routes.values()))
        for name, count in counts.items():
            point[name] = self._rates(name, count, elapsed)[1:]
        self._points.append(point)
        return point

    def _rates(self, name: str, now: Counts, elapsed: float) -> Point:
        before = self._before.get(name, (0, 0, 0))
        self._before[name] = now
        return [round((n - b) / elapsed, 1) for n, b in zip(now, before, strict=True)]

    def series(self) -> dict[str, list[Point]]:
        """Every point kept, the oldest first, by route; that of the totals under the empty name."""
        names = dict.fromkeys(name for point in self._points for name in point)
        return {name: [p[name] for p in self._points if name in p] for name in names}


def _count(route: RouteSnapshot) -> Counts:
    """Count the pushes of a route; those that nobody gets have failed."""
    failed = (
        route.messages_refused
        + route.messages_bad_device
        + route.messages_blocked
        + route.messages_expired
        + route.messages_overflowed
    )
    return route.messages_received, route.messages_sent, failed
