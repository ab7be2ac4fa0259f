"""The queue in memory, with a spool file for pushes that are unsent at a stop."""

from collections import deque
from collections.abc import Callable, Iterable

import attrs
from twisted.internet.interfaces import IReactorTime

from node2dm_tw.core.logs import logger
from node2dm_tw.core.push import Push
from node2dm_tw.core.stats import RouteStats
from node2dm_tw.core.untracked import untrack
from node2dm_tw.queues.budget import PUSH_OVERHEAD_BYTES, ByteBudget
from node2dm_tw.queues.interface import MAX_URGENT_RUN, Lease
from node2dm_tw.queues.push_spool import PushSpool
from node2dm_tw.state.spool import Spool

log = logger()

MAX_PUSH_BYTES = 65_536 + PUSH_OVERHEAD_BYTES
"""Maximum size of a push, whose line is part of one datagram."""

UNTRACK_DEPTH = 10_000
"""Depth above which new pushes are excluded from garbage collection; below, it takes a few ms."""


def _ignore(*_: object) -> None:
    return None


@attrs.define(eq=False)
class Lines:
    """Where pushes wait: those released, those that are never dropped, and all others."""

    released: deque[Lease] = attrs.field(factory=deque)
    kept: deque[Push] = attrs.field(factory=deque)
    fresh: deque[Push] = attrs.field(factory=deque)

    def __attrs_post_init__(self) -> None:
        untrack([self.kept, self.fresh])

    def __len__(self) -> int:
        return len(self.released) + len(self.kept) + len(self.fresh)

    @property
    def next_received(self) -> float | None:
        """When the next push was received; None if there is none."""
        if self.released:
            return self.released[0].push.received
        return min((line[0].received for line in (self.kept, self.fresh) if line), default=None)

    def clear(self) -> None:
        """Remove all pushes."""
        for line in (self.released, self.kept, self.fresh):
            line.clear()


@attrs.define(eq=False)
class MemoryQueue:
    """Pushes in memory. A full queue drops the oldest push that is neither kept nor on lease.

    An urgent one is dropped only where there is no other.

    Args:
        max_queued: maximum number of pushes, including those on lease.
        stats: counts pushes that overflow, are taken over, and are handed over.
        spool: keeps pushes from a stop to the next start.
        clock: monotonic seconds; also schedules the slices in which the spool is restored.
        wall: seconds since the epoch, for the age of a push over a restart.
        budget: limits the bytes of all queues together.
        on_ready: called when a push can be taken after the queue was empty.
        on_overflow: called with each push that is dropped, and the limit that was reached.
    """

    max_queued: int
    stats: RouteStats
    spool: Spool
    clock: IReactorTime
    wall: Callable[[], float]
    budget: ByteBudget = attrs.field(factory=ByteBudget)
    on_ready: Callable[[], None] = _ignore
    on_overflow: Callable[[Push, str], None] = _ignore
    _line_bytes: int = attrs.field(default=0, init=False)
    depth: int = attrs.field(default=0, init=False)
    urgent_depth: int = attrs.field(default=0, init=False)
    _urgent_run: int = attrs.field(default=0, init=False)
    """Urgent pushes that were leased since another one was."""
    _urgent: Lines = attrs.field(factory=Lines, init=False)
    _others: Lines = attrs.field(factory=Lines, init=False)
    _leased: set[Lease] = attrs.field(factory=set, init=False)
    _push_spool: PushSpool = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self._push_spool = PushSpool(
            self.spool,
            self.stats,
            self.clock,
            self.wall,
            self._capacity,
            self.put,
        )
        self.budget.add(self)

    def _capacity(self) -> int:
        """Return how many pushes can be restored without overflow, if all have maximum size."""
        return min(self.max_queued - self.depth, self.budget.free // MAX_PUSH_BYTES)

    @property
    def queued_bytes(self) -> int:
        """Bytes of all pushes, including those on lease."""
        return self._line_bytes + PUSH_OVERHEAD_BYTES * self.depth

    @property
    def next_received(self) -> float | None:
        heads = self._urgent.next_received, self._others.next_received
        return min((received for received in heads if received is not None), default=None)

    @property
    def next_urgent_received(self) -> float | None:
        return self._urgent.next_received

    @property
    def asleep(self) -> int:
        return 0

    @property
    def is_writable(self) -> bool | None:
        return None

    def start(self) -> None:
        self._push_spool.restore()

    def reconfigure(self, max_queued: int) -> None:
        """Keep another number of pushes, and restore files that could not be read before."""
        self.max_queued = max_queued
        self._push_spool.restore()

    def put(self, pushes: Iterable[Push]) -> None:
        pushes = list(pushes)
        is_idle, others, size = not self._others.fresh, pushes, 0
        urgent = [push for push in pushes if push.is_urgent]
        if urgent:
            is_idle, others = True, [push for push in pushes if not push.is_urgent]
            self.urgent_depth += len(urgent)
            size = self._append(self._urgent.fresh, urgent)
        if others:
            size += self._append(self._others.fresh, others)
        # Drop at most as many as came: max_queued may have been lowered.
        if self.depth > self.max_queued:
            for _ in range(min(len(pushes), self.depth - self.max_queued)):
                self.drop_oldest("max_queued")
        self.budget.grow(size)
        if is_idle and (self._others.fresh or urgent):
            self.on_ready()

    def keep(self, pushes: list[Push]) -> None:
        """Add pushes that are never dropped for later ones; the caller has made sure of room."""
        urgent = [push for push in pushes if push.is_urgent]
        is_idle = bool(urgent) or not self._others.kept
        self.urgent_depth += len(urgent)
        size = self._append(self._urgent.kept, urgent)
        size += self._append(self._others.kept, [push for push in pushes if not push.is_urgent])
        self.budget.grow(size)
        if is_idle:
            self.on_ready()

    def _append(self, line: deque[Push], pushes: list[Push]) -> int:
        """Append pushes to `line`; return how many bytes they take."""
        line_bytes = len(b"".join([push.line for push in pushes]))  # half the cost of a sum
        if len(line) > UNTRACK_DEPTH:
            untrack(pushes)
        line.extend(pushes)
        self.depth += len(pushes)
        self._line_bytes += line_bytes
        return line_bytes + PUSH_OVERHEAD_BYTES * len(pushes)

    def drop_oldest(self, limit: str) -> int:
        fresh = self._others.fresh or self._urgent.fresh
        if not fresh:
            return 0
        push = fresh.popleft()
        self.depth -= 1
        self.urgent_depth -= push.is_urgent
        self._line_bytes -= len(push.line)
        self.stats.messages_overflowed += 1
        self.on_overflow(push, f"{limit} is reached")
        return len(push.line) + PUSH_OVERHEAD_BYTES

    def take(self) -> Lease | None:
        lines = self._choose_lines() if self.urgent_depth else self._others
        if lines.released:
            lease = lines.released.popleft()
        elif lines.kept and not (lines.fresh and lines.fresh[0].received < lines.kept[0].received):
            lease = Lease(lines.kept.popleft())
        elif lines.fresh:
            lease = Lease(lines.fresh.popleft())
        else:
            return None
        self._leased.add(lease)
        return lease

    def _choose_lines(self) -> Lines:
        """Return the lines of which the next push is taken, and count the urgent in a row."""
        is_others_turn = self._urgent_run >= MAX_URGENT_RUN and self._others
        if is_others_turn or not self._urgent:
            self._urgent_run = 0
            return self._others
        self._urgent_run += 1
        return self._urgent

    def settle(self, lease: Lease) -> None:
        try:
            self._leased.remove(lease)
        except KeyError:  # a stop has saved it
            return
        push = lease.push
        self.depth -= 1
        self._line_bytes -= len(push.line)
        if push.is_urgent:
            self.urgent_depth -= 1

    def release(self, lease: Lease) -> None:
        if lease in self._leased:  # otherwise a stop has saved it
            self._leased.remove(lease)
            lines = self._urgent if lease.push.is_urgent else self._others
            lines.released.append(lease)

    def sleep(self, lease: Lease, until: float) -> None:
        pass

    def stop(self) -> None:
        """Save all pushes, including those on lease. Raises OSError: they are lost."""
        left = [lease.push for lease in self._leased]
        for lines in (self._urgent, self._others):
            left += [*(lease.push for lease in lines.released), *lines.kept, *lines.fresh]
        left.sort(key=lambda push: push.received)
        left.sort(key=lambda push: not push.is_urgent)  # then these are restored first
        try:
            self._push_spool.save(left)
        except OSError as error:
            log.critical(
                "{count} pushes are lost: {path} cannot be written: {error}",
                count=len(left),
                path=str(self.spool.path),
                error=error.strerror or str(error),
            )
            raise
        self._leased.clear()
        self._urgent.clear()
        self._others.clear()
        self.depth = self.urgent_depth = self._line_bytes = self._urgent_run = 0
        self.stats.messages_handed_over += len(left)
