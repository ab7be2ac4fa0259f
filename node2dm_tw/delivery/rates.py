"""How fast pushes may go to one device, and to a whole project."""

from collections.abc import Callable
from math import inf

import attrs

CAPACITY = 1_000_000
"""Devices remembered; beyond it, pushes to unknown devices wait until others are forgotten."""

FULL_WAIT = 60.0
"""Seconds that such a push waits."""

SHORTEST_WAIT = 0.001
"""Seconds; less may be lost when a moment is rounded, so that a push would come back at once, and
endlessly where the clock stands still. Such a push goes: `safety_window` allows for it."""

MAX_SHARDS = 64
"""Parts of the devices, each with dicts of its own: sweeping or resizing one takes about 1 ms."""

SWEEP_INTERVAL = 10.0
"""Seconds between two sweeps of a full shard that has hardly grown since the first."""

Limit = tuple[int, float]
"""So many pushes in any so many seconds."""


def safety_window(seconds: float) -> float:
    """Lengthen the window of a limit, so that the limit also holds where Google counts.

    Requests do not travel equally long: what leaves within slightly more than a window may arrive
    within one. Adds a second, to a short window less.
    """
    return seconds + min(1.0, seconds / 60)


@attrs.define(eq=False)
class _Buckets:
    """The buckets of one limit, for the devices of one shard.

    Args:
        capacity: devices kept at the most.

    Attributes:
        interval: seconds in which a bucket earns a push.
        tolerance: seconds in which it earns a whole burst but one.
        full_at: the moment at which each bucket will be full. The values are floats because the
            garbage collector does not track a dict that holds no containers.
        sweep_at: devices at which `make_room` must be called before the next one is added.
    """

    capacity: int
    interval: float = attrs.field(default=0.0, init=False)
    tolerance: float = attrs.field(default=0.0, init=False)
    full_at: dict[bytes, float] = attrs.field(factory=dict, init=False)
    sweep_at: int = attrs.field(default=1, init=False)
    _kept: int = attrs.field(default=0, init=False)
    _swept: float = attrs.field(default=-inf, init=False)

    def make_room(self, now: float) -> bool:
        """Forget the devices whose buckets are full; return whether there is room for another.

        The devices added since the last sweep, or the time since then, pay for a sweep.
        """
        has_grown = 16 * len(self.full_at) >= 17 * self._kept
        if has_grown or now - self._swept >= SWEEP_INTERVAL:
            self.full_at = {device: full for device, full in self.full_at.items() if full > now}
            self._kept, self._swept = len(self.full_at), now
            self.sweep_at = min(2 * self._kept + 16, self.capacity)
        return len(self.full_at) < self.capacity


@attrs.define(eq=False)
class DeviceRates:
    """Token buckets for each device, such that no window of a limit ever holds more than it says.

    A bucket of `burst` that earns count - burst + 1 pushes in the `safety_window` lets no more than
    `count` through in any `seconds`. Each is kept as the moment at which it will be full again (the
    generic cell rate algorithm, ITU-T I.371).

    Args:
        limits: all of them hold.
        burst: pushes that may follow one another at once; no more than each limit's count.
        capacity: devices remembered at the most.
    """

    limits: tuple[Limit, ...]
    burst: int
    capacity: int = CAPACITY
    _shards: list[list[_Buckets]] = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self._shards = [[] for _ in range(min(MAX_SHARDS, self.capacity // 1_000 or 1))]
        self.reconfigure(self.limits, self.burst)

    def __len__(self) -> int:
        limits = zip(*self._shards, strict=True)
        return max((sum(len(part.full_at) for part in parts) for parts in limits), default=0)

    def reconfigure(self, limits: tuple[Limit, ...], burst: int) -> None:
        """Apply other limits from now on. Buckets keep what was taken from them."""
        self.limits, self.burst = limits, burst
        for shard in self._shards:
            if len(shard) != len(limits):
                shard[:] = [_Buckets(self.capacity // len(self._shards)) for _ in limits]
            for buckets, (count, seconds) in zip(shard, limits, strict=True):
                buckets.interval = safety_window(seconds) / (count - burst + 1)
                buckets.tolerance = (burst - 1) * buckets.interval

    def take(self, device: bytes, now: float) -> float:
        """Take one push out of the device's buckets.

        Args:
            now: seconds, monotonic.

        Returns:
            0.0 where it may go now; else the seconds to wait before asking again, nothing taken.
        """
        shard = self._shards[hash(device) % len(self._shards)]
        wait = 0.0
        for buckets in shard:
            full_at = buckets.full_at
            if device in full_at:
                wait = max(wait, full_at[device] - now - buckets.tolerance)
            elif len(full_at) >= buckets.sweep_at and not buckets.make_room(now):
                return FULL_WAIT
        if wait > SHORTEST_WAIT:
            return wait
        for buckets in shard:
            full_at = buckets.full_at
            full = max(now, full_at[device]) if device in full_at else now
            full_at[device] = full + buckets.interval
        return 0.0


RAMP_UP_SECONDS = 60.0
"""From nothing to the full rate, as Google's page on scaling asks for."""

USE_SECONDS = 60.0
"""Seconds over which the use of a limit is shown; of a limit with a longer window, that window."""

MAX_BURST_SECONDS = 0.05
"""Seconds' worth of pushes that may be saved up, to make good for the reactor's coarse timing."""


@attrs.define(eq=False)
class RecentCount:
    """Estimates how many events there were in the last window, from two numbers only.

    Counts the events of this window and of the one before, and takes those before as spread evenly.

    Args:
        window: seconds.
        began: seconds, monotonic: when the present window began.
    """

    window: float
    began: float
    _present: float = attrs.field(default=0.0, init=False)
    _before: float = attrs.field(default=0.0, init=False)

    def add(self, number: float, now: float) -> None:
        """Count events that were before `now`, and after the last call."""
        self._present += number
        if now - self.began >= self.window:
            windows = (now - self.began) // self.window
            self._before = self._present if windows == 1 else 0.0
            self._present = 0.0
            self.began += windows * self.window

    def estimate(self, now: float) -> float:
        """Return the events in the window before `now`, which is the moment of the last `add`."""
        return self._present + self._before * (1 - (now - self.began) / self.window)


@attrs.define(eq=False)
class ProjectRate:
    """Spreads a project's pushes evenly, growing linearly from zero after a start or a pause.

    Args:
        limit: pushes in any so many seconds.
        seconds: the clock, monotonic.

    Attributes:
        available: pushes that may go, as of the last call of `wait`; whoever sends one takes 1 off.
    """

    limit: Limit
    seconds: Callable[[], float]
    available: float = attrs.field(default=0.0, init=False)
    _max_saved: float = attrs.field(init=False)
    _rate: float = attrs.field(init=False)
    _began: float = attrs.field(init=False)
    _counted: float = attrs.field(init=False)
    _offered: float = attrs.field(default=0.0, init=False)
    _sent: RecentCount = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self._sent = RecentCount(USE_SECONDS, self.seconds())
        self.restart()
        self._apply(self.limit)

    def restart(self) -> None:
        """Start again from zero."""
        self._began = self._count_sent()
        self._counted = self.available = self._offered = 0.0

    @property
    def used(self) -> float:
        """The share of the limit used in the last minute, or in its window if that is longer."""
        now = self._count_sent()
        count, seconds = self.limit
        return self._sent.estimate(now) / count * (seconds / self._sent.window)

    def _count_sent(self) -> float:
        """Count what was sent since the last call; return the present moment."""
        now = self.seconds()
        self._sent.add(self._offered - self.available, now)
        self._offered = self.available
        return now

    def reconfigure(self, limit: Limit) -> None:
        """Apply another limit from now on, without another slow start."""
        self.wait()
        self._apply(limit)
        self._counted = self._earned(self.seconds() - self._began)
        self.available = self._offered = min(self.available, self._max_saved)

    def _apply(self, limit: Limit) -> None:
        self.limit = limit
        count, seconds = limit
        window = max(USE_SECONDS, seconds)
        if window != self._sent.window:
            self._sent = RecentCount(window, self.seconds())
        self._max_saved = max(1.0, count / seconds * MAX_BURST_SECONDS)
        # Pushes a second once the ramp is over; what may be saved up counts into the limit.
        self._rate = max(count - self._max_saved, 0.5) / safety_window(seconds)

    def wait(self) -> float:
        """Look at the clock; return the seconds until a push may go, 0.0 where one may go now."""
        age = self._count_sent() - self._began
        earned = self._earned(age)
        self.available = min(self.available + earned - self._counted, self._max_saved)
        self._offered = self.available
        self._counted = earned
        return 0.0 if self.available >= 1.0 else self._until_next(age)

    def _earned(self, age: float) -> float:
        """Pushes earned since the beginning: the ramp's triangle, then an even flow."""
        if age > RAMP_UP_SECONDS:
            return self._rate * (age - RAMP_UP_SECONDS / 2)
        return self._rate * age * age / (2 * RAMP_UP_SECONDS)

    def _until_next(self, age: float) -> float:
        """Seconds until a whole push is earned."""
        goal = (self._counted + 1.0 - self.available) / self._rate
        if goal <= RAMP_UP_SECONDS / 2:
            return float((2 * RAMP_UP_SECONDS * goal) ** 0.5 - age)
        return goal + RAMP_UP_SECONDS / 2 - age
