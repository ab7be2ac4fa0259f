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
from node2dm_tw.queues.interface import Lease
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
class MemoryQueue:
    """Pushes in memory. A full queue drops the oldest push that is neither kept nor on lease.

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
    _fresh: deque[Push] = attrs.field(factory=deque, init=False)
    _kept: deque[Push] = attrs.field(factory=deque, init=False)
    _released: deque[Lease] = attrs.field(factory=deque, init=False)
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
        untrack([self._fresh, self._kept])

    def _capacity(self) -> int:
        """Return how many pushes can be restored without overflow, if all have maximum size."""
        return min(self.max_queued - self.depth, self.budget.free // MAX_PUSH_BYTES)

    @property
    def depth(self) -> int:
        return len(self._fresh) + len(self._kept) + len(self._released) + len(self._leased)

    @property
    def queued_bytes(self) -> int:
        """Bytes of all pushes, including those on lease."""
        return self._line_bytes + PUSH_OVERHEAD_BYTES * self.depth

    @property
    def next_received(self) -> float | None:
        if self._released:
            return self._released[0].push.received
        return min((line[0].received for line in (self._kept, self._fresh) if line), default=None)

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
        was_empty = not self._fresh
        size = self._append(self._fresh, pushes)
        # Drop at most as many as came: max_queued may have been lowered.
        if self.depth > self.max_queued:
            for _ in range(min(len(pushes), self.depth - self.max_queued)):
                self.drop_oldest("max_queued")
        self.budget.grow(size)
        if was_empty and self._fresh:
            self.on_ready()

    def keep(self, pushes: list[Push]) -> None:
        """Add pushes that are never dropped for later ones; the caller has made sure of room."""
        was_empty = not self._kept
        self.budget.grow(self._append(self._kept, pushes))
        if was_empty:
            self.on_ready()

    def _append(self, line: deque[Push], pushes: list[Push]) -> int:
        """Append pushes to `line`; return how many bytes they take."""
        line_bytes = len(b"".join([push.line for push in pushes]))  # half the cost of a sum
        if len(line) > UNTRACK_DEPTH:
            untrack(pushes)
        line.extend(pushes)
        self._line_bytes += line_bytes
        return line_bytes + PUSH_OVERHEAD_BYTES * len(pushes)

    def drop_oldest(self, limit: str) -> int:
        if not self._fresh:
            return 0
        push = self._fresh.popleft()
        self._line_bytes -= len(push.line)
        self.stats.messages_overflowed += 1
        self.on_overflow(push, f"{limit} is reached")
        return len(push.line) + PUSH_OVERHEAD_BYTES

    def take(self) -> Lease | None:
        if self._released:
            lease = self._released.popleft()
        elif self._kept and not (self._fresh and self._fresh[0].received < self._kept[0].received):
            lease = Lease(self._kept.popleft())
        elif self._fresh:
            lease = Lease(self._fresh.popleft())
        else:
            return None
        self._leased.add(lease)
        return lease

    def settle(self, lease: Lease) -> None:
        if lease in self._leased:  # otherwise a stop has saved it
            self._leased.remove(lease)
            self._line_bytes -= len(lease.push.line)

    def release(self, lease: Lease) -> None:
        if lease in self._leased:  # otherwise a stop has saved it
            self._leased.remove(lease)
            self._released.append(lease)

    def sleep(self, lease: Lease, until: float) -> None:
        pass

    def stop(self) -> None:
        """Save all pushes, including those on lease. Raises OSError: they are lost."""
        left = [lease.push for lease in (*self._leased, *self._released)]
        left = sorted([*left, *self._kept, *self._fresh], key=lambda push: push.received)
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
        self._released.clear()
        self._kept.clear()
        self._fresh.clear()
        self._line_bytes = 0
        self.stats.messages_handed_over += len(left)
