"""The queue in memory, with a spool file for what is left at a stop."""

import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from itertools import chain, islice

import attrs
from twisted.internet.interfaces import IDelayedCall, IReactorTime

from node2dm_tw.logs import logger
from node2dm_tw.push import Push
from node2dm_tw.queues.interface import Lease
from node2dm_tw.queues.spool import Spool, from_record, to_record
from node2dm_tw.stats import RouteStats

log = logger()

SLICE = 500
"""Spooled pushes taken up before the reactor gets its turn."""


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
    """

    max_queued: int
    stats: RouteStats
    spool: Spool
    clock: IReactorTime
    wall: Callable[[], float]
    on_ready: Callable[[], None] = _ignore
    depth: int = 0
    _fresh: deque[Push] = attrs.field(factory=deque, init=False)
    _released: deque[Lease] = attrs.field(factory=deque, init=False)
    _spooled: Iterator[bytes | None] = attrs.field(factory=lambda: iter(()), init=False)
    _damaged: int = attrs.field(default=0, init=False)
    _next_slice: IDelayedCall | None = attrs.field(default=None, init=False)

    @property
    def next_received(self) -> float | None:
        if self._released:
            return self._released[0].push.received
        return self._fresh[0].received if self._fresh else None

    def start(self) -> None:
        self._spooled = self.spool.read()
        self._take_up()

    def put(self, pushes: Iterable[Push]) -> None:
        before = len(self._fresh)
        self._fresh.extend(pushes)
        came = len(self._fresh) - before
        self.depth += came
        if self.depth > self.max_queued:
            self._make_room(came)
        if self._fresh and not before:
            self.on_ready()

    def _make_room(self, came: int) -> None:
        """Drop the oldest, but no more than came: the queue may have been made smaller."""
        for _ in range(min(came, self.depth - self.max_queued)):
            self._fresh.popleft()
            self.depth -= 1
            self.stats.messages_overflowed += 1

    def take(self) -> Lease | None:
        if self._released:
            return self._released.popleft()
        return Lease(self._fresh.popleft()) if self._fresh else None

    def settle(self, lease: Lease) -> None:
        self.depth -= 1

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
        self.stats.messages_handed_over += len(left)
        log.info("{count} pushes wait in {path}", count=len(left), path=str(self.spool.path))

    def _take_up(self) -> None:
        """Queue the next slice of the spool, as far as there is room."""
        self._next_slice = None
        room = min(SLICE, self.max_queued - self.depth)
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
