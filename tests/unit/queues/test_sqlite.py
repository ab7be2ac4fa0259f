"""The queue on disk: its window in memory, sleepers of an earlier process, and failing disks."""

import sqlite3
from pathlib import Path

import attrs
import pytest
from twisted.internet.task import Clock
from twisted.logger import capturedLogs, formatEvent

from node2dm_tw.core.push import split_at_colons
from node2dm_tw.core.stats import RouteStats
from node2dm_tw.queues import sqlite_line, sqlite_writer
from node2dm_tw.queues.interface import QueueFull, Receipt
from node2dm_tw.queues.sqlite import SqliteQueue
from node2dm_tw.queues.sqlite_engine import SqliteEngine
from node2dm_tw.queues.sqlite_writer import INSERT_DELAY, RETRY_INTERVAL
from tests.support.doubles import bench
from tests.support.in_place import make_in_place_writer

WALL = 1_700_000_000.0


@attrs.define(eq=False)
class Opened:
    """An engine with one queue, and what it called."""

    engine: SqliteEngine
    clock: Clock
    stats: RouteStats = attrs.field(factory=RouteStats)
    overflowed: list[int] = attrs.field(factory=list)
    ready: list[int] = attrs.field(factory=list)
    queue: SqliteQueue = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self.queue = self.engine.add_queue(
            "c2dm",
            1_000_000,
            self.stats,
            lambda: self.ready.append(1),
            lambda push, limit: self.overflowed.append(int(push.payload)),
        )

    def put(self, count, first=0, size=0):
        """Queue numbered pushes, and let them be stored."""
        self.queue.put(
            [split_at_colons(b"d:k:%d" % n + b" " * size, 1.0) for n in range(first, first + count)]
        )
        self.clock.advance(INSERT_DELAY)

    def take(self):
        """Take everything that can be taken now."""
        leases = []
        while (lease := self.queue.take()) is not None:
            leases.append(lease)
        return leases

    def execute(self, sql, *values):
        """Ask the database in which the queue is."""
        return (
            self.engine.writer.run(lambda c: c.execute(sql, values).fetchall()).result  # in place
        )

    def stop(self):
        self.clock.advance(1)
        self.queue.stop()
        self.engine.stop()


@pytest.fixture
def make(tmp_path: Path):
    """Make and start engines over one folder; each stops the one before, or kills it."""
    made: list[Opened] = []

    def start(*, wall=0.0, kill=False):
        if made and kill:
            made[-1].engine.stop()
        elif made:
            made[-1].stop()
        clock = Clock()
        writer = make_in_place_writer(tmp_path, clock)
        engine = SqliteEngine(tmp_path, clock, lambda: WALL + wall + clock.seconds(), writer)
        opened = Opened(engine, clock)
        engine.start()
        made.append(opened)
        return opened

    yield start
    made[-1].engine.stop()


def numbers(leases):
    return [int(lease.push.payload) for lease in leases]


def settle(opened, leases):
    for lease in leases:
        opened.queue.settle(lease)


def test_the_window_is_filled_again_in_order(make, monkeypatch):
    """However many are queued, and whenever they come, memory holds about a window of them."""
    monkeypatch.setattr(sqlite_line, "WINDOW", 100)
    opened = make()
    queue, taken, came = opened.queue, [], 0
    for _ in range(20):
        opened.put(70, first=came)
        came += 70
        for _ in range(35):
            taken.append(queue.take())
            queue.settle(taken[-1])
        assert len(queue.others._window) <= 170
        assert queue.depth == came - len(taken)
    while queue.depth:
        taken.append(queue.take())
        queue.settle(taken[-1])
    assert numbers(taken) == list(range(came))
    opened.clock.advance(1)
    assert opened.execute("SELECT count(*) FROM push") == [(0,)]
    assert (queue.queued_bytes, queue.next_received) == (0, None)


def test_long_pushes_fill_a_window_by_their_bytes(make, monkeypatch):
    """Not by their number alone."""
    monkeypatch.setattr(sqlite_line, "WINDOW_BYTES", 100_000)
    opened = make()
    for number in range(20):
        opened.put(1, number, size=50_000)
    assert opened.queue.queued_bytes < 3 * 51_000
    assert numbers(opened.take()) == list(range(20))


def test_memory_does_not_grow_with_the_queue(make):
    """Of 30,000 pushes a window is in memory; after a restart as well."""
    opened = make()
    for first in range(0, 30_000, 500):
        opened.put(500, first)
    assert opened.queue.depth == 30_000
    assert opened.queue.queued_bytes < 10_500 * 400
    again = make()
    assert (again.queue.depth, again.stats.messages_taken_over) == (30_000, 30_000)
    assert again.queue.queued_bytes < 10_500 * 400
    assert opened.stats.messages_handed_over == 30_000


@pytest.mark.parametrize("kill", [False, True])
def test_a_sleeping_push_keeps_its_moment_and_attempts(make, kill):
    """A process that begins before that moment gives it then, and not before."""
    opened = make()
    opened.put(3)
    leases = opened.take()
    for lease, delay in zip(leases, (50, 20, 100), strict=True):
        lease.attempts = delay // 10
        opened.queue.sleep(lease, WALL + delay)
    opened.queue.release(leases[2])
    opened.clock.advance(1)
    again = make(wall=30.0, kill=kill)
    assert (again.queue.depth, again.queue.asleep, again.ready) == (3, 2, [1])
    [due] = again.take()
    assert (numbers([due]), due.attempts) == ([1], 2)
    again.clock.advance(19)
    assert again.take() == []
    again.clock.advance(2)
    [late] = again.take()
    assert (numbers([late]), late.attempts, again.queue.asleep) == ([0], 5, 1)
    settle(again, [due, late])
    last = make(wall=1_000.0, kill=kill)
    assert numbers(last.take()) == ([2] if not kill else [0, 1, 2][-last.queue.depth :])


def test_a_push_that_wakes_early_does_not_sleep_after_a_restart(make):
    """The last moment counts that the lane named."""
    opened = make()
    opened.put(1)
    [lease] = opened.take()
    opened.queue.sleep(lease, WALL + 1_000)
    opened.queue.sleep(lease, WALL)
    opened.queue.release(lease)
    again = make(wall=5.0)
    assert numbers(again.take()) == [0]


def test_many_sleepers_are_read_a_few_at_a_time(make):
    """All come, in the order of their moments."""
    opened = make()
    opened.put(1_800)
    for number, lease in enumerate(opened.take()):
        opened.queue.sleep(lease, WALL + 3_000 - number)
    again = make(wall=5_000.0)
    assert numbers(again.take()) != []
    assert again.queue.asleep == 0


def test_what_came_before_the_start_is_stored_once_it_is_done(make, tmp_path):
    """After what an earlier process left."""
    make().put(2)
    clock = Clock()
    opened = make()
    early = Opened(
        SqliteEngine(tmp_path, clock, lambda: WALL, make_in_place_writer(tmp_path, clock)), clock
    )
    opened.stop()
    stored = early.queue.put([split_at_colons(b"d:k:9", 1.0)])
    with pytest.raises(QueueFull):
        early.engine.put_all({early.queue: []})
    clock.advance(5)
    assert (early.queue.depth, early.stats.messages_overflowed) == (0, 0)
    early.engine.start()
    assert stored.called
    assert numbers(early.take()) == [0, 1, 9]
    early.engine.stop()


def test_a_database_that_cannot_be_opened(tmp_path):
    """The start fails, and what had come overflows."""
    (tmp_path / "queue.sqlite").mkdir()
    clock = Clock()
    opened = Opened(
        SqliteEngine(tmp_path, clock, lambda: WALL, make_in_place_writer(tmp_path, clock)), clock
    )
    opened.queue.put([split_at_colons(b"d:k:7", 1.0)])
    failures = []
    opened.engine.start().addErrback(failures.append)
    assert failures
    assert opened.overflowed == [7]
    opened.engine.stop()


def test_a_full_disk_turns_new_pushes_away_and_recovers(make):
    """What was stored is sent and removed; one line is logged at the beginning, one at the end."""
    opened = make()
    queue, engine = opened.queue, opened.engine
    opened.put(50)
    settled = [queue.take() for _ in range(20)]
    [(pages,)] = opened.execute("PRAGMA page_count")
    with capturedLogs() as logs:
        opened.execute(f"PRAGMA max_page_count = {pages}")
        opened.put(500, first=50, size=200)
        assert (queue.is_writable, queue.depth) == (False, 50)
        assert opened.overflowed == list(range(50, 550))
        opened.put(1, first=550)
        with pytest.raises(QueueFull, match="cannot be written"):
            engine.put_all({queue: [split_at_colons(b"d:k:1", 1.0)]})
        settle(opened, settled)
        opened.clock.pump([RETRY_INTERVAL] * 5)
        assert (queue.is_writable, opened.stats.messages_overflowed) == (False, 501)
        opened.execute("PRAGMA max_page_count = 1000000")
        opened.clock.advance(RETRY_INTERVAL)
    assert queue.is_writable
    lines = [formatEvent(event) for event in logs]
    assert [line.partition(" (")[0] for line in lines] == [
        "queue.sqlite cannot be written",
        "queue.sqlite can be written again",
    ]
    assert opened.execute("SELECT count(*) FROM push") == [(30,)]
    opened.put(1, first=551)
    assert numbers(opened.take()) == [*range(20, 50), 551]


def test_a_refused_request_is_told(make):
    """`put_all` fails with `QueueFull` where its transaction fails, and keeps no receipt."""
    opened = make()
    [(pages,)] = opened.execute("PRAGMA page_count")
    opened.execute(f"PRAGMA max_page_count = {pages}")
    pushes = [split_at_colons(b"d:k:%d" % n + b" " * 400, 1.0) for n in range(400)]
    stored = opened.engine.put_all({opened.queue: pushes}, Receipt("key", b"d", b"{}", WALL))
    failures = []
    stored.addErrback(failures.append)
    opened.clock.advance(INSERT_DELAY)
    assert failures[0].check(QueueFull)
    assert (opened.queue.depth, opened.overflowed) == (0, [])
    opened.execute("PRAGMA max_page_count = 1000000")
    opened.clock.advance(RETRY_INTERVAL)
    assert opened.engine.find_receipt("key").result is None
    assert opened.queue.room == 1_000_000


def test_a_stop_with_a_full_disk_says_what_is_sent_again(make):
    """Ended pushes that cannot be removed; a second stop counts what is handed over."""
    opened = make()
    opened.put(10)
    settle(opened, [opened.queue.take()])
    opened.execute("PRAGMA query_only = ON")
    failures = []
    opened.queue.stop().addErrback(failures.append)
    assert failures[0].check(OSError)
    opened.execute("PRAGMA query_only = OFF")
    opened.queue.stop()
    assert opened.stats.messages_handed_over == 9


def test_what_waits_for_its_commit_is_bounded(make, monkeypatch):
    """By bytes, and it counts for max_queued."""
    monkeypatch.setattr(sqlite_writer, "MAX_WAITING_BYTES", 10_000)
    opened = make()
    for number in range(100):
        opened.queue.put([split_at_colons(b"d:k:%d" % number, 1.0)])
    assert len(opened.overflowed) == 100 - 10_000 // 357
    opened.clock.advance(INSERT_DELAY)
    opened.queue.reconfigure(opened.queue.depth + 2)
    for number in range(3):
        opened.queue.put([split_at_colons(b"d:k:%d" % number, 1.0)])
    assert opened.overflowed[-1] == 2
    opened.clock.advance(INSERT_DELAY)
    assert opened.queue.depth == opened.queue.max_queued


def test_a_row_that_is_damaged_is_lost_alone(make):
    """It ends as refused, so that every push is in one counter."""
    make().put(5)
    opened = make()
    opened.engine.stop()
    folder = opened.engine.state_dir
    with sqlite3.connect(folder / "queue.sqlite") as connection:
        connection.execute("UPDATE push SET line = 'd:k:x' WHERE line = CAST('d:k:2' AS BLOB)")
    connection.close()
    again = make(kill=True)
    assert numbers(again.take()) == [0, 1, 3, 4]
    assert (again.queue.depth, again.stats.spool_damaged) == (4, 1)
    assert again.stats.refused_reasons == {"damaged": 1}
    assert again.stats.messages_taken_over == 5
    again.clock.advance(1)
    assert again.execute("SELECT count(*) FROM push") == [(4,)]


def test_damage_while_it_runs(make):
    """The database is replaced by what can be read of it, and the commit is done again."""
    opened = make()
    for first in range(0, 12_000, 500):
        opened.put(500, first)
    assert opened.queue.others._on_disk
    opened.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    file = opened.engine.state_dir / "queue.sqlite"
    with file.open("r+b") as database:
        for page in range(30, 40):
            database.seek(page * 4096)
            database.write(b"\xff" * 200)
    opened.execute("PRAGMA shrink_memory")
    settle(opened, [lease for lease in [opened.queue.take() for _ in range(6_000)] if lease])
    opened.put(100, 12_000)
    left = numbers(opened.take())
    assert left[-100:] == list(range(12_000, 12_100))
    assert opened.queue.depth == len(left)
    assert list(opened.engine.state_dir.glob("queue.sqlite.damaged"))
    stats = opened.stats
    assert 6_000 + len(left) + stats.messages_refused == 12_100


def test_rows_of_a_route_that_is_not_configured_are_kept(make):
    """A line of the log names it."""
    opened = make()
    opened.put(1)
    opened.execute("UPDATE route SET name = 'gone'")
    opened.execute("UPDATE route_copy SET name = 'gone', hex = hex('gone')")
    with capturedLogs() as logs:
        again = make()
    assert "queue.sqlite has 1 pushes of gone, which is not configured: kept" in [
        formatEvent(event) for event in logs
    ]
    assert again.queue.depth == 0
    again.put(1)
    assert again.execute("SELECT count(*) FROM push") == [(2,)]


def test_old_receipts_go(make, monkeypatch):
    """The newest stay, up to a number."""
    monkeypatch.setattr("node2dm_tw.queues.sqlite_statements.MAX_RECEIPTS", 10)
    opened = make()
    for number in range(25):
        receipt = Receipt(f"key-{number}", b"d", b"{}", WALL - 86_000 + number * 5_000)
        opened.engine.put_all({opened.queue: [split_at_colons(b"d:k:1", 1.0)]}, receipt)
        opened.clock.advance(INSERT_DELAY)
    keys = [key for (key,) in opened.execute("SELECT key FROM receipt ORDER BY number")]
    assert keys == [f"key-{number}" for number in range(15, 25)]


def test_a_stop_does_not_wait_for_sleepers_of_an_earlier_process(tmp_path):
    """Nor for more than what may still be sent before its end."""

    def make_engine(folder, clock, wall):
        return SqliteEngine(folder, clock, wall, make_in_place_writer(folder, clock))

    first = bench(tmp_path, make_engine=make_engine)
    first.push(b"d:k:1")
    first.clock.advance(1)
    lease = first.queue.take()
    first.queue.sleep(lease, first.lane.wall() + 1_000)
    first.queue.stop()
    first.engine.stop()
    again = bench(tmp_path, make_engine=make_engine)
    again.lane.start()
    again.push(b"d:k:2")
    again.clock.advance(1)
    assert (again.queue.depth, again.queue.asleep) == (2, 1)
    stopped = []
    again.lane.stop(60.0).addCallback(stopped.append)
    assert not stopped
    again.answer_all()
    again.clock.advance(0)
    assert stopped
    again.queue.stop()
    again.engine.stop()
    assert again.stats.messages_handed_over == 1
