"""The one place where pushes of a lane sleep until it is their time again."""

import heapq
from collections.abc import Callable

import attrs
from twisted.internet.interfaces import IDelayedCall, IReactorTime

from node2dm_tw.queues.interface import Lease

DEVICE_LIMIT = 20
"""Pushes that may sleep for one device."""


@attrs.define(eq=False)
class _Sleeper:
    """A lease and the moment before which it must not be sent, in seconds of the clock."""

    not_before: float
    sequence: int
    lease: Lease

    def __lt__(self, other: "_Sleeper") -> bool:
        return (self.not_before, self.sequence) < (other.not_before, other.sequence)


@attrs.define(eq=False)
class WaitingRoom:
    """A heap of sleeping leases by time, indexed by device, with one timer.

    Args:
        clock: for the timer.
        capacity: leases that may sleep at once.
        wake: called when a lease has become due.

    Attributes:
        heap: who sleeps; looking at it costs less than asking for the length.
    """

    clock: IReactorTime
    capacity: int
    wake: Callable[[], None] = attrs.field(default=lambda: None)
    heap: list[_Sleeper] = attrs.field(factory=list, init=False)
    _devices: dict[bytes, list[_Sleeper]] = attrs.field(factory=dict, init=False)
    _sequence: int = attrs.field(default=0, init=False)
    _timer: IDelayedCall | None = attrs.field(default=None, init=False)

    def __len__(self) -> int:
        return len(self.heap)

    def sleep(self, lease: Lease, delay: float) -> bool:
        """Put `lease` to sleep for `delay` seconds.

        Returns:
            False where there is no room for it: the caller must end it.
        """
        sleepers = self._devices.get(lease.push.device, ())
        if len(self.heap) >= self.capacity or len(sleepers) >= DEVICE_LIMIT:
            return False
        self._sequence += 1
        sleeper = _Sleeper(self.clock.seconds() + delay, self._sequence, lease)
        self._devices.setdefault(lease.push.device, []).append(sleeper)
        heapq.heappush(self.heap, sleeper)
        self._set_timer()
        return True

    def replace(self, newer: Lease) -> Lease | None:
        """Let `newer` sleep in the place of a push for the same device and collapse key.

        Returns:
            The lease it replaced, which the caller must end; None where none sleeps.
        """
        key = newer.push.collapse_key
        for sleeper in self._devices.get(newer.push.device, ()) if key else ():
            older = sleeper.lease
            if older.push.collapse_key == key and older.push.received <= newer.push.received:
                sleeper.lease = newer
                newer.attempts = older.attempts
                return older
        return None

    def take_due(self) -> Lease | None:
        """Give back the lease that has been due the longest, if any is."""
        if not self.heap:
            return None
        if self.heap[0].not_before > self.clock.seconds():
            self._set_timer()
            return None
        return self._pop()

    @property
    def next_due(self) -> float:
        """The moment at which the first of them, there must be one, becomes due."""
        return self.heap[0].not_before

    def empty(self) -> list[Lease]:
        """Give back every lease, due or not, in the order of their times."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        return [self._pop() for _ in range(len(self.heap))]

    def _pop(self) -> Lease:
        sleeper = heapq.heappop(self.heap)
        device = sleeper.lease.push.device
        sleepers = self._devices[device]
        sleepers.remove(sleeper)
        if not sleepers:
            del self._devices[device]
        return sleeper.lease

    def _set_timer(self) -> None:
        """Have the timer go off when the first sleeper is due: perhaps too early, never late."""
        delay = max(0.0, self.heap[0].not_before - self.clock.seconds())
        if self._timer is None:
            self._timer = self.clock.callLater(delay, self._ring)
        elif self._timer.getTime() > self.heap[0].not_before:
            self._timer.reset(delay)

    def _ring(self) -> None:
        """Wake the lane; whoever takes until nothing is due sets the timer again."""
        self._timer = None
        self.wake()
