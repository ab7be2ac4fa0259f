"""The write-ahead log: which frames SQLite would take, and which it would leave out in silence."""

from contextlib import closing

import pytest

from node2dm_tw.queues.sqlite_wal import PAGE_BYTES, read_wal, wal_path
from tests.support.queue_database import add, connect, copy_in_use, damage, make_database

FRAME_BYTES = PAGE_BYTES + 24


@pytest.fixture
def used(tmp_path):
    """A database as kill -9 leaves it, with ten transactions in its WAL."""
    path = make_database(tmp_path / "queue.sqlite", 10)
    with closing(connect(path)) as connection:
        for n in range(10, 20):
            add(connection, 1, [n])
        return copy_in_use(path, tmp_path / "killed.sqlite")


def test_without_a_wal_there_is_no_frame(tmp_path):
    """As after a clean stop."""
    assert read_wal(tmp_path / "none-wal") == []


def test_an_intact_wal_has_intact_frames_and_ends_with_a_commit(used):
    """One for each transaction."""
    frames = read_wal(wal_path(used))
    assert all(frame.is_intact for frame in frames)
    assert frames[-1].commit
    assert sum(frame.commit > 0 for frame in frames) == 10


def test_a_transaction_that_did_not_end_does_not_count(used):
    """It was never acknowledged."""
    before = read_wal(wal_path(used))
    with wal_path(used).open("ab") as file:
        file.write(wal_path(used).read_bytes()[32 : 32 + 4] + bytes(4))  # page, no commit
        file.write(wal_path(used).read_bytes()[40 : 32 + FRAME_BYTES])
        file.write(b"half a frame")
    assert read_wal(wal_path(used)) == before


@pytest.mark.parametrize("offset", [0, 8, 16, 20, 24, 31])
def test_damage_in_the_header_is_noticed(used, offset):
    """SQLite would then ignore the whole WAL."""
    before = read_wal(wal_path(used))
    damage(wal_path(used), offset, b"\xff")
    frames = read_wal(wal_path(used))
    assert [frame.is_intact for frame in frames] == [False] + [True] * (len(before) - 1)


@pytest.mark.parametrize("offset", [0, 4, 8, 15, 16, 20, 24, 2000, FRAME_BYTES - 1])
def test_damage_in_a_frame_is_noticed(used, offset):
    """The frames after it are intact nevertheless, apart from one that its checksum concerns."""
    before = read_wal(wal_path(used))
    damage(wal_path(used), 32 + 3 * FRAME_BYTES + offset, b"\xee")
    frames = read_wal(wal_path(used))
    assert not frames[3].is_intact
    assert [frame.offset for frame in frames] == [frame.offset for frame in before]
    assert all(frame.is_intact for frame in (*frames[:3], *frames[5:]))


def test_frames_of_an_earlier_wal_in_the_same_file_do_not_count(tmp_path):
    """SQLite writes over them from the start, once they are in the database."""
    path = make_database(tmp_path / "queue.sqlite", 10)
    with closing(connect(path)) as connection:
        add(connection, 1, range(10, 1000))
        connection.execute("PRAGMA wal_checkpoint(RESTART)")
        connection.execute("INSERT INTO route VALUES (2, ?)", ["fcm"])
        frames = read_wal(wal_path(path))
        assert wal_path(path).stat().st_size > 20 * FRAME_BYTES
    assert 0 < len(frames) < 10
    assert all(frame.is_intact for frame in frames)


def test_a_new_header_before_the_frames_of_an_earlier_wal_is_no_damage(tmp_path, used):
    """The process was killed after it had written the header, and before the first frame."""
    path = make_database(tmp_path / "other.sqlite", 10)
    with closing(connect(path)) as connection:
        add(connection, 1, [10])
        header = wal_path(path).read_bytes()[:32]
    damage(wal_path(used), 0, header)
    assert read_wal(wal_path(used)) == []
