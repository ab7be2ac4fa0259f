"""Databases of `queue = sqlite` for tests: filled, read, copied in use, and damaged."""

import shutil
import sqlite3
import time
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path

from node2dm_tw.core.push import Push, split_at_colons
from node2dm_tw.queues.sqlite_file import configure, open_database
from node2dm_tw.queues.sqlite_pages import wal_path
from node2dm_tw.queues.sqlite_rows import to_row

INSERT = "INSERT INTO push VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"


def row_id(route: int, sequence: int) -> int:
    return route << 48 | sequence


def make_push(sequence: int, payload_bytes: int = 200) -> Push:
    payload = b"%d " % sequence + b"x" * payload_bytes
    return split_at_colons(b"token-%d:key:%b" % (sequence, payload), 0.0)


def connect(path: Path) -> sqlite3.Connection:
    """Connect as the engine does."""
    connection = sqlite3.connect(path, isolation_level=None)
    configure(connection)
    return connection


def add_routes(connection: sqlite3.Connection, *names: str) -> None:
    connection.executemany("INSERT INTO route VALUES (?, ?)", enumerate(names, 1))


def add(connection: sqlite3.Connection, route: int, sequences: Iterable[int]) -> None:
    """Add a push for each sequence number, received now, in one transaction.

    Each hundredth is large.
    """
    now = time.time()
    connection.execute("BEGIN")
    connection.executemany(
        INSERT,
        (
            to_row(row_id(route, n), make_push(n, 200 if n % 100 else 20_000), now)
            for n in sequences
        ),
    )
    connection.execute("COMMIT")


def make_database(path: Path, count: int = 1000) -> Path:
    """Make a closed database with pushes of the route `c2dm`, numbered from 0."""
    open_database(path)
    with closing(connect(path)) as connection:
        add_routes(connection, "c2dm")
        add(connection, 1, range(count))
    return path


def ids(path: Path, route: int = 1) -> list[int]:
    """Read the sequence numbers of a route; SQLite finds no fault with the database."""
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        found = connection.execute("SELECT id FROM push ORDER BY id").fetchall()
    return [number - row_id(route, 0) for (number,) in found if number >> 48 == route]


def copy_in_use(path: Path, copy: Path) -> Path:
    """Copy a database and its WAL while a process has them open: as after kill -9."""
    shutil.copy(path, copy)
    shutil.copy(wal_path(path), wal_path(copy))
    return copy


def damage(path: Path, offset: int, data: bytes) -> None:
    """Overwrite bytes."""
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(data)


def read_lines(folder: Path, copy: Path) -> list[bytes]:
    """Read the lines of all pushes in the database of a process that was killed.

    The files are copied: opening them would change them.
    """
    copy.mkdir(exist_ok=True)
    for file in (*copy.glob("queue.sqlite*"), *folder.glob("queue.sqlite*")):
        if file.parent == copy:
            file.unlink()
        else:
            shutil.copy(file, copy)
    with closing(sqlite3.connect(copy / "queue.sqlite")) as connection:
        return [line for (line,) in connection.execute("SELECT line FROM push")]
