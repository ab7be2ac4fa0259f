"""The queue in memory, with a spool file for what is left at a stop."""

import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from itertools import chain, islice

import attrs
from twisted.internet.interfaces import IDelayedCall, IReactorTime

from node2dm_tw.logs import logger
from node2dm_tw.push import Push
from node2dm_tw.queues.budget import PUSH_OVERHEAD_BYTES, ByteBudget
from node2dm_tw.queues.interface import Lease
from node2dm_tw.queues.spool import Spool, from_record, to_record
from node2dm_tw.stats import RouteStats

log = logger()

SLICE = 500
"""Spooled pushes taken up before the reactor gets its turn."""

MAX_PUSH_BYTES = 65_536 + PUSH_OVERHEAD_BYTES
"""Bytes that a push may take: its line comes in one datagram."""


def _ignore() -> None:
    return None


@attrs.define(eq=False)
class MemoryQueue:
    """Pushes in memory. When it is full the oldest push that is not on lease makes room.

    Args:
        max_queued: pushes kept at the most, those on lease included.
        stats: counts what overflows, is taken over, and is handed over.
        spool: where pushes are kept from a stop to the next start.
        clock: monotonic seconds; also for the slices in which the spool is taken up.
        wall: seconds since the epoch: a push that crosses a restart is aged by it.
        budget: bounds the bytes of all queues together.
    """

    max_queued: int
    stats: RouteStats
    spool: Spool
    clock: IReactorTime
    wall: Callable[[], float]
    budget: ByteBudget = attrs.field(factory=ByteBudget)
    on_ready: Callable[[], None] = _ignore
    depth: int = 0
    _line_bytes: int = attrs.field(default=0, init=False)
    _fresh: deque[Push] = attrs.field(factory=deque, init=False)
    _released: deque[Lease] = attrs.field(factory=deque, init=False)
    _spooled: Iterator[bytes | None] = attrs.field(factory=lambda: iter(()), init=False)
    _damaged: int = attrs.field(default=0, init=False)
    _next_slice: IDelayedCall | None = attrs.field(default=None, init=False)

    def __attrs_post_init__(self) -> None:
        self.budget.add(self)

    @property
    def queued_bytes(self) -> int:
        """Bytes of the pushes kept, those on lease included."""
        return self._line_bytes + PUSH_OVERHEAD_BYTES * self.depth

    @property
    def next_received(self) -> float | None:
        if self._released:
            return self._released[0].push.received
        return self._fresh[0].received if self._fresh else None

    def start(self) -> None:
        self._spooled = self.spool.read()
        self._take_up()

    def put(self, pushes: Iterable[Push]) -> None:
        was_empty = not self._fresh
        pushes = list(pushes)
        came = len(pushes)
        line_bytes = len(b"".join([push.line for push in pushes]))  # half the cost of adding up
        self._fresh.extend(pushes)
        self.depth += came
        self._line_bytes += line_bytes
        # No more than came is dropped for it: the queue may have been made smaller.
        if self.depth > self.max_queued:
            for _ in range(min(came, self.depth - self.max_queued)):
                self.drop_oldest()
        self.budget.grow(line_bytes + PUSH_OVERHEAD_BYTES * came)
        if was_empty and self._fresh:
            self.on_ready()

    def drop_oldest(self) -> int:
        """Drop the oldest push that is not on lease; return its bytes, or 0 where there is none."""
        if not self._fresh:
            return 0
        line_bytes = len(self._fresh.popleft().line)
        self.depth -= 1
        self._line_bytes -= line_bytes
        self.stats.messages_overflowed += 1
        return line_bytes + PUSH_OVERHEAD_BYTES

    def take(self) -> Lease | None:
        if self._released:
            return self._released.popleft()
        return Lease(self._fresh.popleft()) if self._fresh else None

    def settle(self, lease: Lease) -> None:
        self.depth -= 1
        self._line_bytes -= len(lease.push.line)

    def release(self, lease: Lease) -> None:
        self._released.append(lease)

    def stop(self) -> None:
        """Write what is left to the spool, and behind it what was not yet taken up from there."""
        left = [*(lease.push for lease in self._released), *self._fresh]
        left.sort(key=lambda push: push.received)
        rest = self._stop_taking_up()
        if not left and not rest:
            return
        try:
            offset = self._offset
            self.spool.write(chain((to_record(push, offset) for push in left), rest))
        except OSError as error:
            log.critical(
                "{count} pushes are lost: {path} cannot be written: {error}",
                count=len(left),
                path=str(self.spool.path),
                error=error.strerror,
            )
            return
        self._fresh.clear()
        self._released.clear()
        self.depth -= len(left)
        self._line_bytes -= sum(len(push.line) for push in left)
        self.stats.messages_handed_over += len(left)
        log.info("{count} pushes wait in {path}", count=len(left), path=str(self.spool.path))

    def _take_up(self) -> None:
        """Queue the next slice of the spool, as far as there is room."""
        self._next_slice = None
        # Nothing that is taken up may overflow, so each push is expected to be as long as can be.
        room = min(SLICE, self.max_queued - self.depth, self.budget.free // MAX_PUSH_BYTES)
        room = max(0, room)
        records = self._read(room)
        pushes = [push for push in map(self._push_of, records) if push is not None]
        self._damaged += len(records) - len(pushes)
        self.stats.messages_taken_over += len(pushes)
        self.put(pushes)
        if len(records) < room:
            self._taken_up()
        else:
            self._next_slice = self.clock.callLater(0 if room else 1, self._take_up)

    def _read(self, most: int) -> list[bytes]:
        """Read records; a damaged one is empty, and after an error of the disk there are none."""
        records: list[bytes] = []
        try:
            records.extend(record or b"" for record in islice(self._spooled, most))
        except OSError as error:
            log.error("{path}: {error}", path=str(self.spool.path), error=error.strerror)
            self._damaged += 1
        return records

    @property
    def _offset(self) -> float:
        """What is between the two clocks."""
        return self.wall() - self.clock.seconds()

    def _push_of(self, record: bytes) -> Push | None:
        return from_record(record, self.clock.seconds(), self._offset)

    def _taken_up(self) -> None:
        if self.stats.messages_taken_over:
            log.info("{count} pushes were taken up", count=self.stats.messages_taken_over)
        self._leave_file()

    def _leave_file(self) -> None:
        """All of the file was read: take it away, or aside where a part of it was damaged."""
        try:
            if self._damaged:
                self._set_aside()
            else:
                self.spool.remove()
        except OSError as error:
            log.critical(
                "{path} cannot be taken away ({error}): the next start will send it again",
                path=str(self.spool.path),
                error=error.strerror,
            )

    def _set_aside(self) -> None:
        log.error(
            "{path} was damaged: {count} records could not be read; it is kept as {aside}",
            path=str(self.spool.path),
            count=self._damaged,
            aside=str(self.spool.set_aside()),
        )

    def _stop_taking_up(self) -> list[bytes]:
        """Give back the records that were not taken up yet."""
        if self._next_slice is None:
            return []
        self._next_slice.cancel()
        self._next_slice = None
        records = self._read(sys.maxsize)
        whole = [record for record in records if self._push_of(record) is not None]
        self._damaged += len(records) - len(whole)
        if self._damaged:
            self._leave_file()
        return whole
