"""What the plots show: the last 15 minutes, kept here so that a page opened late has them."""

from collections import deque
from collections.abc import Callable
from typing import Any

import attrs

STEP = 2.0
"""Seconds between two points."""

POINTS = 450
"""Points kept: 15 minutes."""

FAILED = (
    "messages_refused",
    "messages_bad_device",
    "messages_blocked",
    "messages_expired",
    "messages_overflowed",
)
"""The endings of a push that nobody gets."""

Values = dict[str, Any]
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
    _before: dict[str, tuple[int, int, int]] = attrs.field(factory=dict, init=False)
    _since: float = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self._points = deque(maxlen=POINTS)
        self._since = self.seconds()

    def add(self, snapshot: Values) -> dict[str, Point] | None:
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
        totals = snapshot["totals"]
        waiting = [totals["messages_in_queue"], totals["oldest_age"]]
        point = {"": [*self._rates("", totals, elapsed), *waiting]}
        for name, values in snapshot["routes"].items():
            point[name] = self._rates(name, values, elapsed)[1:]
        self._points.append(point)
        return point

    def _rates(self, name: str, values: Values, elapsed: float) -> Point:
        failed = sum(values[ending] for ending in FAILED)
        now = (values["messages_received"], values["messages_sent"], failed)
        before = self._before.get(name, (0, 0, 0))
        self._before[name] = now
        return [round((n - b) / elapsed, 1) for n, b in zip(now, before, strict=True)]

    def series(self) -> dict[str, list[Point]]:
        """Every point kept, the oldest first, by route; that of the totals under the empty name."""
        names = dict.fromkeys(name for point in self._points for name in point)
        return {name: [p[name] for p in self._points if name in p] for name in names}
