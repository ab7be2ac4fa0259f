"""The database's file: made, checked, upgraded, replaced where it is damaged, exported."""

import errno
import os
import random
import shutil
import sqlite3
import stat
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import attrs
import pytest
from twisted.logger import capturedLogs, formatEvent

from node2dm_tw.queues import sqlite_file
from node2dm_tw.queues.sqlite_file import (
    SCHEMA,
    DamagedDatabase,
    NewerVersion,
    Schema,
    export_to_spools,
    is_damage,
    open_database,
)
from node2dm_tw.queues.sqlite_pages import PAGE_BYTES, wal_path
from node2dm_tw.queues.sqlite_rows import URGENT
from node2dm_tw.state.spool import Spool, SpoolReader, from_record
from tests.support.odd_files import ODD, is_untouched
from tests.support.queue_database import (
    add,
    add_routes,
    connect,
    copy_in_use,
    damage,
    ids,
    make_database,
    row_id,
)

VERSION_1 = Path(__file__).with_name("queue-version-1.sql").read_text(encoding="utf-8")


@pytest.fixture
def path(tmp_path):
    return tmp_path / "queue.sqlite"


@pytest.fixture
def database(path):
    """A closed database with 1000 pushes."""
    return make_database(path)


def names(folder):
    return {file.name for file in folder.iterdir()}


def modes(folder):
    return {stat.S_IMODE(file.stat().st_mode) for file in folder.iterdir()}


def open_logged(path):
    """Open a database; return what was done, and the critical lines."""
    with capturedLogs() as events:
        opened = open_database(path)
    return opened, [formatEvent(e) for e in events if e["log_level"].name == "critical"]


def test_a_new_database_is_for_its_owner_alone(path):
    """Its WAL too, whatever the umask."""
    before = os.umask(0)
    try:
        opened = open_database(path)
        assert names(path.parent) == {"queue.sqlite"}
        with closing(connect(path)) as connection:
            add_routes(connection, "c2dm")
            assert names(path.parent) == {"queue.sqlite", "queue.sqlite-wal"}
            assert modes(path.parent) == {0o600}
    finally:
        os.umask(before)
    assert opened.aside is None


def test_a_database_that_others_could_read_becomes_private(database):
    """As every file of the gateway."""
    database.chmod(0o644)
    open_database(database)
    assert modes(database.parent) == {0o600}


def test_a_whole_database_is_left_as_it_is(database):
    """Also after kill -9: what its WAL holds is part of it."""
    with closing(connect(database)) as connection:
        add(connection, 1, range(1000, 1100))
        killed = copy_in_use(database, database.with_name("killed.sqlite"))
    opened, lines = open_logged(killed)
    assert (opened.aside, lines) == (None, [])
    assert ids(killed) == list(range(1100))


@pytest.mark.parametrize("suffix", ["", "-wal", "-shm", "-journal"])
@pytest.mark.parametrize("kind", ODD)
def test_what_is_no_file_of_ours_is_refused(path, monkeypatch, kind, suffix):
    """It is neither followed, nor read, nor removed."""
    monkeypatch.chdir(path.parent)
    if suffix:
        make_database(path, 1)
    odd = path.with_name(path.name + suffix)
    ODD[kind](odd)
    with pytest.raises(OSError, match=f"it is {kind}"):
        open_database(path)
    assert is_untouched(odd)


def test_a_database_of_another_user_is_refused(database):
    """It may hold anything."""
    if os.geteuid() != 0:
        pytest.skip("only root can give a file away")
    os.chown(database, 12345, 12345)
    with pytest.raises(PermissionError, match="belongs to user 12345"):
        open_database(database)


def test_the_version_is_in_the_database(path):
    """A person can look it up with the sqlite3 command."""
    open_database(path)
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (SCHEMA.version,)


def test_a_database_of_version_1_is_upgraded(path):
    """Its rows stay, and its tables are those of a new database."""
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(VERSION_1)
    opened, lines = open_logged(path)
    assert (opened.aside, lines) == (None, [])
    assert (ids(path, 1), ids(path, 2)) == ([7], [1])
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (SCHEMA.version,)
        assert connection.execute("SELECT key FROM receipt").fetchall() == [("order-17",)]


NEXT = Schema(
    SCHEMA.text + "CREATE TABLE more (number INTEGER PRIMARY KEY);",
    (*SCHEMA.upgrades, "CREATE TABLE more (number INTEGER PRIMARY KEY)"),
)
BROKEN = attrs.evolve(NEXT, upgrades=(*SCHEMA.upgrades, "DELETE FROM push; DROP TABLE no_such"))


def test_an_upgrade_takes_all_steps_that_are_missing(path):
    """One more than there is today."""
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(VERSION_1)
    open_database(path, NEXT)
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (NEXT.version,)
        assert connection.execute("SELECT * FROM more").fetchall() == []
    assert ids(path) == [7]
    open_database(path, NEXT)


def test_an_upgrade_that_fails_changes_nothing(database):
    """The gateway before it can still use the database."""
    with pytest.raises(sqlite3.OperationalError, match="no such table"):
        open_database(database, BROKEN)
    open_database(database)
    assert ids(database) == list(range(1000))


@pytest.mark.parametrize("is_in_use", [False, True])
def test_a_newer_version_is_refused_and_not_touched(path, is_in_use):
    """With a WAL and without."""
    open_database(path, NEXT)
    with closing(connect(path)) as connection:
        add_routes(connection, "c2dm")
        if is_in_use:
            copy_in_use(path, path.with_name("killed.sqlite"))
    path = path.with_name("killed.sqlite") if is_in_use else path
    files = (path, wal_path(path)) if is_in_use else (path,)
    before = [file.read_bytes() for file in files]
    with pytest.raises(
        NewerVersion, match=f"has version {NEXT.version}, .* up to {SCHEMA.version}"
    ):
        open_database(path)
    assert [file.read_bytes() for file in files] == before


@pytest.mark.parametrize("seed", range(40))
def test_random_damage_costs_only_what_it_hits(tmp_path, seed):
    """A few bytes of the database or its WAL: all else is read, whether SQLite notices or not."""
    chance = random.Random(seed)
    path = make_database(tmp_path / "queue.sqlite", 500)
    with closing(connect(path)) as connection:
        for n in range(500, 600, 5):
            add(connection, 1, range(n, n + 5))
        killed = copy_in_use(path, tmp_path / "killed.sqlite")
    file = chance.choice([killed, wal_path(killed)])
    for _ in range(chance.randint(1, 5)):
        damage(file, chance.randrange(file.stat().st_size), chance.randbytes(1))
    open_database(killed)
    opened = open_database(killed, is_damaged=True)  # as the engine does if it meets damage
    assert opened.aside is not None
    found = ids(killed)
    assert len(set(range(600)) - set(found)) <= 5 * 15
    assert set(found) <= set(range(600))
    with closing(sqlite3.connect(killed)) as connection:
        assert connection.execute("SELECT * FROM route").fetchall() == [(1, "c2dm")]


@pytest.mark.parametrize("offset", [0, 17, 18, 19, 20, 21, 45, 59, 60, 63, 68, 71])
def test_a_damaged_header_costs_nothing(database, offset):
    """Not even where it says the version: that is not taken for a newer one."""
    damage(database, offset, b"\x77")
    opened, (first, second) = open_logged(database)
    assert "is damaged" in first
    assert "1000 pushes were taken over, 0 records and 0 pages could not be read" in second
    assert opened == sqlite_file.Opened(database.with_name("queue.sqlite.damaged"), 1000, 0)
    assert ids(database) == list(range(1000))


def test_removed_pushes_do_not_come_back(database):
    """Their rows are still in the file, on pages that the header would say are free."""
    with closing(connect(database)) as connection:
        connection.execute("DELETE FROM push WHERE id < ?", [row_id(1, 900)])
    assert database.read_bytes().count(b"token-") > 500
    damage(database, 0, b"\xee" * PAGE_BYTES)
    assert open_logged(database)[0].taken_over == 100
    assert ids(database) == list(range(900, 1000))


@pytest.mark.parametrize("content", [b"", b"no database", bytes(10 * PAGE_BYTES)])
def test_a_file_that_is_no_database_is_set_aside(path, content):
    """And a new one takes its place."""
    path.write_bytes(content)
    opened, lines = open_logged(path)
    assert opened.taken_over == 0
    assert "0 pushes were taken over" in lines[1]
    assert opened.aside.read_bytes() == content
    assert ids(path) == []


def test_another_database_is_set_aside(path):
    """Of some other program."""
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE friends (name TEXT)")
    assert open_logged(path)[0].aside is not None
    assert ids(path) == []


def test_a_cut_file_is_noticed(database):
    """The rows of the part that is left are taken over."""
    os.truncate(database, database.stat().st_size // 2)
    opened, _ = open_logged(database)
    assert 300 < opened.taken_over < 700
    assert len(ids(database)) == opened.taken_over


def test_a_wal_without_its_database_is_read(database):
    """Somebody removed the file, but not the other one."""
    with closing(connect(database)) as connection:
        add(connection, 1, range(1000, 1100))
        killed = copy_in_use(database, database.with_name("killed.sqlite"))
    killed.unlink()
    opened, _ = open_logged(killed)
    assert opened.taken_over >= 100
    assert set(ids(killed)) >= set(range(1000, 1100))
    assert wal_path(opened.aside).exists()


def test_all_that_a_row_says_is_kept(path):
    """Id, tries, sleep, and the receipts."""
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(VERSION_1)
        before = [connection.execute(f"SELECT * FROM {table}").fetchall() for table in TABLES]
    open_database(path, is_damaged=True)
    with closing(sqlite3.connect(path)) as connection:
        after = [connection.execute(f"SELECT * FROM {table}").fetchall() for table in TABLES]
    assert after == before


TABLES = ("push", "route", "route_copy", "receipt")


def test_the_name_of_a_route_survives_in_either_table(database):
    """Each has a page of its own."""
    with closing(connect(database)) as connection:
        connection.execute("UPDATE route SET name = 'c2dn'")
    opened, _ = open_logged(database)
    assert opened.taken_over == 1000
    with closing(connect(database)) as connection:
        assert connection.execute("SELECT * FROM route").fetchall() == [(1, "c2dm")]
        connection.execute("DELETE FROM route_copy")
    open_database(database, is_damaged=True)
    with closing(connect(database)) as connection:
        assert connection.execute("SELECT * FROM route").fetchall() == [(1, "c2dm")]


def test_pushes_of_a_route_without_a_name_are_kept(database):
    """A person may give the route its name again."""
    with closing(connect(database)) as connection:
        connection.execute("DELETE FROM route_copy")
        connection.execute("DELETE FROM route")
    with capturedLogs() as events:
        open_database(database, is_damaged=True)
    assert "the routes unknown-1" in " ".join(map(formatEvent, events))
    assert ids(database) == list(range(1000))
    with closing(connect(database)) as connection:
        assert connection.execute("SELECT * FROM route").fetchall() == [(1, "unknown-1")]


def test_no_damaged_database_is_overwritten(database):
    """The next one gets a number, and its WAL the same."""
    for _ in range(3):
        open_database(database, is_damaged=True)
    kept = {f"queue.sqlite.damaged{number}" for number in ("", ".1", ".2")}
    assert names(database.parent) == {"queue.sqlite", *kept}
    (database.parent / "queue.sqlite.damaged").unlink()
    (database.parent / "queue.sqlite.damaged-wal").write_bytes(b"")
    with closing(connect(database)) as connection:
        add(connection, 1, [1000])
        shutil.copy(wal_path(database), database.parent / "wal")
    shutil.copy(database.parent / "wal", wal_path(database))
    assert open_database(database, is_damaged=True).aside.name == "queue.sqlite.damaged.3"


@pytest.mark.parametrize("renamed", [[], ["-wal"], ["-wal", ""]])
def test_a_crash_while_the_files_are_renamed_loses_nothing(database, tmp_path, renamed):
    """The next start goes on where it was."""
    with closing(connect(database)) as connection:
        add(connection, 1, range(1000, 1100))
        killed = copy_in_use(database, tmp_path / "killed.sqlite")
    content = [killed.read_bytes(), wal_path(killed).read_bytes()]
    make_database(tmp_path / "killed.sqlite.new", 1100)
    for suffix in renamed:
        (tmp_path / f"killed.sqlite{suffix}").rename(tmp_path / f"killed.sqlite.damaged{suffix}")
    open_database(killed)
    assert ids(killed) == list(range(1100))
    damaged = tmp_path / "killed.sqlite.damaged"
    assert [damaged.read_bytes(), wal_path(damaged).read_bytes()] == content
    assert not (tmp_path / "killed.sqlite.new").exists()


OPEN = """
import sys
from pathlib import Path
from node2dm_tw.queues.sqlite_file import open_database
print("go", flush=True)
open_database(Path(sys.argv[1]), is_damaged=True)
"""


def test_kills_while_a_damaged_database_is_copied_lose_nothing(path):
    """At random moments, in the middle of the copy or of the renames."""
    make_database(path, 2_000)
    for _ in range(4):
        command = [sys.executable, "-c", OPEN, path]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
            assert process.stdout.readline() == b"go\n"
            time.sleep(random.uniform(0.0, 0.2))
            process.kill()
    open_database(path)
    assert ids(path) == list(range(2_000))


def test_a_crash_while_a_database_is_made_loses_nothing(database, tmp_path):
    """The part that is left does not count."""
    (tmp_path / "queue.sqlite.new.part").write_bytes(b"half")
    (tmp_path / "queue.sqlite.part").write_bytes(b"half")
    open_database(database, is_damaged=True)
    assert ids(database) == list(range(1000))


def test_without_space_for_a_copy_nothing_changes(small_disk):
    """The error says that the disk is full, and not that the database is damaged."""
    path = make_database(small_disk.path / "queue.sqlite", 90)
    damage(path, 0, b"\x77")
    small_disk.fill()
    before = path.read_bytes()
    with pytest.raises(sqlite3.OperationalError, match="full") as caught:
        open_database(path)
    assert not is_damage(caught.value)
    assert path.read_bytes() == before
    assert names(small_disk.path) == {"queue.sqlite", "ballast"}
    (small_disk.path / "ballast").unlink()
    assert open_database(path).taken_over == 90


def test_what_is_damage():
    """What SQLite says of a bad file, not of a bad disk or a bad program."""
    assert is_damage(DamagedDatabase("for a reason"))
    assert not is_damage(OSError(errno.ENOSPC, "No space left on device"))
    assert not is_damage(ValueError("a fault"))
    with closing(sqlite3.connect(":memory:")) as connection:
        with pytest.raises(sqlite3.Error) as caught:
            connection.execute("SELECT * FROM no_such_table")
        assert not is_damage(caught.value)


def test_sqlite_says_that_a_file_is_damaged(database):
    """While it is in use, which only its error code tells."""
    with closing(sqlite3.connect(database)) as connection:
        connection.execute("SELECT * FROM push LIMIT 1").fetchall()
        damage(database, PAGE_BYTES, b"\xee" * (database.stat().st_size - PAGE_BYTES))
        with pytest.raises(sqlite3.DatabaseError) as caught:
            connection.execute("SELECT sum(length(line)) FROM push").fetchall()
    assert is_damage(caught.value)


def restore(path):
    """Read the pushes of a file of a spool."""
    reader = SpoolReader(path, lambda record: from_record(record, 1e12, 0.0))
    with closing(reader):
        return reader.read(10_000)


def test_an_export_moves_all_pushes_to_the_spools_of_their_routes(path, tmp_path):
    """A route that is no longer configured has a spool as well."""
    make_database(path, 300)
    with closing(connect(path)) as connection:
        connection.execute("INSERT INTO route VALUES (2, 'fcm:2')")
        connection.execute("INSERT INTO route VALUES (3, 'idle')")
        add(connection, 2, range(50))
    count = export_to_spools(path, lambda route: Spool(tmp_path / f"{route}.spool"))
    assert count == 350
    assert names(tmp_path) == {"c2dm.spool", "fcm:2.spool"}
    assert modes(tmp_path) == {0o600}
    pushes = restore(tmp_path / "c2dm.spool")
    assert [push.device for push in pushes] == [b"token-%d" % n for n in range(300)]


def test_urgent_pushes_are_exported_first(path, tmp_path):
    """So that the memory engine has them at once, whatever follows."""
    make_database(path, 3)
    with closing(connect(path)) as connection:
        add(connection, 1, range(URGENT + 1, URGENT + 3))
    assert export_to_spools(path, lambda route: Spool(tmp_path / f"{route}.spool")) == 5
    devices = [push.device for push in restore(tmp_path / "c2dm.spool")]
    numbers = (URGENT + 1, URGENT + 2, 0, 1, 2)
    assert devices == [b"token-%d" % number for number in numbers]


def test_there_is_nothing_to_export_without_a_database(path):
    """Nor is there one after it."""
    assert export_to_spools(path, lambda route: Spool(path.parent / route)) == 0
    assert names(path.parent) == set()


def test_the_age_of_a_push_survives_an_export(path, tmp_path):
    """In seconds since the epoch."""
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(VERSION_1)
    export_to_spools(path, lambda route: Spool(tmp_path / f"{route}.spool"))
    (push,) = restore(tmp_path / "c2dm.spool")
    assert push.received == 1_700_000_100.0


def test_an_export_that_fails_leaves_the_database_and_no_spools(path, tmp_path):
    """The first spool is written, the second cannot be."""
    make_database(path, 300)
    with closing(connect(path)) as connection:
        connection.execute("INSERT INTO route VALUES (2, 'fcm')")
        add(connection, 2, range(50))
    folders = {"c2dm": tmp_path, "fcm": tmp_path / "missing"}
    with pytest.raises(FileNotFoundError):
        export_to_spools(path, lambda route: Spool(folders[route] / f"{route}.spool"))
    assert names(tmp_path) == {"queue.sqlite"}
    assert ids(path) == list(range(300))


def test_an_export_takes_what_can_be_read(database, tmp_path):
    """Damage is found on the way."""
    damage(database, 20 * PAGE_BYTES, b"\xee" * PAGE_BYTES)
    count = export_to_spools(database, lambda route: Spool(tmp_path / f"{route}.spool"))
    assert 980 <= count < 1000
    assert len(restore(tmp_path / "c2dm.spool")) == count
    assert names(tmp_path) == {"c2dm.spool", "queue.sqlite.damaged"}


def test_a_row_that_cannot_be_exported_is_kept(database, tmp_path):
    """With the database, under the name of a damaged one."""
    with closing(connect(database)) as connection:
        connection.execute("UPDATE push SET crc = 0 WHERE id = ?", [row_id(1, 5)])
    with capturedLogs() as events:
        count = export_to_spools(database, lambda route: Spool(tmp_path / f"{route}.spool"))
    assert count == 999
    assert names(tmp_path) == {"c2dm.spool", "queue.sqlite.damaged"}
    assert "1 records of" in " ".join(map(formatEvent, events))
