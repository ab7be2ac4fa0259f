"""The queue in memory, with a spool file for what is left at a stop."""

from collections import deque
from collections.abc import Callable, Iterable

import attrs
from twisted.internet.interfaces import IReactorTime

from node2dm_tw.logs import logger
from node2dm_tw.push import Push
from node2dm_tw.queues.interface import Lease
from node2dm_tw.queues.push_spool import PushSpool
from node2dm_tw.queues.spool import Spool
from node2dm_tw.stats import RouteStats

log = logger()


def _ignore(*_: object) -> None:
    return None


@attrs.define(eq=False)
class MemoryQueue:
    """Pushes in memory. When it is full the oldest push that is not on lease makes room.

    Args:
        max_queued: pushes kept at the most, those on lease included.
        stats: counts what overflows, is taken over, and is handed over.
        spool: where pushes are kept from a stop to the next start.
        clock: monotonic seconds; also for the slices in which the spool is restored.
        wall: seconds since the epoch: a push that crosses a restart is aged by it.
    """

    max_queued: int
    stats: RouteStats
    spool: Spool
    clock: IReactorTime
    wall: Callable[[], float]
    on_ready: Callable[[], None] = _ignore
    on_overflow: Callable[[Push, str], None] = _ignore
    _fresh: deque[Push] = attrs.field(factory=deque, init=False)
    _released: deque[Lease] = attrs.field(factory=deque, init=False)
    _leased: set[Lease] = attrs.field(factory=set, init=False)
    _push_spool: PushSpool = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self._push_spool = PushSpool(
            self.spool,
            self.stats,
            self.clock,
            self.wall,
            lambda: self.max_queued - self.depth,
            self.put,
        )

    @property
    def depth(self) -> int:
        return len(self._fresh) + len(self._released) + len(self._leased)

    @property
    def next_received(self) -> float | None:
        if self._released:
            return self._released[0].push.received
        return self._fresh[0].received if self._fresh else None

    def start(self) -> None:
        self._push_spool.restore()

    def restore(self) -> None:
        """Read files of the spool that could not be read before."""
        self._push_spool.restore()

    def put(self, pushes: Iterable[Push]) -> None:
        before = len(self._fresh)
        self._fresh.extend(pushes)
        came = len(self._fresh) - before
        if self.depth > self.max_queued:
            self._make_room(came)
        if self._fresh and not before:
            self.on_ready()

    def _make_room(self, came: int) -> None:
        """Drop the oldest, but no more than came: the queue may have been made smaller."""
        for _ in range(min(came, self.depth - self.max_queued)):
            push = self._fresh.popleft()
            self.stats.messages_overflowed += 1
            self.on_overflow(push, "max_queued is reached")

    def take(self) -> Lease | None:
        if self._released:
            lease = self._released.popleft()
        elif self._fresh:
            lease = Lease(self._fresh.popleft())
        else:
            return None
        self._leased.add(lease)
        return lease

    def settle(self, lease: Lease) -> None:
        self._leased.discard(lease)

    def release(self, lease: Lease) -> None:
        if lease in self._leased:  # else a stop has saved it
            self._leased.remove(lease)
            self._released.append(lease)

    def stop(self) -> None:
        """Save what is left, what is still on lease included. Raises OSError: it is lost."""
        left = [lease.push for lease in (*self._leased, *self._released)]
        left = sorted([*left, *self._fresh], key=lambda push: push.received)
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
        self._fresh.clear()
        self.stats.messages_handed_over += len(left)
