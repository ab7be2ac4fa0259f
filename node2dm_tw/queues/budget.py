"""The bytes that the queues of all routes may hold together."""

import sys
from typing import Protocol

import attrs

PUSH_OVERHEAD_BYTES = 350
"""Bytes that a push takes beside its line: itself, its lease, its places in queue and indexes."""


class Holder(Protocol):
    """A queue, as the budget sees it."""

    @property
    def queued_bytes(self) -> int:
        """Bytes that it holds, those of pushes on lease included."""
        ...

    def drop_oldest(self, limit: str) -> int:
        """Drop the oldest push that is not on lease; return its bytes, or 0 where there is none.

        Args:
            limit: the option that says so.
        """
        ...


@attrs.define(eq=False)
class ByteBudget:
    """Bounds what the queues of one process hold together.

    Args:
        maximum: bytes of lines, and `PUSH_OVERHEAD_BYTES` for each push.
    """

    maximum: int = sys.maxsize
    _queues: list[Holder] = attrs.field(factory=list, init=False)
    _held_at_most: int = attrs.field(default=0, init=False)

    def add(self, queue: Holder) -> None:
        """Count what `queue` holds from now on."""
        self._queues.append(queue)

    def reconfigure(self, maximum: int) -> None:
        """Bound the queues by another number of bytes from now on; none is dropped for it."""
        self.maximum = maximum

    @property
    def free(self) -> int:
        """Bytes that may still come."""
        return self.maximum - sum(queue.queued_bytes for queue in self._queues)

    def grow(self, came: int) -> None:
        """Count bytes that came to a queue, and drop the oldest pushes of whichever holds most.

        No more than came is dropped: after the budget was made smaller, sending empties the queues.
        """
        # What is settled is taken off only here, when it matters: a settled push costs nothing.
        self._held_at_most += came
        if self._held_at_most <= self.maximum:
            return
        excess = min(came, -self.free)
        while excess > 0:
            largest = sorted(self._queues, key=lambda queue: queue.queued_bytes, reverse=True)
            dropped = next(
                filter(None, (queue.drop_oldest("max_queued_bytes") for queue in largest)), 0
            )
            if not dropped:
                break
            excess -= dropped
        self._held_at_most = self.maximum - self.free
