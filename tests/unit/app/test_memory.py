"""The memory of the process."""

from twisted.internet.task import Clock

from node2dm_tw.app.memory import HEAP_CACHE_SECONDS, MemoryMeter


def test_memory_is_in_bytes():
    """Of this process: what is resident, and of the heap what is held and what is in use."""
    use = MemoryMeter(Clock().seconds).read()
    assert 1 << 20 < use.rss < 1 << 40
    assert 0 < use.heap_used <= use.heap_total


def test_the_heap_is_looked_at_every_ten_seconds():
    """Not more often, since that may take long; then its figures are new."""
    clock = Clock()
    meter = MemoryMeter(clock.seconds)
    first, kept = meter.read(), []
    kept += [bytes(600) for _ in range(20_000)]
    clock.advance(HEAP_CACHE_SECONDS - 0.1)
    assert meter.read().heap_used == first.heap_used
    clock.advance(0.1)
    assert meter.read().heap_used > first.heap_used
    assert len(kept) == 20_000
