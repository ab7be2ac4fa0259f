"""The engine `memory`: what the queues in memory share."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import cast

import attrs
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IReactorTime

from node2dm_tw.core.push import Push
from node2dm_tw.core.stats import RouteStats
from node2dm_tw.queues.budget import PUSH_OVERHEAD_BYTES, ByteBudget
from node2dm_tw.queues.interface import PushQueue, QueueFull, Receipt
from node2dm_tw.queues.memory import MemoryQueue
from node2dm_tw.queues.receipts import Receipts
from node2dm_tw.state.spool import Spool


@attrs.define(eq=False)
class MemoryEngine:
    """Makes queues in memory, and bounds their bytes together.

    Args:
        state_dir: has the spools.
        budget: limits the bytes of all queues together.
        clock: monotonic seconds.
        wall: seconds since the epoch.
    """

    state_dir: Path
    budget: ByteBudget
    clock: IReactorTime
    wall: Callable[[], float]
    _receipts: Receipts = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self._receipts = Receipts(self.wall)

    def add_queue(
        self,
        route: str,
        max_queued: int,
        stats: RouteStats,
        on_ready: Callable[[], None],
        on_overflow: Callable[[Push, str], None],
    ) -> MemoryQueue:
        spool = Spool(self.state_dir / f"{route}.spool")
        return MemoryQueue(
            *(max_queued, stats, spool, self.clock, self.wall, self.budget, on_ready, on_overflow)
        )

    def start(self) -> None:
        pass

    def stop(self) -> None:
        pass

    def reconfigure(self, max_queued_bytes: int) -> None:
        self.budget.reconfigure(max_queued_bytes)

    def put_all(
        self, pushes: Mapping[PushQueue, list[Push]], receipt: Receipt | None = None
    ) -> None:
        size = sum(
            len(push.line) + PUSH_OVERHEAD_BYTES for each in pushes.values() for push in each
        )
        if size > self.budget.free:
            raise QueueFull("the queues hold max_queued_bytes")
        for queue, each in pushes.items():
            if len(each) > queue.max_queued - queue.depth:
                raise QueueFull("the queue holds max_queued pushes")
        for queue, each in pushes.items():
            cast(MemoryQueue, queue).keep(each)
        if receipt is not None:
            self._receipts.add(receipt)

    def find_receipt(self, key: str) -> Deferred[Receipt | None]:
        return succeed(self._receipts.find(key))
