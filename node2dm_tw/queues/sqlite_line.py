"""A range of ids in state_dir/queue.sqlite: pushes of one route that are taken in their order.

The oldest of them wait in memory, in a window that is filled from the disk, so that memory does not
grow with the queue.
"""

import heapq
from collections import deque
from collections.abc import Callable
from typing import cast

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.python.failure import Failure

from node2dm_tw.core.logs import Throttle, logger
from node2dm_tw.core.push import Push
from node2dm_tw.core.stats import RouteStats
from node2dm_tw.queues.budget import PUSH_OVERHEAD_BYTES
from node2dm_tw.queues.interface import Lease
from node2dm_tw.queues.sqlite_rows import COLUMNS, MAX_SLEEP_SECONDS, Row, from_row, to_row
from node2dm_tw.queues.sqlite_statements import StoredRow, StoredRows, read_pushes, read_window
from node2dm_tw.queues.sqlite_writer import SqliteWriter

log = logger()

WINDOW = 10_000
"""Number of pushes that the window holds, beside those that one commit adds."""

WINDOW_BYTES = 16 << 20
"""Bytes of the lines in the window, beside those that one commit or one reading adds."""

SLEEPERS_PER_READ = 500
"""Maximum number of due pushes of an earlier process that are read at once."""

ATTEMPTS = COLUMNS.split(", ").index("attempts")

READ_INTERVAL = 1.0
"""Seconds between tries to read pushes, where it fails."""


@attrs.define(eq=False, weakref_slot=False)
class StoredLease(Lease):
    """A lease of a stored push; `number` is the id of its row."""

    number: int = 0


@attrs.define(eq=False)
class StoredLine:
    """Pushes on disk, and a window of them in memory.

    Args:
        stats: counts pushes that are taken over, or damaged.
        clock: monotonic seconds.
        wall: seconds since the epoch.
        writer: the database.
        on_ready: called when a push can be taken after there was none.

    Attributes:
        depth: number of pushes that are stored, including those on lease.
        waiting: number of pushes that wait for their commit.
    """

    stats: RouteStats
    clock: IReactorTime
    wall: Callable[[], float]
    writer: SqliteWriter
    on_ready: Callable[[], None]
    depth: int = attrs.field(default=0, init=False)
    waiting: int = attrs.field(default=0, init=False)
    _in_memory: int = attrs.field(default=0, init=False)
    _line_bytes: int = attrs.field(default=0, init=False)
    _window: deque[StoredLease] = attrs.field(factory=deque, init=False)
    _window_bytes: int = attrs.field(default=0, init=False)
    _released: deque[StoredLease] = attrs.field(factory=deque, init=False)
    _cursor: int = attrs.field(default=0, init=False)
    """The id of the last push that came into the window."""
    _last: int = attrs.field(default=0, init=False)
    """The id of the last push that is stored."""
    _next: int = attrs.field(default=0, init=False)
    """The id of the next push."""
    _on_disk: int = attrs.field(default=0, init=False)
    """Number of pushes above the cursor, which are on disk only."""
    _sleepers: list[tuple[float, int]] = attrs.field(factory=list, init=False)
    """A heap of when a push that an earlier process put to sleep is due, and its id."""
    _is_reading: bool = attrs.field(default=False, init=False)
    _is_stopped: bool = attrs.field(default=False, init=False)
    _timer: IDelayedCall | None = attrs.field(default=None, init=False)
    _throttle: Throttle = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self._throttle = Throttle(log, self.clock)

    @property
    def asleep(self) -> int:
        """Pushes that an earlier process put to sleep, and that are not due yet."""
        return len(self._sleepers)

    @property
    def queued_bytes(self) -> int:
        """Bytes of the pushes that are in memory."""
        return self._line_bytes + PUSH_OVERHEAD_BYTES * self._in_memory

    @property
    def next_received(self) -> float | None:
        """When the next push was received; None if none is in memory."""
        if self._released:
            return self._released[0].push.received
        return self._window[0].push.received if self._window else None

    def restore(self, rows: StoredRows) -> None:
        """Begin with the rows that an earlier process left."""
        self.depth = rows.count
        self.stats.messages_taken_over += rows.count
        self._cursor, self._last = rows.first, rows.last
        self._next = rows.last + 1
        latest = self.wall() + MAX_SLEEP_SECONDS
        self._sleepers = [(min(due, latest), number) for due, number in rows.sleepers]
        self._on_disk = rows.count - len(rows.sleepers)
        self._read_more()

    def stop(self) -> None:
        """Forget everything; it is stored."""
        self._is_stopped = True
        self._cancel_timer()
        self.stats.messages_handed_over += self.depth
        self._window.clear()
        self._released.clear()
        self._sleepers.clear()
        self.depth = self._on_disk = self._in_memory = self._line_bytes = 0

    # Called by the writer

    def on_waiting(self, count: int) -> None:
        self.waiting += count

    def make_rows(self, pushes: list[Push]) -> list[Row]:
        offset = self.wall() - self.clock.seconds()
        first = self._next
        self._next += len(pushes)
        return [to_row(first + place, push, offset) for place, push in enumerate(pushes)]

    def on_stored(self, first: int, pushes: list[Push]) -> bool:
        count = len(pushes)
        self.waiting -= count
        self.depth += count
        self._last = first + count - 1
        if self._on_disk or not self._has_room_in_window(WINDOW):
            self._on_disk += count
            return False
        was_empty = not self._window
        self._cursor = self._last
        leases = [StoredLease(push, number=first + place) for place, push in enumerate(pushes)]
        self._add(self._window, leases)
        return was_empty

    def on_refused(self, pushes: list[Push]) -> None:
        self.waiting -= len(pushes)

    # Leases

    def take(self) -> Lease | None:
        """Lease the next push; None if none is in memory."""
        if self._released:
            lease = self._released.popleft()
            if self._sleepers and not self._released:
                self._read_more()
            return lease
        if not self._window:
            return None
        lease = self._window.popleft()
        self._window_bytes -= len(lease.push.line)
        if self._on_disk and len(self._window) < WINDOW // 2:
            self._read_more()
        return lease

    def settle(self, lease: Lease) -> None:
        """Remove a leased push."""
        if not self._is_stopped:
            self.depth -= 1
            self._in_memory -= 1
            self._line_bytes -= len(lease.push.line)
            self.writer.remove(lease.number)  # type: ignore[attr-defined]

    def release(self, lease: Lease) -> None:
        """Make a lease the next."""
        if not self._is_stopped:
            self._released.append(cast(StoredLease, lease))

    def sleep(self, lease: Lease, until: float) -> None:
        """Store until when a push sleeps, in seconds since the epoch."""
        if not self._is_stopped:
            self.writer.sleep(cast(StoredLease, lease).number, lease.attempts, until)

    def _add(self, line: deque[StoredLease], leases: list[StoredLease]) -> None:
        """Append leases to the window or to those released."""
        size = len(b"".join([lease.push.line for lease in leases]))
        line.extend(leases)
        self._in_memory += len(leases)
        self._line_bytes += size
        if line is self._window:
            self._window_bytes += size

    # What is on disk only

    def _read_more(self) -> None:
        """Read what the lane needs next: pushes that are due, then those that follow the window."""
        if self._is_reading or self._is_stopped:
            return
        if self._sleepers and not self._released:
            delay = self._sleepers[0][0] - self.wall()
            if delay <= 0:
                self._read_due()
                return
            self._read_in(delay)
        if self._on_disk and self._has_room_in_window(WINDOW // 2):
            most, expected = WINDOW - len(self._window), self._on_disk
            read = self.writer.run(read_window, self._cursor, self._last, most)
            self._wait_for(read.addCallback(self._on_window, self._last, expected))

    def _has_room_in_window(self, most: int) -> bool:
        return len(self._window) < most and self._window_bytes < WINDOW_BYTES

    def _read_due(self) -> None:
        """Read pushes that an earlier process put to sleep, and that are due now."""
        due: list[tuple[float, int]] = []
        now = self.wall()
        while self._sleepers and self._sleepers[0][0] <= now and len(due) < SLEEPERS_PER_READ:
            due.append(heapq.heappop(self._sleepers))

        def on_failure(failure: Failure) -> Failure:
            self._sleepers = [*due, *self._sleepers]  # still a heap: these are the smallest
            return failure

        read = self.writer.run(read_pushes, [number for _, number in due])
        self._wait_for(read.addCallbacks(self._on_due, on_failure, callbackArgs=(len(due),)))

    def _wait_for(self, read: Deferred[None]) -> None:
        """Read more after a reading, at once or, where it failed, in a second."""
        self._is_reading = True

        def on_read(_: None) -> None:
            self._is_reading = False
            self.on_ready()
            self._read_more()

        def on_failure(failure: Failure) -> None:
            self._is_reading = False
            self._throttle.failure("queue.sqlite cannot be read", failure)
            self._read_in(READ_INTERVAL)

        read.addCallback(on_read).addErrback(on_failure)

    def _read_in(self, delay: float) -> None:
        """Have the timer call `_read_more` in `delay` seconds, and at no other time."""
        self._cancel_timer()
        if not self._is_stopped:
            self._timer = self.clock.callLater(delay, self._read_more)

    def _cancel_timer(self) -> None:
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._timer = None

    def _on_window(self, read: tuple[list[StoredRow], bool], last: int, expected: int) -> None:
        """Add rows to the window.

        Args:
            read: the rows, and whether they are all up to the id `last`.
            expected: number of the rows up to there.
        """
        rows, is_complete = read
        if self._is_stopped:
            return
        self._cursor = last if is_complete else rows[-1][0]
        self._on_disk -= expected if is_complete else len(rows)
        self._take_over(self._window, rows, expected if is_complete else len(rows))

    def _on_due(self, rows: list[StoredRow], expected: int) -> None:
        if not self._is_stopped:
            self._take_over(self._released, rows, expected)

    def _take_over(self, line: deque[StoredLease], rows: list[StoredRow], expected: int) -> None:
        """Add the pushes of rows to the window, or to those released; count those that are lost."""
        now = self.clock.seconds()
        offset = self.wall() - now
        leases = []
        for row in rows:
            push = from_row(row, now, offset)
            if push is None:
                self.writer.remove(row[0])
            else:
                leases.append(StoredLease(push, attempts=row[ATTEMPTS], number=row[0]))
        self._add(line, leases)
        lost = expected - len(leases)
        if lost > 0:
            self.depth -= lost
            self.stats.spool_damaged += lost
            for _ in range(lost):
                self.stats.count_unsent("refused", "damaged")
            log.error("{count} pushes in queue.sqlite are damaged, and are lost", count=lost)
