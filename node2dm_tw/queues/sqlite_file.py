"""The file of `queue = sqlite`: made, checked, upgraded, replaced where it is damaged, exported.

All of it blocks, and runs in a thread.
"""

import errno
import math
import os
import sqlite3
import struct
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from importlib.resources import files
from itertools import chain
from pathlib import Path

import attrs

from node2dm_tw.core.logs import logger
from node2dm_tw.queues.sqlite_copy import PROGRESS_RECORDS, DatabaseCopy
from node2dm_tw.queues.sqlite_pages import MAGIC, PageReader
from node2dm_tw.queues.sqlite_rows import COLUMNS, SEQUENCE_BITS, URGENT, from_row
from node2dm_tw.queues.sqlite_wal import PAGE_BYTES, read_wal, wal_path
from node2dm_tw.state.atomic import (
    find_free_name,
    open_new_file,
    open_own_file,
    sync,
    sync_directory,
)
from node2dm_tw.state.spool import Spool, to_record

log = logger()

FILE_NAME = "queue.sqlite"
"""The name of the database in state_dir."""

UPGRADES: tuple[str, ...] = ()
"""SQL that brings a database to the next version: the first from version 1 to 2, and so on.

`DatabaseCopy` makes a database of the present version of records of any.
"""

_APPLICATION = 0x6E326400
"""`PRAGMA application_id` is this ("n2d") plus the version, to tell a damaged version from one."""

_header = struct.Struct(">18s6s20xI8xII4xI").unpack_from
_FIXED = (MAGIC + PAGE_BYTES.to_bytes(2), 4, 1)
"""What the header of each database says: page size, format of the schema, UTF-8."""
_FORMATS = (b"\1\1\0@  ", b"\2\2\0@  ")
"""With a rollback journal, as in a backup, or with a WAL."""


class NewerVersion(OSError):
    """The database was made by a later version of the gateway; nothing was changed."""


class DamagedDatabase(sqlite3.DatabaseError):
    """The file is not a whole database of this gateway."""


@attrs.frozen
class Schema:
    """A version of the schema.

    Args:
        text: SQL that makes a new database.
        upgrades: see `UPGRADES`.
    """

    text: str
    upgrades: tuple[str, ...] = UPGRADES

    @property
    def version(self) -> int:
        return 1 + len(self.upgrades)


SCHEMA = Schema(files("node2dm_tw.queues").joinpath("schema.sql").read_text(encoding="utf-8"))


@attrs.frozen
class Opened:
    """What `open_database` did, which is in the log already.

    Args:
        aside: the new name of a database that was damaged; None if it was not.
        taken_over: number of pushes that were copied from it.
        unreadable: number of its records that could not be read, as far as they can be counted.
    """

    aside: Path | None = None
    taken_over: int = 0
    unreadable: int = 0


def configure(connection: sqlite3.Connection) -> None:
    """Set up a new connection to a database that `open_database` returned."""
    for pragma in (
        "locking_mode = EXCLUSIVE",  # first: then the WAL needs no shared memory
        "journal_mode = WAL",
        "synchronous = FULL",
        "wal_autocheckpoint = 250",  # pages: a commit that includes a checkpoint stays short
        "cell_size_check = ON",  # notices more damage, before rows are changed
        "secure_delete = OFF",  # otherwise each removed row is overwritten
        "trusted_schema = OFF",
    ):
        connection.execute(f"PRAGMA {pragma}")


def is_damage(error: BaseException) -> bool:
    """Return whether SQLite found the file damaged; a full disk, for example, is not damage."""
    if isinstance(error, DamagedDatabase):
        return True
    code = getattr(error, "sqlite_errorcode", None) or 0
    return code & 0xFF in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


def open_database(path: Path, schema: Schema = SCHEMA, *, is_damaged: bool = False) -> Opened:
    """Make the database, check it, upgrade it; replace it by what can be read if it is damaged.

    Only what is quickly checked is checked, so damage may be found later.

    Args:
        path: the database, closed.
        is_damaged: damage was found: replace it.

    Raises:
        NewerVersion: see there.
        OSError, sqlite3.Error: the database cannot be used, and is unchanged.
    """
    _finish_replacement(path)
    found = _check_owner(path)
    if not {"", "-wal"} & found:
        _make(path, schema, lambda _: None)
        return Opened()
    try:
        if is_damaged:
            raise DamagedDatabase("damage was found while it was in use")
        _check_header(path, schema)
        _check_wal(path)
        with closing(_connect(path)) as connection:
            configure(connection)
            _upgrade(connection, path, schema)
            _check_content(connection, schema)
    except sqlite3.Error as error:
        if not is_damage(error):
            raise
        log.critical("{path} is damaged ({error}): copying its pushes", path=str(path), error=error)
        return _replace(path, schema)
    return Opened()


def _connect(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(path, isolation_level=None)


def _check_owner(path: Path) -> set[str]:
    """Check the files of a database as `open_own_file` does; return the suffixes of their names."""
    found = set()
    for suffix in _SUFFIXES:
        with suppress(FileNotFoundError):
            os.close(open_own_file(_beside(path, suffix)))
            found.add(suffix)
    return found


def _check_header(path: Path, schema: Schema) -> None:
    """Read the version before SQLite opens the file, which may write to it."""
    header = b""
    with suppress(FileNotFoundError), os.fdopen(open_own_file(path), "rb") as file:
        header = file.read(PAGE_BYTES)
    magic, kind, *others, version, application = _header(header.ljust(PAGE_BYTES, b"\0"))
    if (magic, *others) != _FIXED or kind not in _FORMATS:
        raise DamagedDatabase("its header is not that of a database")
    if application != _APPLICATION + version:
        raise DamagedDatabase("it is not a database of this gateway")
    _refuse_newer(version, path, schema)


def _refuse_newer(version: int, path: Path, schema: Schema) -> None:
    if version > schema.version:
        reason = f"it has version {version}, and this gateway knows versions up to {schema.version}"
        raise NewerVersion(errno.EINVAL, reason, str(path))


def _check_wal(path: Path) -> None:
    if not all(frame.is_intact for frame in read_wal(wal_path(path))):
        raise DamagedDatabase("its write-ahead log is damaged")


def _check_content(connection: sqlite3.Connection, schema: Schema) -> None:
    """Check that tables and columns are as in a new database, and that rows can be reached."""
    with closing(_make_empty(schema)) as empty:
        empty.text_factory = connection.text_factory = bytes  # text may be damaged
        expected = empty.execute(_SHAPE).fetchall()
    if connection.execute(_SHAPE).fetchall() != expected:
        raise DamagedDatabase("its tables are not those of this gateway")
    if connection.execute(_ROUTES_THAT_DIFFER).fetchall():
        raise DamagedDatabase("the names of its routes are damaged")
    for sql in _SAMPLES:
        connection.execute(sql).fetchall()


def _make_empty(schema: Schema) -> sqlite3.Connection:
    """Make a new database in memory."""
    connection = sqlite3.connect(":memory:")
    connection.executescript(schema.text)
    return connection


_SHAPE = """
    SELECT s.type, s.name, s.tbl_name, c.name, c.type
    FROM sqlite_schema AS s LEFT JOIN pragma_table_info(s.name) AS c ORDER BY 1, 2, 3, 4
"""
_ROUTES_THAT_DIFFER = """
    SELECT number, name, hex(name) FROM route EXCEPT SELECT number, name, hex FROM route_copy
"""
_SAMPLES = (
    "SELECT * FROM push ORDER BY id LIMIT 1",
    "SELECT * FROM push ORDER BY id DESC LIMIT 1",
    "SELECT * FROM push WHERE not_before IS NOT NULL ORDER BY not_before LIMIT 1",
    "SELECT * FROM receipt ORDER BY number DESC LIMIT 1",
)


def _upgrade(connection: sqlite3.Connection, path: Path, schema: Schema) -> None:
    """Bring a database to the present version, one transaction for each step."""
    ((version,),) = connection.execute("PRAGMA user_version")
    _refuse_newer(version, path, schema)
    for number in range(version, schema.version):
        step = schema.upgrades[number - 1]
        connection.executescript(f"BEGIN IMMEDIATE; {step}; {_set_version(number + 1)}; COMMIT")
        log.info("upgraded {path} to version {version}", path=str(path), version=number + 1)


def _set_version(version: int) -> str:
    application = _APPLICATION + version
    return f"PRAGMA user_version = {version}; PRAGMA application_id = {application}"


def _make(path: Path, schema: Schema, fill: Callable[[sqlite3.Connection], None]) -> None:
    """Make a database under another name, sync it, and rename it to `path`.

    Raises:
        OSError, sqlite3.Error: there is no database.
    """
    part = path.with_name(path.name + ".part")
    part.unlink(missing_ok=True)  # left by a crash
    try:
        # SQLite gives the WAL the mode of the database.
        open_new_file(part).close()
        with closing(_connect(part)) as connection:
            # Nobody reads it before it is complete and synced, so it needs no journal.
            connection.executescript(
                f"PRAGMA page_size = {PAGE_BYTES}; PRAGMA journal_mode = OFF;"
                f"PRAGMA synchronous = OFF; BEGIN; {schema.text}; {_set_version(schema.version)}"
            )
            fill(connection)
            connection.execute("COMMIT")
            connection.execute("PRAGMA journal_mode = WAL")
        with os.fdopen(open_own_file(part, os.O_RDWR), "r+b") as file:
            sync(file)
        part.replace(path)
    except BaseException:
        with suppress(OSError):
            part.unlink()
        raise
    sync_directory(path.parent)


def _replace(path: Path, schema: Schema) -> Opened:
    """Copy what can be read to a new database, and give the damaged one another name."""
    with closing(_make_empty(schema)) as empty:
        roots = empty.execute("SELECT rootpage FROM sqlite_schema WHERE type = 'table'").fetchall()
    with PageReader(path, [root for (root,) in roots]) as reader:
        copy = DatabaseCopy(reader)
        _make(_beside(path, ".new"), schema, copy.fill)
    aside = _finish_replacement(path)
    log.critical(
        "{path} was damaged and is now {aside}: {count} pushes were taken over, {unreadable}"
        " records and {pages} pages could not be read",
        path=str(path),
        aside=str(aside),
        count=copy.pushes,
        unreadable=copy.unreadable,
        pages=reader.bad_pages,
    )
    return Opened(aside, copy.pushes, copy.unreadable)


def _finish_replacement(path: Path) -> Path | None:
    """Put the complete copy of a damaged database in its place, also after a crash on the way.

    Returns:
        The new name of the damaged one; None if there is no copy.
    """
    new = _beside(path, ".new")
    if not os.path.lexists(new):
        return None
    aside = base = path.with_name(path.name + ".damaged")
    number = 0
    left = [suffix for suffix in _SUFFIXES if os.path.lexists(_beside(path, suffix))]
    while any(os.path.lexists(_beside(aside, suffix)) for suffix in left):
        number += 1
        aside = base.with_name(f"{base.name}.{number}")
    for suffix in left:  # the database last: after a crash, its WAL has the name that it gets
        _beside(path, suffix).rename(_beside(aside, suffix))
    new.replace(path)
    sync_directory(path.parent)
    return aside


_SUFFIXES = ("-journal", "-shm", "-wal", "")
"""What SQLite adds to the name of a database for its files, the database last."""


def _beside(path: Path, suffix: str) -> Path:
    return path.with_name(path.name + suffix)


def export_to_spools(path: Path, spool_of: Callable[[str], Spool]) -> int:
    """Move all pushes to the spools of their routes, which the memory engine restores.

    A crash on the way loses nothing, but the next start may export pushes a second time.

    Args:
        path: the database; may be missing.
        spool_of: returns the spool of a route.

    Returns:
        The number of pushes.

    Raises:
        OSError, sqlite3.Error: the database is unchanged, and there are no new spools.
    """
    if not any(_beside(path, suffix).exists() for suffix in ("", "-wal", ".new")):
        return 0
    open_database(path)
    export = _Export(path, spool_of)
    try:
        export.run()
    except sqlite3.Error as error:
        if not is_damage(error):
            raise
        open_database(path, is_damaged=True)
        export.run()
    if export.unreadable:
        aside = find_free_name(_beside(path, ".damaged"))
        path.rename(aside)
        log.critical(
            "{count} records of {path} could not be read; it is kept as {aside}",
            count=export.unreadable,
            path=str(path),
            aside=str(aside),
        )
    else:
        path.unlink()
    sync_directory(path.parent)
    if export.pushes:
        log.info("moved {count} pushes from {path}", count=export.pushes, path=str(path))
    return export.pushes


_SELECT = f"SELECT {COLUMNS} FROM push WHERE id >= ? AND id < ? ORDER BY id"  # noqa: S608


@attrs.define(eq=False)
class _Export:
    """Writes all pushes to the spools of their routes.

    Attributes:
        pushes: number of pushes that were written.
        unreadable: number of those that are damaged or not valid any more.
    """

    path: Path
    spool_of: Callable[[str], Spool]
    pushes: int = attrs.field(default=0, init=False)
    unreadable: int = attrs.field(default=0, init=False)

    def run(self) -> None:
        """Write them, or none. Raises OSError, sqlite3.Error."""
        self.pushes = self.unreadable = 0
        spools = []
        try:
            with closing(_connect(self.path)) as connection:
                configure(connection)
                routes = connection.execute("SELECT number, name FROM route").fetchall()
                for number, name in routes:
                    records = self._records(connection, number)
                    first = next(records, None)
                    if first is not None:
                        spools.append(self.spool_of(name).add(chain([first], records)))
        except BaseException:
            for spool in spools:
                with suppress(OSError):
                    spool.unlink()
            raise

    def _records(self, connection: sqlite3.Connection, number: int) -> Iterator[bytes]:
        first, end = number << SEQUENCE_BITS, (number + 1) << SEQUENCE_BITS
        ranges = ((first | URGENT, end), (first, first | URGENT))
        for row in chain.from_iterable(connection.execute(_SELECT, ids) for ids in ranges):
            push = from_row(row, math.inf, 0.0)
            if push is None:
                self.unreadable += 1
                continue
            self.pushes += 1
            if self.pushes % PROGRESS_RECORDS == 0:
                log.info("moved {count} pushes so far", count=self.pushes)
            yield to_record(push, 0.0)
