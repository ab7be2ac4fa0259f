"""The engine `sqlite`: what the queues on disk share."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, cast

import attrs
from twisted.internet.defer import Deferred, inlineCallbacks
from twisted.internet.interfaces import IReactorTime

from node2dm_tw.core.logs import logger
from node2dm_tw.core.push import Push
from node2dm_tw.core.stats import RouteStats
from node2dm_tw.queues.interface import PushQueue, QueueFull, Receipt
from node2dm_tw.queues.sqlite import SqliteQueue
from node2dm_tw.queues.sqlite_statements import (
    add_routes,
    count_routes,
    find_receipt,
    inspect_route,
)
from node2dm_tw.queues.sqlite_writer import INSERT_DELAY, InsertBatch, SqliteWriter
from node2dm_tw.state.spool import Spool

log = logger()

LARGE_BATCH_BYTES = 65_536
"""Bytes of a batch that is stored at once: others would hardly make its commit cheaper."""


@attrs.define(eq=False)
class SqliteEngine:
    """Makes queues in one database, and stores pushes for several of them in one transaction.

    Args:
        state_dir: has the spools that an engine in memory left.
        clock: monotonic seconds.
        wall: seconds since the epoch.
        writer: the database.
    """

    state_dir: Path
    clock: IReactorTime
    wall: Callable[[], float]
    writer: SqliteWriter
    _queues: dict[str, SqliteQueue] = attrs.field(factory=dict, init=False)
    _is_started: bool = attrs.field(default=False, init=False)

    def add_queue(
        self,
        route: str,
        max_queued: int,
        stats: RouteStats,
        on_ready: Callable[[], None],
        on_overflow: Callable[[Push, str], None],
    ) -> SqliteQueue:
        spool = Spool(self.state_dir / f"{route}.spool")
        queue = self._queues[route] = SqliteQueue(
            *(max_queued, stats, spool, self.clock, self.wall, self.writer, on_ready, on_overflow)
        )
        return queue

    @inlineCallbacks
    def start(self) -> Any:
        """Open the database, and begin with what an earlier process left.

        Fails with OSError or sqlite3.Error: it cannot be used.
        """
        try:
            yield self.writer.open()
            yield from self._restore()
        except Exception:
            self.writer.abandon()
            raise
        self._is_started = True
        self.writer.start()

    def _restore(self) -> Any:
        """Find what an earlier process left."""
        numbers = yield self.writer.run(add_routes, list(self._queues))
        for name, queue in self._queues.items():
            urgent, others = yield self.writer.run(inspect_route, numbers[name])
            queue.urgent.restore(urgent)
            queue.others.restore(others)
        others = {name: number for name, number in numbers.items() if name not in self._queues}
        counts = yield self.writer.run(count_routes, others)
        for name, count in counts.items():
            if count:
                log.warn(
                    "queue.sqlite has {count} pushes of {route}, which is not configured: kept",
                    count=count,
                    route=name,
                )

    def stop(self) -> None:
        self._is_started = False
        self.writer.close()

    def reconfigure(self, max_queued_bytes: int) -> None:
        """Change nothing: memory is bounded by itself."""

    def put_all(
        self, pushes: Mapping[PushQueue, list[Push]], receipt: Receipt | None = None
    ) -> Deferred[None]:
        if not self._is_started:
            raise QueueFull("the queue is not open yet")
        parts = [(cast(SqliteQueue, queue), each) for queue, each in pushes.items() if each]
        for queue, each in parts:
            if len(each) > queue.room:
                raise QueueFull("the queue holds max_queued pushes")
        batch = InsertBatch([part for queue, each in parts for part in queue.split(each)], receipt)
        return self.writer.insert(batch, 0.0 if batch.size >= LARGE_BATCH_BYTES else INSERT_DELAY)

    def find_receipt(self, key: str) -> Deferred[Receipt | None]:
        return self.writer.run(find_receipt, key, self.wall())
