"""The queue in memory, and its spool."""

from pathlib import Path

import pytest
from twisted.internet.task import Clock

from node2dm_tw.push import Push, split_at_colons
from node2dm_tw.queues.memory import SLICE, MemoryQueue
from node2dm_tw.queues.spool import Spool, from_record, to_record
from node2dm_tw.stats import RouteStats

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


def test_what_is_left_is_spooled_and_taken_up_in_slices_oldest_first(tmp_path):
    """A stop writes every push with its receipt time; a start takes them up while intake runs."""
    queue = make(tmp_path)
    queue.put(reversed(pushes(3 * SLICE)))
    queue.release(queue.take())
    queue.stop()
    assert queue.depth == 0
    assert queue.stats.messages_handed_over == 3 * SLICE
    assert (tmp_path / "spool").stat().st_mode & 0o777 == 0o600
    again = make(tmp_path)
    again.start()
    assert again.depth == SLICE
    again.put(pushes(1, first=99_999))
    assert (tmp_path / "spool").exists()
    again.clock.pump([0] * 4)
    assert not (tmp_path / "spool").exists()
    assert again.stats.messages_taken_over == 3 * SLICE
    taken = payloads(again)
    assert taken[:SLICE] == list(range(SLICE))
    assert sorted(taken) == [*range(3 * SLICE), 99_999]


def test_a_stop_while_the_spool_is_taken_up_keeps_the_rest(tmp_path):
    """What was taken up and what was not are both in the next spool."""
    queue = make(tmp_path)
    queue.put(pushes(3 * SLICE))
    queue.stop()
    second = make(tmp_path)
    second.start()
    second.stop()
    assert second.stats.messages_taken_over == second.stats.messages_handed_over == SLICE
    third = make(tmp_path)
    third.start()
    third.clock.pump([0] * 5)
    assert payloads(third) == list(range(3 * SLICE))


def test_a_spool_larger_than_the_queue_waits_for_room(tmp_path):
    """Taking up never drops a push: it goes on when there is room."""
    queue = make(tmp_path)
    queue.put(pushes(50))
    queue.stop()
    small = make(tmp_path, max_queued=20)
    small.start()
    assert small.depth == 20
    small.clock.advance(5)
    assert small.depth == 20
    taken = []
    for _ in range(4):
        taken += payloads(small)
        small.clock.advance(1)
    assert taken == list(range(50))
    assert small.stats.messages_overflowed == 0


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


@pytest.mark.parametrize("damage", [b"", b"\n", b"garbage", b"node2dm_tw spool 1\nzz\n\xff\xff\n"])
def test_a_file_that_is_no_spool_never_stops_the_start(tmp_path, damage):
    """Nonsense is set aside, empty or not."""
    (tmp_path / "spool").write_bytes(damage)
    queue = make(tmp_path)
    queue.start()
    assert queue.depth == 0
    assert not (tmp_path / "spool").exists()
    assert (tmp_path / "spool.damaged").read_bytes() == damage
    queue.put(pushes(1))
    queue.stop()
    assert (tmp_path / "spool").exists()


def test_a_spool_that_is_a_folder_never_stops_the_start(tmp_path):
    """An unreadable spool is reported, and pushes flow."""
    (tmp_path / "spool").mkdir()
    queue = make(tmp_path)
    queue.start()
    queue.put(pushes(1))
    assert payloads(queue) == [0]


def test_a_disk_that_cannot_be_written_keeps_the_accounts_true(tmp_path):
    """Where the spool cannot be written, nothing is said to be handed over."""
    queue = make(tmp_path / "missing")
    queue.put(pushes(3))
    queue.stop()
    assert queue.stats.messages_handed_over == 0
    assert queue.depth == 3


def test_a_push_survives_its_record():
    """Both forms come back as they were."""
    for push in (
        split_at_colons("tök:k:a\u2028b\r😀".encode(), 12.5),
        Push(b'a:b:c:{"token":"a:b"}', 3, 5, 1.25, True),
    ):
        record = to_record(push, 1_000.0)
        assert b"\n" not in record
        assert from_record(record, now=push.received, offset=1_000.0) == push


@pytest.mark.parametrize(
    "record",
    [
        b"",
        b"{}",
        b"[]",
        b"[1,2,3,4,5]",
        b'["a:b:c",9,9,1,false]',
        b'["a:b:c",-5,3,1,false]',
        b'["abc",1,2,0,0]',
    ],
)
def test_a_record_that_is_no_push_is_none(record):
    """Whatever it is, it is told, not raised."""
    assert from_record(record, 0.0, 0.0) is None
