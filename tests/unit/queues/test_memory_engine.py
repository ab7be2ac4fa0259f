"""The engine in memory: pushes that must be kept, and receipts."""

import pytest
from twisted.internet.task import Clock

from node2dm_tw.core.push import split_at_colons
from node2dm_tw.core.stats import RouteStats
from node2dm_tw.queues import receipts
from node2dm_tw.queues.budget import ByteBudget
from node2dm_tw.queues.interface import QueueFull, Receipt
from node2dm_tw.queues.memory_engine import MemoryEngine
from node2dm_tw.queues.receipts import MAX_RECEIPT_AGE, Receipts


def pushes(count, first=0):
    return [split_at_colons(b"d:k:%d" % n, float(n)) for n in range(first, first + count)]


def make(tmp_path, max_queued=10, max_bytes=1_000_000):
    """An engine with two queues, and what they overflowed."""
    engine = MemoryEngine(tmp_path, ByteBudget(max_bytes), Clock(), lambda: 0.0)
    overflowed = []
    queues = [
        engine.add_queue(
            route,
            max_queued,
            RouteStats(),
            lambda: None,
            lambda push, limit: overflowed.append(int(push.payload)),
        )
        for route in ("a", "b")
    ]
    return engine, *queues, overflowed


def payloads(queue):
    taken = []
    while (lease := queue.take()) is not None:
        taken.append(int(lease.push.payload))
    return taken


def test_all_or_none(tmp_path):
    """Where one queue has no room, no queue takes anything, and no receipt is kept."""
    engine, first, second, _ = make(tmp_path, max_queued=2)
    receipt = Receipt("key", b"d", b"{}", 0.0)
    with pytest.raises(QueueFull, match="max_queued"):
        engine.put_all({first: pushes(1), second: pushes(3)}, receipt)
    assert (first.depth, second.depth) == (0, 0)
    assert engine.find_receipt("key").result is None
    engine.put_all({first: pushes(1), second: pushes(2)}, receipt)
    assert (first.depth, second.depth) == (1, 2)
    assert engine.find_receipt("key").result == receipt


def test_a_bound_of_bytes_refuses_as_well(tmp_path):
    """Nothing is dropped for pushes that can be refused."""
    engine, first, _, overflowed = make(tmp_path, max_bytes=1_000)
    first.put(pushes(2))
    with pytest.raises(QueueFull, match="max_queued_bytes"):
        engine.put_all({first: pushes(1)})
    assert (first.depth, overflowed) == (2, [])


def test_what_was_accepted_is_not_dropped(tmp_path):
    """A full queue drops its oldest push by UDP, and the newcomer where there is none."""
    engine, first, _, overflowed = make(tmp_path, max_queued=3)
    engine.put_all({first: pushes(2)})
    first.put(pushes(3, first=2))
    assert overflowed == [2, 3]
    engine.reconfigure(1)
    first.put(pushes(1, first=5))
    assert overflowed == [2, 3, 4, 5]
    assert payloads(first) == [0, 1]


def test_the_oldest_goes_first_whichever_way_it_came(tmp_path):
    """Both kinds of pushes stand in one order, and are saved in it."""
    engine, first, _, _ = make(tmp_path)
    first.put(pushes(1, first=1))
    engine.put_all({first: [*pushes(1), *pushes(1, first=2)]})
    first.put(pushes(1, first=3))
    assert first.next_received == 0.0
    first.stop()
    _, again, _, _ = make(tmp_path)
    again.start()
    assert payloads(again) == [0, 1, 2, 3]


def test_receipts_are_bounded(monkeypatch):
    """By number, by bytes and by age; the oldest go first."""
    now = 0.0
    kept = Receipts(lambda: now)
    monkeypatch.setattr(receipts, "MAX_RECEIPTS", 3)
    for number in range(5):
        kept.add(Receipt(str(number), b"", b"x", 0.0))
    assert [kept.find(str(number)) is not None for number in range(5)] == [False] * 2 + [True] * 3
    monkeypatch.setattr(receipts, "MAX_BYTES", 1_200)
    kept.add(Receipt("big", b"", b"x" * 600, 0.0))
    assert kept.find("4") is None
    assert kept.find("big") is not None
    kept.add(Receipt("big", b"", b"y", 0.0))
    assert kept.find("big").answer == b"y"
    now = MAX_RECEIPT_AGE
    assert kept.find("big") is None
