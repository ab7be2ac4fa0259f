"""Pushes from a stop to the next start."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import attrs
import pytest
from twisted.internet.task import Clock
from twisted.logger import capturedLogs, formatEvent

from node2dm_tw.core.push import Push, split_at_colons
from node2dm_tw.core.stats import RouteStats
from node2dm_tw.queues.push_spool import MAX_LINES_PER_SLICE, PushSpool
from node2dm_tw.state.spool import Spool
from tests.support.odd_files import ODD, is_untouched


@attrs.define(eq=False)
class Bench:
    """A process that keeps its pushes in `folder`."""

    folder: Path
    room: int = 10_000
    stats: RouteStats = attrs.field(factory=RouteStats)
    clock: Clock = attrs.field(factory=Clock)
    queued: list[Push] = attrs.field(factory=list)
    spool: PushSpool = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self.clock.advance(100_000)
        self.spool = PushSpool(
            Spool(self.folder / "spool"),
            self.stats,
            self.clock,
            lambda: 1_700_000_000.0 + self.clock.seconds(),
            lambda: self.room - len(self.queued),
            self.queued.extend,
        )

    def numbers(self) -> list[int]:
        """Which pushes are queued; then they are no longer."""
        numbers = [int(push.payload) for push in self.queued]
        self.queued.clear()
        return numbers


def pushes(count: int, first: int = 0) -> list[Push]:
    return [split_at_colons(b"d:k:%d" % n, 1.0) for n in range(first, first + count)]


def left(folder: Path) -> dict[str, int]:
    """The files, and how many lines each has below its first."""
    return {path.name: path.read_bytes().count(b"\n") - 1 for path in sorted(folder.iterdir())}


@contextmanager
def logged(*lines: str) -> Iterator[None]:
    with capturedLogs() as events:
        yield
    assert [formatEvent(event) for event in events] == list(lines)


def test_pushes_are_restored_in_slices(tmp_path):
    """So that the reactor gets its turn; the file goes when all of it is queued."""
    path = tmp_path / "spool"
    with logged(f"saved {2 * MAX_LINES_PER_SLICE + 1} unsent pushes to {path}"):
        Bench(tmp_path).spool.save(pushes(2 * MAX_LINES_PER_SLICE + 1))
    bench = Bench(tmp_path)
    with logged(f"restored {2 * MAX_LINES_PER_SLICE + 1} pushes from {path}"):
        bench.spool.restore()
        assert len(bench.queued) == MAX_LINES_PER_SLICE
        assert path.exists()
        bench.clock.pump([0] * 3)
    assert not path.exists()
    assert bench.stats.messages_taken_over == 2 * MAX_LINES_PER_SLICE + 1
    assert bench.numbers() == list(range(2 * MAX_LINES_PER_SLICE + 1))
    assert not bench.clock.getDelayedCalls()


def test_nothing_left_and_nothing_to_restore(tmp_path):
    """No file, and not a word."""
    with logged():
        bench = Bench(tmp_path)
        bench.spool.restore()
        bench.spool.save([])
    assert not list(tmp_path.iterdir())


def test_a_stop_before_the_start_was_over_keeps_both(tmp_path):
    """What was left before is not read yet; what came since has a file of its own."""
    Bench(tmp_path).spool.save(pushes(3))
    Bench(tmp_path).spool.save(pushes(2, first=3))
    assert left(tmp_path) == {"spool": 3, "spool.1": 2}
    bench = Bench(tmp_path)
    bench.spool.restore()
    bench.clock.pump([0] * 3)
    assert bench.numbers() == [0, 1, 2, 3, 4]
    assert not list(tmp_path.iterdir())


def test_a_stop_while_a_file_is_restored_keeps_the_rest(tmp_path):
    """What was restored and is still unsent, and what was not restored, are both in the file."""
    Bench(tmp_path).spool.save(pushes(3 * MAX_LINES_PER_SLICE))
    second = Bench(tmp_path)
    second.spool.restore()
    second.spool.save(second.queued[10:])
    assert left(tmp_path) == {"spool": 3 * MAX_LINES_PER_SLICE - 10}
    assert not second.clock.getDelayedCalls()
    third = Bench(tmp_path)
    third.spool.restore()
    third.spool.save([])  # all that was restored was sent
    fourth = Bench(tmp_path)
    fourth.spool.restore()
    fourth.clock.pump([0] * 5)
    assert fourth.numbers() == list(range(MAX_LINES_PER_SLICE + 10, 3 * MAX_LINES_PER_SLICE))


def test_a_spool_larger_than_the_queue_waits_for_room(tmp_path):
    """Restoring never drops a push: it goes on when there is room."""
    Bench(tmp_path).spool.save(pushes(50))
    bench = Bench(tmp_path, room=20)
    bench.spool.restore()
    bench.clock.advance(5)
    assert len(bench.queued) == 20
    numbers = []
    for _ in range(4):
        numbers += bench.numbers()
        bench.clock.advance(1)
    assert numbers == list(range(50))


@pytest.mark.parametrize("damage", [b"", b"\n", b"garbage", b"node2dm_tw spool 1\nzz\n\xff\xff\n"])
def test_a_file_that_is_no_spool_never_stops_the_start(tmp_path, damage):
    """Nonsense is set aside, empty or not, and counted."""
    path = tmp_path / "spool"
    path.write_bytes(damage)
    bench = Bench(tmp_path)
    bad = 2 if b"zz" in damage else 1
    with logged(
        f"{path} was damaged: {bad} records could not be read; they are kept in {path}.damaged"
    ):
        bench.spool.restore()
    assert bench.stats.spool_damaged == bad
    assert not bench.queued
    assert not path.exists()
    assert (tmp_path / "spool.damaged").read_bytes() == damage
    bench.spool.save(pushes(1))
    assert path.exists()


def test_damage_that_was_met_before_a_stop_is_reported(tmp_path):
    """Though the file was not restored to its end; what comes after is left to the next start."""
    Bench(tmp_path).spool.save(pushes(2 * MAX_LINES_PER_SLICE))
    path = tmp_path / "spool"
    first, *lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([first, b"zz\n", *lines, b"zz\n"]))
    bench = Bench(tmp_path)
    bench.spool.restore()
    with logged(
        f"{path} was damaged: 1 records could not be read; they are kept in {path}.damaged",
        f"saved {MAX_LINES_PER_SLICE - 1} unsent pushes to {path}",
    ):
        bench.spool.save(bench.queued)
    assert bench.stats.spool_damaged == 1
    assert left(tmp_path) == {"spool": 2 * MAX_LINES_PER_SLICE + 1, "spool.damaged": 1}


@pytest.mark.parametrize("kind", ODD)
def test_what_is_no_spool_is_left_where_it_is(tmp_path, monkeypatch, kind):
    """It is reported once; pushes flow, and those that are left go to another file."""
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "spool"
    ODD[kind](path)
    line = (
        f"cannot read {path} (it is {kind}): it is left as it is, and read again at SIGHUP and at"
        " the next start"
    )
    bench = Bench(tmp_path)
    with logged(line):
        bench.spool.restore()
        bench.clock.pump([0] * 3)
    bench.spool.save(pushes(1))
    assert is_untouched(path)
    bench = Bench(tmp_path)
    with logged(line, f"restored 1 pushes from {path}.1"):
        bench.spool.restore()
    assert bench.numbers() == [0]


def test_a_file_that_can_be_read_later_is_restored_at_sighup(tmp_path):
    """Nothing is restored twice."""
    Bench(tmp_path).spool.save(pushes(2))
    path, away = tmp_path / "spool", tmp_path / "away"
    path.rename(away)
    path.mkdir()
    Bench(tmp_path).spool.save(pushes(2, first=2))
    bench = Bench(tmp_path)
    bench.spool.restore()
    assert bench.numbers() == [2, 3]
    path.rmdir()
    away.rename(path)
    bench.spool.restore()
    bench.spool.restore()
    bench.clock.pump([0] * 3)
    assert bench.numbers() == [0, 1]
    assert bench.stats.messages_taken_over == 4
    assert not list(tmp_path.iterdir())


def test_a_disk_that_fails_at_the_first_byte_loses_nothing():
    """The line says so; reading is tried again at SIGHUP, not by itself."""
    bench = Bench(Path("/proc/self"))
    bench.spool.spool = Spool(Path("/proc/self/mem"))  # its first byte cannot be read
    line = (
        "cannot read /proc/self/mem (Input/output error): it is left as it is, and read again at"
        " SIGHUP and at the next start"
    )
    for _ in range(2):
        with logged(line):
            bench.spool.restore()
            bench.clock.pump([0] * 3)


def test_a_folder_that_is_gone(tmp_path):
    """Nothing can be restored, and what is left is lost, which the caller hears."""
    bench = Bench(tmp_path / "state")
    with capturedLogs() as events:
        bench.spool.restore()
    assert "cannot read" in formatEvent(events[0])
    with pytest.raises(FileNotFoundError):
        bench.spool.save(pushes(1))
    bench.spool.save([])


@pytest.mark.parametrize("is_done", [True, False])
def test_a_file_that_cannot_be_removed_is_not_restored_twice_by_one_process(small_disk, is_done):
    """Only the next start sends its pushes again, and the log says so."""
    path = small_disk.path / "spool"
    Bench(small_disk.path).spool.save(pushes(2 * MAX_LINES_PER_SLICE if not is_done else 2))
    small_disk.remount("ro")
    bench = Bench(small_disk.path)
    line = (
        f"cannot remove {path} (Read-only file system): its pushes will be sent again at the next"
        " start"
    )
    if is_done:
        with logged(f"restored 2 pushes from {path}", line, line):
            bench.spool.restore()
            bench.spool.restore()
        assert bench.numbers() == [0, 1]
        small_disk.remount("rw")
        with logged():
            bench.spool.restore()
        assert not path.exists()
        assert not bench.queued
    else:
        bench.spool.restore()
        with logged(line), pytest.raises(OSError, match="Read-only"):
            bench.spool.save(bench.queued)
        assert path.exists()


def test_damaged_lines_on_a_full_disk(small_disk):
    """The whole file is set aside, which needs no room."""
    path = small_disk.path / "spool"
    Bench(small_disk.path).spool.save(pushes(2))
    with path.open("ab") as file:
        file.write(b"garbage\n" * 2)
    content = path.read_bytes()
    small_disk.fill()
    bench = Bench(small_disk.path)
    bench.spool.restore()
    assert bench.numbers() == [0, 1]
    assert not path.exists()
    assert (small_disk.path / "spool.damaged").read_bytes() == content
    assert bench.stats.spool_damaged == 2


def test_a_stop_on_a_full_disk_leaves_what_it_could_not_replace(small_disk):
    """The file that was being restored is as it was."""
    path = small_disk.path / "spool"
    Bench(small_disk.path).spool.save(pushes(2 * MAX_LINES_PER_SLICE))
    content = path.read_bytes()
    bench = Bench(small_disk.path)
    bench.spool.restore()
    small_disk.fill()
    with pytest.raises(OSError, match="No space left"):
        bench.spool.save(bench.queued)
    assert path.read_bytes() == content
    (small_disk.path / "ballast").unlink()
    assert [*small_disk.path.iterdir()] == [path]


def test_one_push_that_cannot_be_written_loses_no_other(tmp_path):
    """It never should be there; a stop saves the others all the same."""
    bad = Push(b"\xff:k:p", 1, 3, 1.0)
    with capturedLogs() as events:
        Bench(tmp_path).spool.save([*pushes(1), bad, *pushes(1, first=1)])
    assert [event["log_format"] for event in events if event["log_level"].name == "critical"] == [
        "a push could not be saved"
    ]
    bench = Bench(tmp_path)
    bench.spool.restore()
    assert bench.numbers() == [0, 1]


def test_a_copy_of_a_spool_beside_it_is_restored_too(tmp_path):
    """As an operator would bring back one that was set aside."""
    Bench(tmp_path).spool.save(pushes(1))
    shutil.copy(tmp_path / "spool", tmp_path / "spool.7")
    bench = Bench(tmp_path)
    bench.spool.restore()
    bench.clock.pump([0] * 3)
    assert bench.numbers() == [0, 0]
