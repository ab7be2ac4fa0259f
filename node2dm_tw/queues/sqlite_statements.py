"""What the thread of the database does: statements over the tables of schema.sql.

Each function blocks, and is called in that thread with its connection.
"""

import sqlite3
from collections.abc import Collection, Iterable, Mapping
from itertools import chain
from typing import Any

import attrs

from node2dm_tw.queues.interface import Receipt
from node2dm_tw.queues.receipts import MAX_RECEIPT_AGE, MAX_RECEIPTS
from node2dm_tw.queues.sqlite_rows import COLUMNS, SEQUENCE_BITS, URGENT, Row

ROWS_PER_INSERT = 64
"""Rows of one statement. A statement for each row costs a half more, beside a busy reactor thrice
as much; more than 64 gain nothing, and each number of rows is another statement to compile."""

MAX_READ_BYTES = 16 << 20
"""Bytes of the lines that one call of `read_window` returns, beside the last one."""

PROBE_BYTES = 1 << 16
"""Bytes that a probe writes, to see whether the disk has room."""

StoredRow = tuple[Any, ...]
"""A row as it is read, for `from_row`."""


@attrs.define(eq=False)
class RowChanges:
    """What one transaction writes.

    Args:
        rows: new pushes.
        receipts: new receipts.
        sleeps: for ids of sleeping pushes the failed tries, and when they are due.
        removed: first and last id of each range of pushes that have ended.
    """

    rows: list[Row] = attrs.field(factory=list)
    receipts: list[Receipt] = attrs.field(factory=list)
    sleeps: dict[int, tuple[int, float]] = attrs.field(factory=dict)
    removed: list[tuple[int, int]] = attrs.field(factory=list)


@attrs.frozen
class StoredRows:
    """Rows in a range of ids, as a start finds them.

    Args:
        first: the id before the first of the range.
        count: number of rows.
        last: the largest id, or `first`.
        sleepers: when a sleeping push is due, in seconds since the epoch, and its id; sorted.
    """

    first: int
    count: int
    last: int
    sleepers: list[tuple[float, int]]


def to_ranges(ids: Iterable[int]) -> list[tuple[int, int]]:
    """Join neighbouring ids: 1, 2, 3 and 7 become (1, 3) and (7, 7)."""
    return join_ranges((number, number) for number in ids)


def join_ranges(ranges: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """Join neighbouring ranges of ids."""
    joined: list[tuple[int, int]] = []
    first = last = -2
    for low, high in sorted(ranges):
        if low > last + 1:
            if first >= 0:
                joined.append((first, last))
            first = low
        last = max(last, high)
    if first >= 0:
        joined.append((first, last))
    return joined


def write(connection: sqlite3.Connection, changes: RowChanges) -> None:
    """Write all changes in one transaction."""
    cursor = connection.cursor()
    cursor.execute("BEGIN IMMEDIATE")
    for start in range(0, len(changes.rows), ROWS_PER_INSERT):
        rows = changes.rows[start : start + ROWS_PER_INSERT]
        values = ",".join(["(?,?,?,?,?,?,?,?,?)"] * len(rows))
        cursor.execute(f"INSERT OR REPLACE INTO push ({COLUMNS}) VALUES {values}", [*chain(*rows)])  # noqa: S608
    if changes.sleeps:
        cursor.executemany(
            "UPDATE push SET attempts = ?, not_before = ? WHERE id = ?",
            [(*sleep, number) for number, sleep in changes.sleeps.items()],
        )
    if changes.removed:
        cursor.executemany("DELETE FROM push WHERE id BETWEEN ? AND ?", changes.removed)
    if changes.receipts:
        cursor.executemany(
            "INSERT OR REPLACE INTO receipt (key, digest, answer, created) VALUES (?, ?, ?, ?)",
            [attrs.astuple(receipt) for receipt in changes.receipts],
        )
        _prune_receipts(cursor, changes.receipts[-1].created)
    cursor.execute("COMMIT")


def _prune_receipts(cursor: sqlite3.Cursor, now: float) -> None:
    """Remove receipts that are too old, or too many, of which the oldest."""
    cursor.execute(
        "DELETE FROM receipt WHERE number <= (SELECT max(number) FROM receipt) - ?", (MAX_RECEIPTS,)
    )
    # Numbers are in the order of time: usually the first row is not too old, and ends the search.
    while True:
        oldest = cursor.execute("SELECT number, created FROM receipt ORDER BY number LIMIT 1")
        row = oldest.fetchone()
        if row is None or now - row[1] < MAX_RECEIPT_AGE:
            return
        cursor.execute("DELETE FROM receipt WHERE number = ?", (row[0],))


def probe(connection: sqlite3.Connection) -> None:
    """Write and remove a row, after a checkpoint; raises what says that the disk cannot be written.

    A checkpoint lets a full disk use the write-ahead log again from its beginning.
    """
    connection.execute("PRAGMA wal_checkpoint").fetchall()
    values = "(0, '', x'', zeroblob(?), 0)"
    connection.execute(f"INSERT OR REPLACE INTO receipt VALUES {values}", (PROBE_BYTES,))  # noqa: S608
    connection.execute("DELETE FROM receipt WHERE number = 0")


def find_receipt(connection: sqlite3.Connection, key: str, now: float) -> Receipt | None:
    """Return the receipt of `key`, if it is still kept."""
    row = connection.execute(
        "SELECT key, digest, answer, created FROM receipt WHERE key = ? AND created > ?",
        (key, now - MAX_RECEIPT_AGE),
    ).fetchone()
    return None if row is None else Receipt(*row)


def add_routes(connection: sqlite3.Connection, names: Collection[str]) -> dict[str, int]:
    """Give a number to each route that has none; return the numbers of all routes ever named."""
    known: dict[str, int] = dict(connection.execute("SELECT name, number FROM route").fetchall())
    for name in names:
        if name not in known:
            known[name] = max(known.values(), default=0) + 1
            connection.execute(
                "INSERT INTO route (number, name) VALUES (?, ?)", (known[name], name)
            )
    return known


def count_routes(connection: sqlite3.Connection, numbers: Mapping[str, int]) -> dict[str, int]:
    """Count the pushes of each of these routes."""
    sql = "SELECT count(*) FROM push WHERE id BETWEEN ? AND ?"
    return {
        name: connection.execute(sql, _ids_of(number)).fetchone()[0]
        for name, number in numbers.items()
    }


def inspect_route(connection: sqlite3.Connection, number: int) -> tuple[StoredRows, StoredRows]:
    """Look at the urgent rows of a route, and at the others; takes 0.2 s for a million."""
    first, last = _ids_of(number)
    middle = first | URGENT
    return _inspect(connection, middle, last), _inspect(connection, first, middle - 1)


def _inspect(connection: sqlite3.Connection, first: int, last: int) -> StoredRows:
    count, highest = connection.execute(
        "SELECT count(*), max(id) FROM push WHERE id BETWEEN ? AND ?",
        (first, last),
    ).fetchone()
    sleepers = connection.execute(
        # A moment of another type is damaged: the push is due now.
        "SELECT CASE WHEN typeof(not_before) = 'real' THEN not_before ELSE 0.0 END AS due, id"
        " FROM push WHERE not_before IS NOT NULL AND id BETWEEN ? AND ? ORDER BY due, id",
        (first, last),
    ).fetchall()
    return StoredRows(first, count, highest or first, sleepers)


def read_window(
    connection: sqlite3.Connection, after: int, last: int, most: int
) -> tuple[list[StoredRow], bool]:
    """Read up to `most` pushes that do not sleep, with ids above `after` and up to `last`.

    Returns:
        the rows, in the order of their ids, and whether there are no more of them.
    """
    cursor = connection.execute(
        f"SELECT {COLUMNS} FROM push WHERE id > ? AND id <= ? AND not_before IS NULL"  # noqa: S608
        " ORDER BY id LIMIT ?",
        (after, last, most),
    )
    rows: list[StoredRow] = []
    size = 0
    while size < MAX_READ_BYTES and (batch := cursor.fetchmany(100)):
        rows += batch
        size += sum(len(row[1]) for row in batch if isinstance(row[1], bytes))
    return rows, size < MAX_READ_BYTES and len(rows) < most


def read_pushes(connection: sqlite3.Connection, ids: Collection[int]) -> list[StoredRow]:
    """Read the pushes with these ids, in the order of the ids."""
    marks = ",".join("?" * len(ids))
    sql = f"SELECT {COLUMNS} FROM push WHERE id IN ({marks})"  # noqa: S608
    return connection.execute(sql, [*ids]).fetchall()


def _ids_of(number: int) -> tuple[int, int]:
    """Return the first and last id of a route; neither is given to a push."""
    return number << SEQUENCE_BITS, (number + 1 << SEQUENCE_BITS) - 1
