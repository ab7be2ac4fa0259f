"""Rate limits over a sliding window."""

from collections import deque
from collections.abc import Sequence

import attrs

from node2dm_tw.emulator.settings import Rate


@attrs.define(eq=False)
class SlidingWindow:
    """The times of the events that were allowed, as many as the largest limit."""

    _limits: Sequence[Rate]
    _longest_period: float = attrs.field(init=False)
    _times: deque[float] = attrs.field(factory=deque, init=False)

    @_longest_period.default
    def _find_longest_period(self) -> float:
        return max(per for _, per in self._limits)

    def consume(self, now: float) -> float:
        """Count an event and return 0; over the limit, return the seconds to wait instead."""
        times = self._times
        while times and times[0] <= now - self._longest_period:
            times.popleft()
        # After a step back of the clock, nobody must wait for longer than the window.
        waits = (
            min(times[-count] + per - now, per)
            for count, per in self._limits
            if len(times) >= count
        )
        wait = max((0.0, *waits))
        if not wait:
            times.append(now)
        return wait

    @property
    def empty_after(self) -> float:
        """The time after which the window is empty, in the seconds of `now`."""
        return self._times[-1] + self._longest_period if self._times else 0.0


@attrs.define(eq=False)
class Quotas:
    """A window for each sender or device; empty windows are dropped."""

    _limits: Sequence[Rate]
    _max_windows: int = 200_000
    _windows: dict[str, SlidingWindow] = attrs.field(factory=dict, init=False)

    def consume(self, name: str, now: float) -> float:
        """Count an event of `name` and return 0, or return the seconds to wait."""
        if not self._limits:
            return 0.0
        window = self._windows.get(name)
        if window is None:
            if len(self._windows) >= self._max_windows:
                self._drop_empty(now)
            window = self._windows[name] = SlidingWindow(self._limits)
        return window.consume(now)

    def _drop_empty(self, now: float) -> None:
        self._windows = {
            name: window for name, window in self._windows.items() if window.empty_after > now
        }
        while len(self._windows) >= self._max_windows:
            del self._windows[next(iter(self._windows))]
