"""The queue in memory."""

from collections import deque
from collections.abc import Callable, Iterable

import attrs

from node2dm_tw.push import Push
from node2dm_tw.queues.interface import Lease


def _ignore() -> None:
    return None


@attrs.define(eq=False)
class MemoryQueue:
    """Pushes in memory. When it is full the oldest push that is not on lease makes room.

    Args:
        max_queued: pushes kept at the most, those on lease included.
        overflowed: called for each push dropped to make room.
    """

    max_queued: int
    overflowed: Callable[[], None]
    on_ready: Callable[[], None] = _ignore
    depth: int = 0
    _fresh: deque[Push] = attrs.field(factory=deque, init=False)
    _released: deque[Lease] = attrs.field(factory=deque, init=False)

    def start(self) -> None:
        return None

    def stop(self) -> None:
        return None

    def put(self, pushes: Iterable[Push]) -> None:
        was_empty = not self._fresh
        for push in pushes:
            self._fresh.append(push)
            self.depth += 1
            if self.depth > self.max_queued:
                self._fresh.popleft()
                self.depth -= 1
                self.overflowed()
        if was_empty and self._fresh:
            self.on_ready()

    def take(self) -> Lease | None:
        if self._released:
            return self._released.popleft()
        return Lease(self._fresh.popleft()) if self._fresh else None

    def settle(self, lease: Lease) -> None:
        self.depth -= 1

    def release(self, lease: Lease) -> None:
        self._released.append(lease)
