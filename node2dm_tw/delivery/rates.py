"""How fast a device, and a whole project, may be sent to."""

from collections.abc import Callable

import attrs

CAPACITY = 1_000_000
"""Devices remembered; beyond it, pushes to devices not known wait until others are forgotten."""

CROWDED = 60.0
"""Seconds such a push waits."""

SHORTEST_WAIT = 0.001
"""Seconds; less may be lost in the rounding of a moment, so that a push would come again at once,
and for ever where the clock stands still. It goes instead: `stretched` leaves room for it."""

Limit = tuple[int, float]
"""So many pushes in any so many seconds."""


def stretched(seconds: float) -> float:
    """Give the window for which a limit of `seconds` is kept here, to hold where it is counted.

    Requests do not travel equally long, so what left within a window and a little more may arrive
    within a window: a second more, of a short window less.
    """
    return seconds + min(1.0, seconds / 60)


@attrs.define(eq=False)
class DeviceRates:
    """Token buckets for each device, such that no window of a limit ever holds more than it says.

    A bucket of `burst` that earns count - burst + 1 in the `stretched` seconds lets no more than
    `count` through in any `seconds`. Each is kept as the moment at which it will be full again (the
    generic cell rate algorithm, ITU-T I.371), so that a device costs one small tuple.

    Args:
        limits: all of them hold.
        burst: pushes that may follow one another at once; no more than each limit's count.
        seconds: the clock, monotonic.
    """

    limits: tuple[Limit, ...]
    burst: int
    seconds: Callable[[], float]
    capacity: int = CAPACITY
    _flows: list[tuple[float, float]] = attrs.field(init=False)
    _full_at: dict[bytes, tuple[float, ...]] = attrs.field(factory=dict, init=False)
    _sweep_at: int = attrs.field(default=1_000, init=False)

    def __attrs_post_init__(self) -> None:
        self.change(self.limits, self.burst)

    def __len__(self) -> int:
        return len(self._full_at)

    def change(self, limits: tuple[Limit, ...], burst: int) -> None:
        """Let other limits hold from now on. Buckets keep what was taken from them."""
        if len(limits) != len(self.limits):
            self._full_at = {}
        self.limits, self.burst = limits, burst
        # For each limit the seconds in which a push is earned, and in which a whole burst but one.
        gaps = [stretched(seconds) / (count - burst + 1) for count, seconds in limits]
        self._flows = [(gap, (burst - 1) * gap) for gap in gaps]

    def take(self, device: bytes) -> float:
        """Take one push out of the device's buckets.

        Returns:
            0.0 where it may go now; else the seconds to wait before asking again, nothing taken.
        """
        if not self.limits:
            return 0.0
        now = self.seconds()
        full_at = self._full_at.get(device)
        if full_at is None:
            if not self._has_room(now):
                return CROWDED
            full_at = (now,) * len(self._flows)
        wait = 0.0
        taken = []
        for full, (gap, saved) in zip(full_at, self._flows, strict=True):
            if full > now:
                wait = max(wait, full - now - saved)
                taken.append(full + gap)
            else:
                taken.append(now + gap)
        if wait > SHORTEST_WAIT:
            return wait
        self._full_at[device] = tuple(taken)
        return 0.0

    def _has_room(self, now: float) -> bool:
        """Forget devices whose buckets are full, each time their number has doubled."""
        if len(self._full_at) >= min(self._sweep_at, self.capacity):
            self._full_at = {
                device: full_at for device, full_at in self._full_at.items() if max(full_at) > now
            }
            self._sweep_at = max(1_000, 2 * len(self._full_at))
        return len(self._full_at) < self.capacity


RAMP = 60.0
"""Seconds from nothing to the full rate, as Google's page on scaling asks for."""

SHARE = 0.05
"""Seconds' worth of pushes that may be saved up, to make good for the reactor's coarse timing."""


@attrs.define(eq=False)
class Pace:
    """Spreads a project's rate evenly, growing linearly from zero after a start or a pause.

    Args:
        limit: pushes in any so many seconds.
        seconds: the clock, monotonic.
    """

    limit: Limit
    seconds: Callable[[], float]
    _most_saved: float = attrs.field(init=False)
    _rate: float = attrs.field(init=False)
    _began: float = attrs.field(init=False)
    _spent: float = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self.restart()
        self._follow(self.limit)

    def restart(self) -> None:
        """Begin again from zero."""
        self._began = self.seconds()
        self._spent = 0.0

    def change(self, limit: Limit) -> None:
        """Let another limit hold from now on, without another slow start."""
        age = self.seconds() - self._began
        saved = self._earned(age) - self._spent
        self._follow(limit)
        self._spent = self._earned(age) - min(saved, self._most_saved)

    def _follow(self, limit: Limit) -> None:
        self.limit = limit
        count, seconds = limit
        self._most_saved = max(1.0, count / seconds * SHARE)
        # Pushes a second once the ramp is over; what may be saved up counts into the limit.
        self._rate = max(count - self._most_saved, 0.5) / stretched(seconds)

    def wait(self) -> float:
        """Seconds until a push may go; 0.0 where one may go now."""
        age = self.seconds() - self._began
        earned = self._earned(age)
        if earned - self._spent > self._most_saved:
            self._spent = earned - self._most_saved
        return 0.0 if earned - self._spent >= 1.0 else self._until_next(age)

    def spend(self) -> None:
        """A push goes."""
        self._spent += 1.0

    def _earned(self, age: float) -> float:
        """Pushes earned since the beginning: the ramp's triangle, then an even flow."""
        return self._rate * (age - RAMP / 2 if age > RAMP else age * age / (2 * RAMP))

    def _until_next(self, age: float) -> float:
        """Seconds until a whole push is earned."""
        goal = (self._spent + 1.0) / self._rate
        if goal <= RAMP / 2:
            return float((2 * RAMP * goal) ** 0.5 - age)
        return goal + RAMP / 2 - age
