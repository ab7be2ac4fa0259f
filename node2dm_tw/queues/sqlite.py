"""A queue on disk: the pushes of one route in state_dir/queue.sqlite, until they have ended.

A push is in the queue once it is stored. Urgent ones have a range of ids of their own, so that
those of the others that are on disk only do not stand before them.
"""

from collections.abc import Callable, Iterable
from typing import Any, cast

import attrs
from twisted.internet.defer import Deferred, fail, inlineCallbacks
from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure

from node2dm_tw.core.push import Push
from node2dm_tw.core.stats import RouteStats
from node2dm_tw.queues.interface import MAX_URGENT_RUN, Lease, QueueFull
from node2dm_tw.queues.push_spool import PushSpool
from node2dm_tw.queues.sqlite_line import StoredLease, StoredLine
from node2dm_tw.queues.sqlite_rows import URGENT
from node2dm_tw.queues.sqlite_writer import InsertBatch, RowQueue, SqliteWriter
from node2dm_tw.state.spool import Spool

LIMIT = "max_queued is reached"


@attrs.define(eq=False)
class SqliteQueue:
    """The pushes of one route on disk. A full queue drops the newest.

    Args:
        max_queued: maximum number of pushes, including those that wait for their commit.
        stats: counts pushes that overflow, are taken over, and are handed over.
        spool: what an engine in memory has left.
        clock: monotonic seconds.
        wall: seconds since the epoch.
        writer: the database.
        on_ready: called when a push can be taken after the queue was empty.
        on_overflow: called with each push that is dropped, and the limit that was reached.
    """

    max_queued: int
    stats: RouteStats
    spool: Spool
    clock: IReactorTime
    wall: Callable[[], float]
    writer: SqliteWriter
    on_ready: Callable[[], None]
    on_overflow: Callable[[Push, str], None]
    urgent: StoredLine = attrs.field(init=False)
    others: StoredLine = attrs.field(init=False)
    _urgent_run: int = attrs.field(default=0, init=False)
    """Urgent pushes that were leased since another one was."""
    _push_spool: PushSpool = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self.urgent, self.others = (
            StoredLine(self.stats, self.clock, self.wall, self.writer, self.on_ready)
            for _ in range(2)
        )
        self._push_spool = PushSpool(
            self.spool, self.stats, self.clock, self.wall, lambda: self.room, self._put_spooled
        )

    @property
    def depth(self) -> int:
        return self.urgent.depth + self.others.depth

    @property
    def urgent_depth(self) -> int:
        return self.urgent.depth

    @property
    def asleep(self) -> int:
        return self.urgent.asleep + self.others.asleep

    @property
    def is_writable(self) -> bool | None:
        return self.writer.is_writable

    @property
    def queued_bytes(self) -> int:
        return self.urgent.queued_bytes + self.others.queued_bytes

    @property
    def next_received(self) -> float | None:
        heads = self.urgent.next_received, self.others.next_received
        return min((received for received in heads if received is not None), default=None)

    @property
    def next_urgent_received(self) -> float | None:
        return self.urgent.next_received

    # Start and stop

    def start(self) -> None:
        self._push_spool.restore()

    def reconfigure(self, max_queued: int) -> None:
        self.max_queued = max_queued
        self._push_spool.restore()

    @inlineCallbacks
    def stop(self) -> Any:
        """Commit everything. Fails with OSError: ended pushes are sent again after a start."""
        self._push_spool.pause()
        yield self.writer.flush()
        self._push_spool.save([])
        for line in (self.urgent, self.others):
            line.stop()

    # New pushes

    def put(self, pushes: Iterable[Push]) -> Deferred[None] | None:
        pushes = list(pushes)
        room = self.room
        if len(pushes) > room:
            pushes.sort(key=lambda push: not push.is_urgent)
        taken, dropped = pushes[:room], pushes[room:]
        if not taken:
            self._drop(dropped, LIMIT)
            return None
        try:
            stored = self.writer.insert(InsertBatch(self.split(taken)))
        except QueueFull as error:
            self._drop(pushes, str(error))
            return None

        def on_refused(failure: Failure) -> None:
            failure.trap(QueueFull)
            self._drop(taken, failure.getErrorMessage())

        stored.addErrback(on_refused)
        return stored.addCallback(lambda _: self._drop(dropped, LIMIT))

    @property
    def room(self) -> int:
        """Number of pushes that the queue can take."""
        waiting = self.urgent.waiting + self.others.waiting
        return max(0, self.max_queued - self.depth - waiting)

    def split(self, pushes: list[Push]) -> list[tuple[RowQueue, list[Push]]]:
        """Return the urgent pushes and the others, each with its line, for `InsertBatch`."""
        urgent = [push for push in pushes if push.is_urgent]
        others = [push for push in pushes if not push.is_urgent] if urgent else pushes
        parts = [(self.urgent, urgent), (self.others, others)]
        return [(line, part) for line, part in parts if part]

    def _put_spooled(self, pushes: list[Push]) -> Deferred[None] | None:
        """Store restored pushes, all or none."""
        try:
            return self.writer.insert(InsertBatch(self.split(pushes))) if pushes else None
        except QueueFull as error:
            return fail(error)

    def _drop(self, pushes: list[Push], limit: str) -> None:
        for push in pushes:
            self.stats.messages_overflowed += 1
            self.on_overflow(push, limit)

    # Leases

    def take(self) -> Lease | None:
        lease = None
        if self._urgent_run < MAX_URGENT_RUN:
            lease = self.urgent.take()
        if lease is not None:
            self._urgent_run += 1
            return lease
        lease = self.others.take()
        if lease is not None:
            self._urgent_run = 0
            return lease
        return self.urgent.take()

    def settle(self, lease: Lease) -> None:
        self._line_of(lease).settle(lease)

    def release(self, lease: Lease) -> None:
        self._line_of(lease).release(lease)

    def sleep(self, lease: Lease, until: float) -> None:
        self._line_of(lease).sleep(lease, until)

    def _line_of(self, lease: Lease) -> StoredLine:
        return self.urgent if cast(StoredLease, lease).number & URGENT else self.others
