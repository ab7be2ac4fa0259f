"""The retry queue: where the pushes of a lane sleep until it is their time again."""

import heapq
from collections import deque
from collections.abc import Callable

import attrs
from twisted.internet.interfaces import IDelayedCall, IReactorTime

from node2dm_tw.queues.interface import Lease

MAX_PER_DEVICE = 20
"""Pushes that may sleep for one device because of its rate."""

TARGET_SHARE = 10
"""A target may hold one in so many places, where answers make its pushes sleep."""


@attrs.define(eq=False)
class _Entry:
    """A lease, or a target whose pushes are parked, and when it is due, in seconds of the clock."""

    not_before: float
    sequence: int
    lease: Lease | None
    target: bytes

    def __lt__(self, other: "_Entry") -> bool:
        return (self.not_before, self.sequence) < (other.not_before, other.sequence)


@attrs.define(eq=False)
class _Target:
    """What sleeps for one target.

    Args:
        asleep: leases in the heap.
        parked: those that wait for the target as a whole, in order; one is due at a time.
        alarm: the target's own entry in the heap, while any are parked.
    """

    asleep: int = 0
    parked: deque[_Entry] = attrs.field(factory=deque)
    alarm: _Entry | None = None


@attrs.define(eq=False)
class RetryQueue:
    """A heap of sleeping leases by time, with one timer, and a line of parked ones for each target.

    Args:
        clock: for the timer.
        retry_capacity: leases that may sleep at once.
        on_due: called when a lease has become due.
        on_sleep: called with each lease that must not be sent for so many seconds.

    Attributes:
        heap: its entries; looking at it costs less than asking for the length.
    """

    clock: IReactorTime
    retry_capacity: int
    on_due: Callable[[], None] = attrs.field(default=lambda: None)
    on_sleep: Callable[[Lease, float], None] | None = None
    heap: list[_Entry] = attrs.field(factory=list, init=False)
    _count: int = attrs.field(default=0, init=False)
    _targets: dict[bytes, _Target] = attrs.field(factory=dict, init=False)
    _by_key: dict[bytes, _Entry] = attrs.field(factory=dict, init=False)
    _sequence: int = attrs.field(default=0, init=False)
    _timer: IDelayedCall | None = attrs.field(default=None, init=False)

    def __len__(self) -> int:
        return self._count

    @property
    def is_full(self) -> bool:
        """Whether no further lease may sleep."""
        return self._count >= self.retry_capacity

    @property
    def target_capacity(self) -> int:
        """Leases that may sleep for one target because of answers."""
        return max(MAX_PER_DEVICE, self.retry_capacity // TARGET_SHARE)

    def reconfigure(self, retry_capacity: int) -> None:
        """Let another number sleep from now on; those that sleep stay."""
        self.retry_capacity = retry_capacity

    def has_room(self, target: bytes, most: int) -> bool:
        """Whether fewer than `most` leases sleep for `target`."""
        held = self._targets.get(target)
        return held is None or held.asleep + len(held.parked) < most

    def sleep(self, lease: Lease, delay: float) -> None:
        """Put `lease` to sleep for `delay` seconds; the caller has made sure that there is room."""
        entry = self._enter(delay, lease)
        self._targets.setdefault(entry.target, _Target()).asleep += 1
        self._push(entry)

    def park(self, lease: Lease, delay: float, *, first: bool = False) -> None:
        """Let `lease` wait for its target, of whose leases the first is due in `delay` seconds.

        Args:
            first: it goes before the others, and the moment of the target is that of this call.
        """
        entry = self._enter(delay, lease)
        held = self._targets.setdefault(entry.target, _Target())
        (held.parked.appendleft if first else held.parked.append)(entry)
        if held.alarm is None or first:
            self._set_alarm(held, entry.target, entry.not_before)

    def unpark(self, target: bytes) -> list[Lease]:
        """Give back every lease parked for `target`, in order."""
        held = self._targets.get(target)
        if held is None:
            return []
        leases = []
        while held.parked:
            leases.append(lease := self._leave(held.parked.popleft()))
            if self.on_sleep is not None:
                self.on_sleep(lease, 0.0)
        self._set_alarm(held, target, None)
        self._forget_if_empty(target, held)
        return leases

    def replace(self, newer: Lease) -> Lease | None:
        """Let `newer` sleep in the place of a push for the same device and collapse key.

        Returns:
            The lease it replaced, which the caller must end; None where none sleeps.
        """
        entry = self._by_key.get(_key(newer))
        if entry is None or entry.lease is None:
            return None
        older, push = entry.lease, newer.push
        if older.push.received > push.received or older.push.device_end != push.device_end:
            return None
        entry.lease = newer
        newer.attempts = older.attempts
        if self.on_sleep is not None:
            self.on_sleep(newer, entry.not_before - self.clock.seconds())
        return older

    def take_due(self) -> Lease | None:
        """Give back the lease that has been due the longest, if any is."""
        while self.heap:
            if self.heap[0].not_before > self.clock.seconds():
                self._set_timer()
                return None
            lease = self._pop()
            if lease is not None:
                return lease
        return None

    @property
    def next_due(self) -> float:
        """The moment at which the first of them, there must be one, becomes due."""
        return self.heap[0].not_before

    def empty(self) -> list[Lease]:
        """Give back every lease, due or not, in the order of their times."""
        leases = []
        while self.heap:
            lease = self._pop()
            if lease is not None:
                leases.append(lease)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        return leases

    def _enter(self, delay: float, lease: Lease) -> _Entry:
        """Make the entry of a lease, and let a newer push with its collapse key find it."""
        self._sequence += 1
        self._count += 1
        if self.on_sleep is not None:
            self.on_sleep(lease, delay)
        entry = _Entry(self.clock.seconds() + delay, self._sequence, lease, lease.push.device)
        if lease.push.collapse_key:
            self._by_key[_key(lease)] = entry
        return entry

    def _leave(self, entry: _Entry) -> Lease:
        """Give back the lease of an entry that is in no line any more."""
        lease = entry.lease
        assert lease is not None
        self._count -= 1
        if self._by_key.get(_key(lease)) is entry:
            del self._by_key[_key(lease)]
        return lease

    def _push(self, entry: _Entry) -> None:
        heapq.heappush(self.heap, entry)
        self._set_timer()

    def _set_alarm(self, held: _Target, target: bytes, not_before: float | None) -> None:
        """Have the first that is parked be due at a moment, or at none."""
        if held.alarm is not None:
            held.alarm.target = b""  # stays in the heap, and stands for nothing
            held.alarm = None
        if not_before is not None:
            self._sequence += 1
            held.alarm = _Entry(not_before, self._sequence, None, target)
            self._push(held.alarm)

    def _pop(self) -> Lease | None:
        """Take the first entry out of the heap; None where it stands for nothing."""
        entry = heapq.heappop(self.heap)
        held = self._targets.get(entry.target)
        if held is None:
            return None
        if entry.lease is None:
            held.alarm = None
            lease = self._leave(held.parked.popleft())
            if held.parked:
                self._set_alarm(held, entry.target, entry.not_before)
        else:
            held.asleep -= 1
            lease = self._leave(entry)
        self._forget_if_empty(entry.target, held)
        return lease

    def _forget_if_empty(self, target: bytes, held: _Target) -> None:
        if not held.asleep and not held.parked:
            del self._targets[target]

    def _set_timer(self) -> None:
        """Have the timer go off when the first entry is due: perhaps too early, never late."""
        delay = max(0.0, self.heap[0].not_before - self.clock.seconds())
        if self._timer is None:
            self._timer = self.clock.callLater(delay, self._timer_fired)
        elif self._timer.getTime() > self.heap[0].not_before:
            self._timer.reset(delay)

    def _timer_fired(self) -> None:
        """Call the lane; whoever takes until nothing is due sets the timer again."""
        self._timer = None
        self.on_due()


def _key(lease: Lease) -> bytes:
    """Device and collapse key of a lease."""
    return lease.push.line[: lease.push.key_end]
