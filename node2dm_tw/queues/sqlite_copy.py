"""Copies what can be read of a damaged database to a new one."""

import re
import sqlite3
from collections.abc import Iterable
from itertools import islice

import attrs

from node2dm_tw.core.logs import logger
from node2dm_tw.queues.sqlite_pages import PageReader, Record
from node2dm_tw.queues.sqlite_rows import SEQUENCE_BITS, Row, check_row

log = logger()

RECORDS_PER_STEP = 10_000
PROGRESS_RECORDS = 100_000
"""Number of records after which a line in the log says how far long work has come."""

MAX_ROUTES = 1 << 15
"""Numbers of routes are below it."""

_DIGEST_BYTES = 32
_INSERT = "INSERT OR IGNORE INTO push VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"
_NAME = re.compile(r"[A-Za-z0-9_.-]{1,200}")


@attrs.define(eq=False)
class DatabaseCopy:
    """Sorts records by their table, and inserts those that are intact.

    Args:
        reader: the damaged database.

    Attributes:
        pushes: number of pushes that were copied.
        unreadable: number of records that could not be read.
    """

    reader: PageReader
    pushes: int = attrs.field(default=0, init=False)
    _misfits: int = attrs.field(default=0, init=False)
    _numbers: set[int] = attrs.field(factory=set, init=False)
    """The routes of the pushes."""
    _names: dict[int, str] = attrs.field(factory=dict, init=False)
    _copied_names: dict[int, str] = attrs.field(factory=dict, init=False)

    @property
    def unreadable(self) -> int:
        return self.reader.unreadable + self._misfits

    def fill(self, connection: sqlite3.Connection) -> None:
        """Copy all records to an empty database, in its open transaction.

        Raises:
            OSError, sqlite3.Error: a file cannot be read or written.
        """
        records, count = self.reader.records(), 0
        while step := list(islice(records, RECORDS_PER_STEP)):
            checked = [check_row(record) for record in step]
            self._add_pushes(connection, [row for row in checked if row is not None])
            self._add_others(
                connection, [r for r, row in zip(step, checked, strict=True) if row is None]
            )
            count += len(step)
            if count % PROGRESS_RECORDS == 0:
                log.info("copied {count} records so far", count=count)
        self._add_routes(connection)

    def _add_pushes(self, connection: sqlite3.Connection, rows: list[Row]) -> None:
        done = connection.executemany(_INSERT, rows)
        self.pushes += done.rowcount
        self._numbers.update({row[0] >> SEQUENCE_BITS for row in rows})

    def _add_others(self, connection: sqlite3.Connection, records: Iterable[Record]) -> None:
        for record in records:
            match record:
                case (int(number), str(name)) if _is_route(number, name):
                    self._names[number] = name
                case (int(number), str(name), str(code)) if _is_route(number, name):
                    if name.encode().hex().upper() == code:
                        self._copied_names[number] = name
                case (int(), str(), bytes(digest), bytes(), float() | int()) if (
                    len(digest) == _DIGEST_BYTES
                ):
                    connection.execute(
                        "INSERT OR IGNORE INTO receipt VALUES (?, ?, ?, ?, ?)", record
                    )
                case _:
                    self._misfits += 1

    def _add_routes(self, connection: sqlite3.Connection) -> None:
        names = self._names | self._copied_names
        for number in sorted(names.keys() | self._numbers):
            for name in (names.get(number), f"unknown-{number}"):
                if name is not None:
                    connection.execute("INSERT OR IGNORE INTO route VALUES (?, ?)", (number, name))
        nameless = sorted(self._numbers - names.keys())
        if nameless:
            log.critical(
                "the names of routes are lost: their pushes now belong to the routes {names}",
                names=", ".join(f"unknown-{number}" for number in nameless),
            )


def _is_route(number: int, name: str) -> bool:
    return 0 < number < MAX_ROUTES and _NAME.fullmatch(name) is not None
