"""How much memory the process uses."""

from collections.abc import Callable
from contextlib import suppress

import attrs
import psutil

from node2dm_tw.core.snapshot import MemoryUse

HEAP_CACHE_SECONDS = 10.0
"""Seconds for which the heap's figures hold: to find them takes long where it is fragmented."""


@attrs.define(eq=False)
class MemoryMeter:
    """Asks the kernel and the C library.

    Args:
        seconds: monotonic.
    """

    seconds: Callable[[], float]
    _use: MemoryUse = attrs.field(default=MemoryUse(0, 0, 0), init=False)
    _heap_read_at: float = attrs.field(default=float("-inf"), init=False)

    def read(self) -> MemoryUse:
        """Return the use of now; that of the heap is up to `HEAP_CACHE_SECONDS` old."""
        rss, total, used = self._use.rss, self._use.heap_total, self._use.heap_used
        if self.seconds() >= self._heap_read_at + HEAP_CACHE_SECONDS:
            self._heap_read_at = self.seconds()
            heap = psutil.heap_info()
            total, used = heap.heap_used + heap.mmap_used, heap.heap_used
        with suppress(OSError):  # without a free file descriptor the last value must do
            # Asked for anew each time: twistd forks after this was made.
            rss = psutil.Process().memory_info().rss
        self._use = MemoryUse(rss, total, used)
        return self._use
