"""The queue in memory."""

from pathlib import Path

import pytest
from twisted.internet.task import Clock
from twisted.logger import capturedLogs, formatEvent

from node2dm_tw.core.push import Push, split_at_colons
from node2dm_tw.core.stats import RouteStats
from node2dm_tw.queues.memory import MemoryQueue
from node2dm_tw.state.spool import Spool

WALL = 1_700_000_000.0


def make(
    folder: Path, max_queued: int = 10_000, *, uptime: float = 100_000.0, wall: float = WALL
) -> MemoryQueue:
    """A queue of a process that has run for `uptime` seconds at the moment `wall`."""
    clock = Clock()
    clock.advance(uptime)
    spool = Spool(folder / "spool")
    return MemoryQueue(max_queued, RouteStats(), spool, clock, lambda: wall)


def pushes(count: int, first: int = 0) -> list[Push]:
    return [split_at_colons(b"d:k:%d" % n, 1_000.0 + n) for n in range(first, first + count)]


def payloads(queue: MemoryQueue) -> list[int]:
    taken = []
    while (lease := queue.take()) is not None:
        taken.append(int(lease.push.payload))
        queue.settle(lease)
    return taken


def test_oldest_first_and_released_before_all(tmp_path):
    """Leases come in order; one that is given back comes before what was never taken."""
    queue = make(tmp_path)
    queue.put(pushes(4))
    first, second = queue.take(), queue.take()
    queue.release(first)
    queue.release(second)
    assert queue.take() is first
    assert queue.take() is second
    assert queue.depth == 4
    assert payloads(queue) == [2, 3]


def test_it_calls_when_there_is_something_after_there_was_nothing(tmp_path):
    """`on_ready` is called at the first push of a batch, not at each."""
    queue = make(tmp_path)
    calls = []
    queue.on_ready = lambda: calls.append(queue.depth)
    queue.put(pushes(3))
    queue.put(pushes(1))
    assert calls == [3]


def test_a_full_queue_spares_what_is_on_lease(tmp_path):
    """Where everything kept is on lease, the newcomer itself overflows."""
    queue = make(tmp_path, max_queued=2)
    queue.put(pushes(2))
    leases = [queue.take(), queue.take()]
    queue.put(pushes(1, first=9))
    assert queue.stats.messages_overflowed == 1
    assert queue.take() is None
    assert all(leases)


def test_a_queue_that_was_made_smaller_shrinks_by_sending(tmp_path):
    """A newcomer takes the place of the oldest; nothing more is dropped for the new limit."""
    queue = make(tmp_path, max_queued=10)
    queue.put(pushes(10))
    queue.max_queued = 2
    queue.put(pushes(3, first=10))
    assert queue.stats.messages_overflowed == 3
    assert payloads(queue) == list(range(3, 13))


def test_a_stop_saves_all_that_was_not_settled(tmp_path):
    """Oldest first: what is queued, what came back, and what is on lease, whoever lost it."""
    queue = make(tmp_path)
    queue.put(reversed(pushes(5)))
    queue.settle(queue.take())
    queue.take()
    queue.release(queue.take())
    queue.stop()
    assert queue.depth == 0
    assert queue.stats.messages_handed_over == 4
    again = make(tmp_path)
    again.start()
    assert again.stats.messages_taken_over == 4
    assert payloads(again) == [0, 1, 2, 3]
    assert not list(tmp_path.iterdir())


def test_an_answer_that_comes_after_the_stop_changes_nothing(tmp_path):
    """Its push was saved: it is neither here nor saved twice."""
    queue = make(tmp_path)
    queue.put(pushes(2))
    leases = [queue.take(), queue.take()]
    queue.stop()
    queue.settle(leases[0])
    queue.release(leases[1])
    assert queue.depth == 0
    assert queue.take() is None


@pytest.mark.parametrize(("away", "age"), [(60.0, 100.0), (0.0, 40.0), (-60.0, 0.0)])
def test_a_push_that_crosses_a_restart_is_aged_by_the_wall_clock(tmp_path, away, age):
    """Its time on disk counts; where the wall clock was set back further, it is as good as new."""
    queue = make(tmp_path)
    queue.put([split_at_colons(b"d:k:p", queue.clock.seconds() - 40)])
    queue.stop()
    after = make(tmp_path, uptime=3.0, wall=WALL + away)
    after.start()
    lease = after.take()
    assert lease is not None
    assert after.clock.seconds() - lease.push.received == pytest.approx(age)


def test_a_disk_that_cannot_be_written_keeps_the_accounts_true(tmp_path):
    """Where the spool cannot be written, nothing is handed over; the line says how much is lost."""
    queue = make(tmp_path / "missing")
    queue.put(pushes(3))
    with capturedLogs() as events, pytest.raises(FileNotFoundError):
        queue.stop()
    assert queue.stats.messages_handed_over == 0
    assert queue.depth == 3
    (line,) = map(formatEvent, events)
    assert line.startswith(
        f"3 pushes are lost: {tmp_path / 'missing/spool'} cannot be written: No such"
    )
