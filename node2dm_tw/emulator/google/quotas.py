"""So many in so long, counted over a window that slides."""

from collections import deque
from collections.abc import Sequence

import attrs

from node2dm_tw.emulator.settings import Rate


@attrs.define(eq=False)
class SlidingWindow:
    """The moments of what was let through, as many as the largest limit."""

    _limits: Sequence[Rate]
    _longest: float = attrs.field(init=False)
    _passed: deque[float] = attrs.field(factory=deque, init=False)

    @_longest.default
    def _find_longest(self) -> float:
        return max(per for _, per in self._limits)

    def wait(self, now: float) -> float:
        """Count one in, and answer 0; or count nothing, and answer the seconds to wait."""
        passed = self._passed
        while passed and passed[0] <= now - self._longest:
            passed.popleft()
        # A clock that was put back must not make anyone wait for longer than the window is.
        waits = (
            min(passed[-count] + per - now, per)
            for count, per in self._limits
            if len(passed) >= count
        )
        wait = max((0.0, *waits))
        if not wait:
            passed.append(now)
        return wait

    @property
    def empty_after(self) -> float:
        """The moment after which nothing of it is left, in the seconds of `wait`."""
        return self._passed[-1] + self._longest if self._passed else 0.0


@attrs.define(eq=False)
class Quotas:
    """A window for each sender, or for each device; those that are empty again are forgotten."""

    _limits: Sequence[Rate]
    _most: int = 200_000
    _windows: dict[str, SlidingWindow] = attrs.field(factory=dict, init=False)

    def wait(self, name: str, now: float) -> float:
        """Count one in for `name`; 0, or the seconds to wait."""
        if not self._limits:
            return 0.0
        window = self._windows.get(name)
        if window is None:
            if len(self._windows) >= self._most:
                self._forget(now)
            window = self._windows[name] = SlidingWindow(self._limits)
        return window.wait(now)

    def _forget(self, now: float) -> None:
        self._windows = {
            name: window for name, window in self._windows.items() if window.empty_after > now
        }
        while len(self._windows) >= self._most:
            del self._windows[next(iter(self._windows))]
