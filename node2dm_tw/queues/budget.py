"""Limits the bytes that the queues of all routes hold together."""

import sys
from typing import Protocol

import attrs

PUSH_OVERHEAD_BYTES = 350
"""Bytes that a push takes in addition to its line, for objects, lease, queue and indexes."""


class Holder(Protocol):
    """A queue whose bytes are limited."""

    @property
    def queued_bytes(self) -> int:
        """Bytes of all its pushes, including those on lease."""
        ...

    def drop_oldest(self, limit: str) -> int:
        """Drop the oldest push that is not on lease; return its bytes, or 0 if there is none.

        Args:
            limit: the option whose limit was reached.
        """
        ...


@attrs.define(eq=False)
class ByteBudget:
    """Limits the bytes that the queues of one process hold together.

    Args:
        maximum: bytes of all lines, plus `PUSH_OVERHEAD_BYTES` for each push.
    """

    maximum: int = sys.maxsize
    _queues: list[Holder] = attrs.field(factory=list, init=False)
    _upper_bound: int = attrs.field(default=0, init=False)

    def add(self, queue: Holder) -> None:
        """Count the bytes of `queue` from now on."""
        self._queues.append(queue)

    def reconfigure(self, maximum: int) -> None:
        """Bound the queues by another number of bytes from now on; none is dropped for it."""
        self.maximum = maximum

    @property
    def free(self) -> int:
        """Bytes that the queues may still take."""
        return self.maximum - sum(queue.queued_bytes for queue in self._queues)

    def grow(self, came: int) -> None:
        """Count bytes that a queue has taken, and drop the oldest pushes of the largest queue.

        Drops at most `came` bytes: if the maximum was lowered, the queues shrink by sending.
        """
        # Settled pushes are subtracted only here, so that settling costs nothing.
        self._upper_bound += came
        if self._upper_bound <= self.maximum:
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
        self._upper_bound = self.maximum - self.free
