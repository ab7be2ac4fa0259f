"""The one connection to the database: gathers what is to be written, and commits it in groups."""

import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import attrs
from twisted.enterprise.adbapi import ConnectionPool
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IDelayedCall, IReactorFromThreads, IReactorTime
from twisted.internet.threads import deferToThreadPool
from twisted.python.failure import Failure

from node2dm_tw.core.logs import Throttle, logger
from node2dm_tw.core.push import Push
from node2dm_tw.queues.budget import PUSH_OVERHEAD_BYTES
from node2dm_tw.queues.interface import QueueFull, Receipt
from node2dm_tw.queues.sqlite_file import Opened, configure, is_damage, open_database
from node2dm_tw.queues.sqlite_rows import Row
from node2dm_tw.queues.sqlite_statements import RowChanges, join_ranges, probe, to_ranges, write

log = logger()

INSERT_DELAY = 0.004
"""Seconds that a new push waits for others, to be committed together."""

CHANGE_DELAY = 0.02
"""Seconds after which a push that has ended is removed, or its sleep is stored."""

MAX_CHANGES = 500
"""Number of ended pushes after which they are removed at once."""

MAX_WAITING_BYTES = 32 << 20
"""Bytes of the pushes that wait for their commit: their lines, and an overhead for each."""

RETRY_INTERVAL = 1.0
"""Seconds between tries to write a database that cannot be written."""

NOT_WRITABLE = "queue.sqlite cannot be written"


class RowQueue(Protocol):
    """A queue, as the writer needs it."""

    def on_waiting(self, count: int) -> None:
        """Count pushes that wait for their commit, from now on."""
        ...

    def make_rows(self, pushes: list[Push]) -> list[Row]:
        """Give ids to new pushes, in order, and return their rows."""
        ...

    def on_stored(self, first_id: int, pushes: list[Push]) -> bool:
        """Take pushes that are stored; return whether `on_ready` must be called."""
        ...

    def on_refused(self, pushes: list[Push]) -> None:
        """Take notice that pushes are not stored."""
        ...

    def on_ready(self) -> None:
        """Tell the lane that there is something to take."""
        ...


@attrs.define(eq=False)
class InsertBatch:
    """Pushes that are stored together, all or none.

    Args:
        parts: queues, and the new pushes of each, at least one.
        receipt: stored together with them.

    Attributes:
        size: bytes of the pushes.
        stored: fires when they are stored; fails with `QueueFull`.
    """

    parts: list[tuple[RowQueue, list[Push]]]
    receipt: Receipt | None = None
    size: int = attrs.field(init=False)
    stored: Deferred[None] = attrs.field(factory=Deferred, init=False)
    _first_ids: list[int] = attrs.field(factory=list, init=False)

    def __attrs_post_init__(self) -> None:
        self.size = sum(size_of(pushes) for _, pushes in self.parts)

    def add_to(self, changes: RowChanges) -> None:
        """Give ids to the pushes, and add them to what a transaction writes."""
        for queue, pushes in self.parts:
            rows = queue.make_rows(pushes)
            self._first_ids.append(rows[0][0])
            changes.rows += rows
        if self.receipt is not None:
            changes.receipts.append(self.receipt)

    def finish(self) -> list[RowQueue]:
        """Hand the pushes, which are stored, to their queues; return those that are ready."""
        ready = [
            queue
            for (queue, pushes), first in zip(self.parts, self._first_ids, strict=True)
            if queue.on_stored(first, pushes)
        ]
        self.stored.callback(None)
        return ready

    def refuse(self, reason: str) -> None:
        """End the batch, which is not stored."""
        for queue, pushes in self.parts:
            queue.on_refused(pushes)
        self.stored.errback(QueueFull(reason))


def size_of(pushes: list[Push]) -> int:
    """Return the bytes that pushes take in memory."""
    return len(b"".join([push.line for push in pushes])) + PUSH_OVERHEAD_BYTES * len(pushes)


def make_pool(path: Path, reactor: Any) -> ConnectionPool:
    """Make the pool of one connection, in a thread of its own."""
    return ConnectionPool(
        "sqlite3",
        str(path),
        isolation_level=None,  # transactions begin where the code says so
        check_same_thread=False,  # the pool closes the connection in the main thread
        cp_min=1,
        cp_max=1,
        cp_openfun=configure,
        cp_reactor=reactor,
    )


@attrs.define(eq=False)
class SqliteWriter:
    """Runs everything that touches the database, one after the other, in a thread.

    What is to be written is gathered; one transaction at a time commits it, and what comes
    meanwhile waits for the next one. Where a transaction fails, its new pushes are refused; what
    has ended or sleeps is kept, and tried again each second until the database can be written.

    Args:
        path: the database.
        clock: schedules the commits.
        reactor: calls what the thread has to say.
        make_pool: makes the pool of one connection.

    Attributes:
        is_writable: whether the last transaction succeeded.
        waiting_bytes: bytes of the pushes that wait for their commit.
    """

    path: Path
    clock: IReactorTime
    reactor: IReactorFromThreads
    make_pool: Callable[[Path, Any], ConnectionPool] = make_pool
    is_writable: bool = attrs.field(default=True, init=False)
    waiting_bytes: int = attrs.field(default=0, init=False)
    _pool: ConnectionPool | None = attrs.field(default=None, init=False)
    _replaced: int = attrs.field(default=0, init=False)
    """How often the database was damaged and replaced."""
    _batches: list[InsertBatch] = attrs.field(factory=list, init=False)
    _sleeps: dict[int, tuple[int, float]] = attrs.field(factory=dict, init=False)
    _removed: list[int] = attrs.field(factory=list, init=False)
    _failed: RowChanges = attrs.field(factory=RowChanges, init=False)
    _is_opening: bool = attrs.field(default=False, init=False)
    _is_started: bool = attrs.field(default=False, init=False)
    _is_committing: bool = attrs.field(default=False, init=False)
    _timer: IDelayedCall | None = attrs.field(default=None, init=False)
    _flushed: Deferred[None] | None = attrs.field(default=None, init=False)
    _throttle: Throttle = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self._throttle = Throttle(log, self.clock)

    # The connection

    def open(self) -> Deferred[Opened]:
        """Open the database. What comes before `start` waits for it.

        Fails with OSError or sqlite3.Error: there is no way to use it.
        """
        self._is_opening = True
        pool = self._pool = self.make_pool(self.path, self.reactor)
        return deferToThreadPool(self.reactor, pool.threadpool, open_database, self.path)

    def run(self, function: Callable[..., Any], *args: Any) -> Deferred[Any]:
        """Call `function` with the connection and `args`, in the thread.

        A damaged database is opened anew, which takes over what can be read, and the call is
        repeated once.
        """
        assert self._pool is not None
        called: Deferred[Any] = self._pool.runWithConnection(function, *args)
        return called.addErrback(self._recover, self._replaced, function, args)

    def _recover(
        self, failure: Failure, replaced: int, function: Callable[..., Any], args: Any
    ) -> Any:
        pool = self._pool
        if pool is None or failure.value is None or not is_damage(failure.value):
            return failure

        def reopen() -> None:
            pool.disconnect(pool.connections.get(pool.threadID()))
            open_database(self.path, is_damaged=True)

        if replaced == self._replaced:  # otherwise another call has replaced it meanwhile
            self._replaced += 1
            reopened: Deferred[Any] = deferToThreadPool(self.reactor, pool.threadpool, reopen)
            return reopened.addCallback(lambda _: pool.runWithConnection(function, *args))
        return pool.runWithConnection(function, *args)

    def close(self) -> None:
        """Close the connection; nothing must be waiting."""
        self._is_started = False
        pool, self._pool = self._pool, None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if pool is not None:
            pool.close()

    # What is to be written

    def start(self) -> None:
        """Begin to commit: the queues can give ids now."""
        self._is_opening, self._is_started = False, True
        if self._flushed is not None or self._has_changes:
            self._commit()

    def abandon(self) -> None:
        """Refuse what waits: the database cannot be used."""
        self._is_opening = self.is_writable = False
        self._refuse_all([])
        self._end_flush()

    def insert(self, batch: InsertBatch, delay: float = INSERT_DELAY) -> Deferred[None]:
        """Store new pushes after `delay` seconds at most; return `batch.stored`.

        Raises `QueueFull`: none was taken.
        """
        if not self.is_writable:
            raise QueueFull(NOT_WRITABLE)
        if self.waiting_bytes + batch.size > MAX_WAITING_BYTES:
            raise QueueFull("too many pushes wait to be written")
        for queue, pushes in batch.parts:
            queue.on_waiting(len(pushes))
        self._batches.append(batch)
        self.waiting_bytes += batch.size
        self._commit_in(delay)
        return batch.stored

    def remove(self, number: int) -> None:
        """Remove a push that has ended."""
        removed = self._removed
        removed.append(number)
        if len(removed) == 1:
            self._commit_in(CHANGE_DELAY)
        elif len(removed) == MAX_CHANGES:
            self._commit_in(0.0)

    def sleep(self, number: int, attempts: int, until: float) -> None:
        """Store that a push sleeps until `until`, in seconds since the epoch."""
        self._sleeps[number] = (attempts, until)
        if len(self._sleeps) == 1:
            self._commit_in(CHANGE_DELAY)

    def flush(self) -> Deferred[None]:
        """Commit now what waits, one group after the other.

        Fails with OSError: what has ended cannot be removed, and is sent again after a start.
        """
        is_idle = self._is_started and not self._is_committing and not self._has_changes
        if is_idle or not (self._is_started or self._is_opening):
            return succeed(None)
        flushed = self._flushed = self._flushed or Deferred()
        if self._is_started and not self._is_committing:
            self._commit()
        return flushed

    # Commits

    @property
    def _has_changes(self) -> bool:
        failed = self._failed.removed or self._failed.sleeps
        return bool(self._batches or self._removed or self._sleeps or failed)

    def _commit_in(self, delay: float) -> None:
        """Commit after `delay` seconds, or earlier if that is planned; not while it cannot be."""
        if not self._is_started or self._is_committing or not self.is_writable:
            return
        if self._timer is None:
            self._timer = self.clock.callLater(delay, self._commit)
        elif self._timer.getTime() > self.clock.seconds() + delay:
            self._timer.reset(delay)

    def _commit(self) -> None:
        """Write all that waits in one transaction."""
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._timer = None
        self._is_committing = True
        batches, self._batches = self._batches, []
        failed, self._failed = self._failed, RowChanges()
        changes = RowChanges(
            sleeps={**failed.sleeps, **self._sleeps},
            removed=join_ranges([*failed.removed, *to_ranges(self._removed)]),
        )
        self._removed, self._sleeps = [], {}
        for batch in batches:
            batch.add_to(changes)
        written = self.run(write if self.is_writable else _write_again, changes)
        written.addCallbacks(
            self._on_committed,
            self._on_failed,
            callbackArgs=(batches,),
            errbackArgs=(batches, changes),
        )
        written.addErrback(lambda failure: log.failure("a commit could not be handled", failure))

    def _on_committed(self, _: object, batches: list[InsertBatch]) -> None:
        self._is_committing = False
        if not self.is_writable:
            self.is_writable = True
            self._throttle.warn("queue.sqlite can be written again")
        ready: dict[RowQueue, None] = {}
        for batch in batches:
            self.waiting_bytes -= batch.size
            ready.update(dict.fromkeys(batch.finish()))
        for queue in ready:
            queue.on_ready()
        if self._flushed is not None:
            if self._has_changes:
                self._commit()
            else:
                self._end_flush()
        elif self._batches:
            self._commit_in(INSERT_DELAY)
        elif self._removed or self._sleeps:
            self._commit_in(CHANGE_DELAY)

    def _on_failed(self, failure: Failure, batches: list[InsertBatch], changes: RowChanges) -> None:
        """Refuse the new pushes; keep the other changes, and try again in a second."""
        self._is_committing = False
        if not failure.check(sqlite3.Error, OSError):
            log.failure("queue.sqlite: a transaction failed", failure)
        if self.is_writable:
            self.is_writable = False
            self._throttle.warn(
                "queue.sqlite cannot be written ({error}): new pushes are refused",
                error=failure.getErrorMessage(),
            )
        self._failed = RowChanges(sleeps=changes.sleeps, removed=changes.removed)
        self._refuse_all(batches)
        self._timer = self.clock.callLater(RETRY_INTERVAL, self._commit)
        self._end_flush(OSError(f"{NOT_WRITABLE}: {failure.getErrorMessage()}"))

    def _refuse_all(self, batches: list[InsertBatch]) -> None:
        """Refuse these batches, and those that wait."""
        refused, self._batches = [*batches, *self._batches], []
        self.waiting_bytes = 0
        for batch in refused:
            batch.refuse(NOT_WRITABLE)

    def _end_flush(self, error: Exception | None = None) -> None:
        flushed, self._flushed = self._flushed, None
        if flushed is not None and error is None:
            flushed.callback(None)
        elif flushed is not None:
            flushed.errback(error)


def _write_again(connection: sqlite3.Connection, changes: RowChanges) -> None:
    """Write after a failure."""
    probe(connection)
    write(connection, changes)
