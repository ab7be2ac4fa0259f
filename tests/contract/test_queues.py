"""What every queue engine must do: a class of tests, and the engines that inherit it."""

import time
from typing import ClassVar

import pytest
from twisted.internet import reactor
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.task import deferLater
from twisted.trial.unittest import TestCase

from node2dm_tw.core.json_form import read_json
from node2dm_tw.core.push import split_at_colons
from node2dm_tw.core.stats import RouteStats
from node2dm_tw.queues.budget import ByteBudget
from node2dm_tw.queues.interface import QueueFull, Receipt
from node2dm_tw.queues.memory_engine import MemoryEngine
from node2dm_tw.queues.sqlite_engine import SqliteEngine
from node2dm_tw.queues.sqlite_file import FILE_NAME
from node2dm_tw.queues.sqlite_writer import SqliteWriter


def pushes(count, first=0):
    now = reactor.seconds()
    return [
        split_at_colons(b"d%d:k:%d" % (n, n), now + n / 1e6) for n in range(first, first + count)
    ]


def urgent_pushes(count, first=0):
    now = reactor.seconds()
    text = '{"token":"t","data":"%d","urgent":true}'
    return [read_json((text % n).encode(), now + n / 1e6)[1] for n in range(first, first + count)]


def number_of(push):
    return int(push.data["data"])


def make_memory(folder):
    return MemoryEngine(folder, ByteBudget(), reactor, time.time)


def make_sqlite(folder):
    writer = SqliteWriter(folder / FILE_NAME, reactor, reactor)
    return SqliteEngine(folder, reactor, time.time, writer)


class Opened:
    """An engine with the queues of two routes, and what they called."""

    def __init__(self, engine, max_queued):
        self.engine = engine
        self.ready, self.overflowed = [], []
        self.stats = [RouteStats(), RouteStats()]
        self.queues = [
            engine.add_queue(
                name,
                max_queued,
                stats,
                lambda name=name: self.ready.append(name),
                lambda push, limit: self.overflowed.append(number_of(push)),
            )
            for name, stats in zip("ab", self.stats, strict=True)
        ]

    @property
    def queue(self):
        return self.queues[0]

    async def close(self):
        for queue in self.queues:
            await maybeDeferred(queue.stop)
        await maybeDeferred(self.engine.stop)


class QueueContract:
    """What holds for every engine. Times are short, as the real thread and disk are used."""

    timeout = 60

    @pytest.fixture(autouse=True)
    def _folder(self, tmp_path):
        self.folder = tmp_path

    async def open(self, max_queued=1_000_000, make=None):
        opened = Opened((make or self.make)(self.folder), max_queued)
        await maybeDeferred(opened.engine.start)
        for queue in opened.queues:
            await maybeDeferred(queue.start)
        self.addCleanup(lambda: Deferred.fromCoroutine(opened.close()))
        return opened

    async def until(self, condition):
        while not condition():
            await deferLater(reactor, 0.002)

    async def take(self, queue, count):
        """Take so many pushes, which come as they are read; they stay on lease."""
        leases = []
        while len(leases) < count:
            lease = queue.take()
            if lease is None:
                await deferLater(reactor, 0.002)
            else:
                leases.append(lease)
        return leases

    async def payloads(self, queue):
        """Take and settle everything."""
        found = []
        while queue.depth:
            [lease] = await self.take(queue, 1)
            found.append(number_of(lease.push))
            queue.settle(lease)
        return found

    async def test_oldest_first_and_released_before_all(self):
        """Leases come in order of arrival; one that is released comes before the others."""
        opened = await self.open()
        queue = opened.queue
        await maybeDeferred(queue.put, pushes(4))
        first, second = await self.take(queue, 2)
        queue.release(first)
        queue.release(second)
        assert queue.depth == 4
        assert [queue.take(), queue.take()] == [first, second]
        queue.settle(first)
        queue.release(second)
        assert queue.depth == 3
        assert await self.payloads(queue) == [1, 2, 3]
        assert (queue.take(), queue.depth) == (None, 0)

    async def test_a_push_is_there_once_put_is_complete(self):
        """And `on_ready` is called, as the queue was empty."""
        opened = await self.open()
        for number in range(3):
            await maybeDeferred(opened.queue.put, pushes(1, number))
            lease = opened.queue.take()
            assert lease is not None
            assert int(lease.push.payload) == number
            await self.until(lambda: opened.ready == ["a"] * (number + 1))  # noqa: B023
        assert opened.queue.depth == 3

    async def test_what_has_not_ended_is_there_after_a_restart(self):
        """In order, with its age, whether it was on lease, released, or never taken."""
        opened = await self.open()
        queue = opened.queue
        await maybeDeferred(queue.put, pushes(1_000))
        leases = await self.take(queue, 100)
        for lease in leases[::2]:
            queue.settle(lease)
        for lease in leases[1:50:2]:
            queue.release(lease)
        received = leases[1].push.received
        await opened.close()
        assert (opened.stats[0].messages_handed_over, queue.depth) == (950, 0)
        again = await self.open()
        await self.until(lambda: again.queue.depth == 950)
        assert again.stats[0].messages_taken_over == 950
        [lease] = await self.take(again.queue, 1)
        assert abs(lease.push.received - received) < 0.01
        again.queue.release(lease)
        assert await self.payloads(again.queue) == [*range(1, 100, 2), *range(100, 1_000)]
        await again.close()
        last = await self.open()
        assert (last.queue.depth, last.stats[0].messages_taken_over) == (0, 0)

    async def test_the_json_form_survives(self):
        """With its fields, and told from node2dm's form."""
        opened = await self.open()
        line = '{"token":"t","collapse_key":"k","data":{"a":"\u00e4\\u0000"},"id":"x-1"}'.encode()
        plain = split_at_colons("t:k:{\u00e4".encode(), 1.0)
        await maybeDeferred(opened.queue.put, [read_json(line, 1.0)[1], plain])
        await opened.close()
        again = await self.open()
        first, second = [lease.push for lease in await self.take(again.queue, 2)]
        assert first.fields == {
            "token": "t",
            "collapse_key": "k",
            "data": {"a": "\u00e4\0"},
            "id": "x-1",
        }
        assert (first.id, first.is_json) == ("x-1", True)
        assert (second.line, second.is_json) == (plain.line, False)

    async def test_routes_are_apart(self):
        """Each queue has its own pushes, also after a restart."""
        opened = await self.open()
        await maybeDeferred(opened.queues[0].put, pushes(3))
        await maybeDeferred(opened.queues[1].put, pushes(2, 10))
        assert [queue.depth for queue in opened.queues] == [3, 2]
        await opened.close()
        again = await self.open()
        await self.until(lambda: [queue.depth for queue in again.queues] == [3, 2])
        assert await self.payloads(again.queues[1]) == [10, 11]
        assert await self.payloads(again.queues[0]) == [0, 1, 2]

    async def test_a_full_queue_drops_what_does_not_fit(self):
        """It is counted, and handed to `on_overflow`; what is on lease is spared."""
        opened = await self.open(max_queued=10)
        queue = opened.queue
        await maybeDeferred(queue.put, pushes(8))
        lease = queue.take()
        await maybeDeferred(queue.put, pushes(8, 8))
        assert (queue.depth, opened.stats[0].messages_overflowed) == (10, 6)
        assert len(opened.overflowed) == 6
        queue.settle(lease)
        left = await self.payloads(queue)
        assert sorted([0, *left, *opened.overflowed]) == list(range(16))
        assert opened.overflowed == self.dropped

    async def test_urgent_pushes_come_before_the_others(self):
        """Of each those that were released come first; depth and age are counted apart."""
        opened = await self.open()
        queue = opened.queue
        await maybeDeferred(queue.put, pushes(2))
        assert (queue.urgent_depth, queue.next_urgent_received) == (0, None)
        others = await self.take(queue, 1)
        await maybeDeferred(queue.put, [*pushes(1, 2), *urgent_pushes(3, 10)])
        urgent = await self.take(queue, 2)
        assert [number_of(lease.push) for lease in urgent] == [10, 11]
        assert (queue.depth, queue.urgent_depth) == (6, 3)
        for lease in (*others, *urgent):
            queue.release(lease)
        assert queue.next_urgent_received == urgent[0].push.received
        assert queue.next_received == others[0].push.received
        assert await self.payloads(queue) == [10, 11, 12, 0, 1, 2]
        assert (queue.depth, queue.urgent_depth, queue.next_received) == (0, 0, None)

    async def test_a_tenth_is_left_for_the_others(self):
        """After nine urgent leases in a row one of the others comes, as long as any wait."""
        opened = await self.open()
        await maybeDeferred(opened.engine.put_all, {opened.queue: urgent_pushes(40)}, None)
        await maybeDeferred(opened.queue.put, pushes(2, 100))
        found = await self.payloads(opened.queue)
        assert found == [*range(9), 100, *range(9, 18), 101, *range(18, 40)]

    async def test_what_is_urgent_is_so_after_a_restart(self):
        """Whether it was on lease, released or never taken; it comes first again."""
        opened = await self.open()
        queue = opened.queue
        await maybeDeferred(queue.put, pushes(1_000))
        await maybeDeferred(queue.put, urgent_pushes(5, 2_000))
        released, _ = await self.take(queue, 2)
        queue.release(released)
        await opened.close()
        again = await self.open()
        await self.until(lambda: again.queue.depth == 1_005)
        assert again.queue.urgent_depth == 5
        first = await self.take(again.queue, 5)
        assert sorted(number_of(lease.push) for lease in first) == list(range(2_000, 2_005))
        assert all(lease.push.is_urgent for lease in first)
        for lease in first:
            again.queue.settle(lease)
        assert (again.queue.depth, again.queue.urgent_depth) == (1_000, 0)
        assert await self.payloads(again.queue) == list(range(1_000))

    async def test_urgent_pushes_overflow_last(self):
        """Where some of those that come together fit, or can make room, it is the urgent ones."""
        opened = await self.open(max_queued=10)
        await maybeDeferred(opened.queue.put, pushes(8))
        await maybeDeferred(opened.queue.put, [*pushes(3, 8), *urgent_pushes(2, 20)])
        assert opened.overflowed == self.dropped_beside_urgent
        await maybeDeferred(opened.queue.put, urgent_pushes(9, 30))
        assert (opened.queue.depth, opened.stats[0].messages_overflowed) == (10, 12)
        assert sorted([*opened.overflowed, *await self.payloads(opened.queue)]) == [
            *range(11),
            *(20, 21),
            *range(30, 39),
        ]
        assert (opened.queue.urgent_depth, opened.overflowed[3:]) == (0, self.dropped_by_urgent)

    async def test_another_limit(self):
        """A queue that is reconfigured takes as many as the new limit says; none is dropped."""
        opened = await self.open(max_queued=3)
        opened.queue.reconfigure(5)
        await maybeDeferred(opened.queue.put, pushes(5))
        opened.queue.reconfigure(2)
        assert (opened.queue.depth, opened.queue.max_queued, opened.overflowed) == (5, 2, [])

    async def test_all_or_none(self):
        """Where one queue has no room nothing is taken, and no receipt is kept."""
        opened = await self.open(max_queued=5)
        first, second = opened.queues
        receipt = Receipt("key", b"digest", b'{"accepted":3}', time.time())
        with pytest.raises(QueueFull):
            await maybeDeferred(
                opened.engine.put_all, {first: pushes(1), second: pushes(6)}, receipt
            )
        assert (first.depth, second.depth) == (0, 0)
        assert await opened.engine.find_receipt("key") is None
        await maybeDeferred(
            opened.engine.put_all, {first: pushes(1), second: pushes(5, 1)}, receipt
        )
        assert (first.depth, second.depth) == (1, 5)
        assert await opened.engine.find_receipt("key") == receipt
        assert await opened.engine.find_receipt("other") is None
        assert (sorted(opened.ready), opened.overflowed) == (["a", "b"], [])

    async def test_what_was_accepted_is_not_dropped(self):
        """Later pushes by UDP overflow instead."""
        opened = await self.open(max_queued=5)
        await maybeDeferred(opened.engine.put_all, {opened.queue: pushes(5)}, None)
        await maybeDeferred(opened.queue.put, pushes(3, 5))
        assert opened.overflowed == [5, 6, 7]
        assert await self.payloads(opened.queue) == [0, 1, 2, 3, 4]

    async def test_a_receipt_is_kept_for_a_day(self):
        """Not longer; the newer of two with one key counts."""
        opened = await self.open()
        engine, now = opened.engine, time.time()
        for key, age, answer in (("new", 86_000, b"1"), ("old", 86_401, b"2"), ("new", 1, b"3")):
            receipt = Receipt(key, b"digest", answer, now - age)
            await maybeDeferred(engine.put_all, {opened.queue: pushes(1)}, receipt)
        assert (await engine.find_receipt("new")).answer == b"3"
        assert await engine.find_receipt("old") is None

    async def test_what_another_engine_left_is_taken_up(self):
        """A spool of pushes in memory becomes a queue; its file goes once they are stored."""
        before = await self.open(make=make_memory)
        before.queue.put(pushes(1_200))
        await before.close()
        spool = self.folder / "a.spool"
        assert spool.exists()
        opened = await self.open()
        await self.until(lambda: opened.queue.depth == 1_200)
        await self.until(lambda: not spool.exists())
        assert opened.stats[0].messages_taken_over == 1_200
        assert await self.payloads(opened.queue) == list(range(1_200))

    async def test_what_another_engine_left_urgent_comes_first(self):
        """It stands before the others in the spool, too, so that it is there at once."""
        before = await self.open(make=make_memory)
        before.queue.put(pushes(1_200))
        before.queue.put(urgent_pushes(2, 2_000))
        await before.close()
        opened = await self.open()
        leases = await self.take(opened.queue, 2)
        assert [number_of(lease.push) for lease in leases] == [2_000, 2_001]

    async def test_a_second_stop_changes_nothing(self):
        """What was handed over is counted once."""
        opened = await self.open()
        await maybeDeferred(opened.queue.put, pushes(2))
        for _ in range(2):
            await maybeDeferred(opened.queue.stop)
        assert opened.stats[0].messages_handed_over == 2


class MemoryQueueTests(QueueContract, TestCase):
    """The engine in memory."""

    dropped: ClassVar = [1, 2, 3, 4, 5, 6]
    dropped_beside_urgent: ClassVar = [0, 1, 2]
    dropped_by_urgent: ClassVar = [*range(3, 11), 20]

    def make(self, folder):
        return make_memory(folder)


class SqliteQueueTests(QueueContract, TestCase):
    """The engine on disk, with its thread."""

    dropped: ClassVar = [10, 11, 12, 13, 14, 15]
    dropped_beside_urgent: ClassVar = [8, 9, 10]
    dropped_by_urgent: ClassVar = [*range(30, 39)]

    def make(self, folder):
        return make_sqlite(folder)

    async def test_receipts_survive_a_restart(self):
        """As do the pushes that were stored with them."""
        opened = await self.open()
        receipt = Receipt("key", b"digest", b"{}", time.time())
        await opened.engine.put_all({opened.queue: pushes(2)}, receipt)
        await opened.close()
        again = await self.open()
        assert await again.engine.find_receipt("key") == receipt
        assert again.queue.depth == 2
