"""Reading a database without SQLite: the same records, and as many as possible after damage."""

import random
import sqlite3
from contextlib import closing

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from node2dm_tw.queues.sqlite_pages import PAGE_BYTES, PageReader, wal_path
from node2dm_tw.queues.sqlite_rows import SEQUENCE_BITS, check_row
from tests.support.queue_database import (
    add,
    connect,
    copy_in_use,
    damage,
    make_database,
    make_push,
    row_id,
)


def roots(path):
    with closing(sqlite3.connect(path)) as connection:
        found = connection.execute("SELECT rootpage FROM sqlite_schema WHERE type = 'table'")
        return [root for (root,) in found]


@pytest.fixture
def database(tmp_path):
    """A closed database with 1000 pushes."""
    return make_database(tmp_path / "queue.sqlite")


def read(path, its_roots):
    """Return the sequence numbers of the pushes that can be read, and the reader."""
    with PageReader(path, its_roots) as reader:
        rows = [row for row in map(check_row, reader.records()) if row is not None]
    return [row[0] & (1 << SEQUENCE_BITS) - 1 for row in rows], reader


values = st.one_of(
    st.none(),
    st.integers(-(1 << 63), (1 << 63) - 1),
    st.floats(allow_nan=False),
    st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])),
    st.builds(bytes, st.integers(0, 20_000)),
)


@settings(max_examples=50)
@given(rows=st.dictionaries(st.integers(-(1 << 63), (1 << 63) - 1), st.tuples(values, values)))
def test_records_are_those_that_sqlite_stores(tmp_path_factory, rows):
    """Of every type and size."""
    path = tmp_path_factory.mktemp("any") / "any.sqlite"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE any (id INTEGER PRIMARY KEY, a, b)")
        connection.executemany(
            "INSERT INTO any VALUES (?, ?, ?)", [(number, *row) for number, row in rows.items()]
        )
        connection.commit()
    with PageReader(path, [2]) as reader:
        found = {number: (a, b) for number, a, b in reader.records()}
    assert found == rows
    assert (reader.unreadable, reader.bad_pages) == (0, 0)


def test_every_push_is_read(database):
    """Large ones, which take several pages, too; and nothing counts as damaged."""
    found, reader = read(database, roots(database))
    assert sorted(found) == list(range(1000))
    assert (reader.unreadable, reader.bad_pages) == (0, 0)


def test_a_wal_is_read_too(database, tmp_path):
    """What it holds is not in the database yet."""
    its_roots = roots(database)
    with closing(connect(database)) as connection:
        add(connection, 1, range(1000, 1500))
        connection.execute("DELETE FROM push WHERE id < ?", [row_id(1, 700)])
        killed = copy_in_use(database, tmp_path / "killed.sqlite")
    found, _ = read(killed, its_roots)
    assert sorted(found) == list(range(700, 1500))


@pytest.mark.parametrize("frame", [0, 5, 50])
def test_a_bad_frame_of_a_wal_costs_only_itself(database, tmp_path, frame):
    """SQLite would leave out the frames after it."""
    its_roots = roots(database)
    with closing(connect(database)) as connection:
        for n in range(1000, 1500):
            add(connection, 1, [n])
        killed = copy_in_use(database, tmp_path / "killed.sqlite")
    damage(wal_path(killed), 32 + frame * (PAGE_BYTES + 24) + 2000, b"\xee")
    found, _ = read(killed, its_roots)
    assert len(set(range(1500)) - set(found)) <= 1


def free_pages(path):
    """Remove all pushes but the last 100, which leaves free pages full of old rows."""
    with closing(connect(path)) as connection:
        connection.execute("DELETE FROM push WHERE id < ?", [row_id(1, 900)])
        ((count,),) = connection.execute("PRAGMA freelist_count")
    assert count > 10


def test_removed_pushes_do_not_come_back(database):
    """The free pages still hold them."""
    its_roots = roots(database)
    free_pages(database)
    found, _ = read(database, its_roots)
    assert sorted(found) == list(range(900, 1000))


@pytest.mark.parametrize("size", [PAGE_BYTES, 40])
def test_without_the_first_page_the_tree_says_which_pages_are_free(database, size):
    """The list of free pages begins on the first page."""
    its_roots = roots(database)
    free_pages(database)
    damage(database, 0, b"\xee" * size)
    found, _ = read(database, its_roots)
    assert sorted(found) == list(range(900, 1000))


def test_without_the_first_page_and_the_tree_all_pages_count(database):
    """Better twice than not at all."""
    its_roots = roots(database)
    free_pages(database)
    damage(database, 0, bytes(2 * PAGE_BYTES))
    found, _ = read(database, its_roots)
    assert set(found) >= set(range(900, 1000))


def test_a_bad_page_above_the_rows_costs_none(database):
    """The first page of the table has only the numbers of others here."""
    its_roots = roots(database)
    damage(database, PAGE_BYTES, b"\xee" * PAGE_BYTES)
    found, reader = read(database, its_roots)
    assert sorted(found) == list(range(1000))
    assert reader.bad_pages == 1


def test_a_bad_page_of_rows_costs_its_rows(database):
    """Ten or so, and large ones of which it holds a part."""
    its_roots = roots(database)
    content = database.read_bytes()
    page = content.index(make_push(555).line) // PAGE_BYTES
    damage(database, page * PAGE_BYTES, bytes(PAGE_BYTES))
    found, reader = read(database, its_roots)
    missing = sorted(set(range(1000)) - set(found))
    assert 555 in missing
    assert len(missing) < 20
    assert reader.bad_pages == 1


def test_a_damaged_row_is_counted(database):
    """It has a length that cannot be."""
    its_roots = roots(database)
    content = bytearray(database.read_bytes())
    page = content.index(make_push(555).line) // PAGE_BYTES * PAGE_BYTES
    cell = page + int.from_bytes(content[page + 8 : page + 10], "big")
    damage(database, cell, b"\xff" * 8)
    found, reader = read(database, its_roots)
    assert len(found) == 999
    assert reader.unreadable == 1


@pytest.mark.parametrize("seed", range(20))
def test_any_bytes_are_read_without_an_error(tmp_path, seed):
    """A file of random bytes, some of them as at the start of a page."""
    chance = random.Random(seed)
    path = tmp_path / "random"
    pages = [
        bytes([chance.choice([13, 5, 0])]) + chance.randbytes(PAGE_BYTES - 1) for _ in range(50)
    ]
    path.write_bytes(b"SQLite format 3\0" + b"".join(pages)[16:])
    found, _ = read(path, [2])
    assert found == []


def test_no_file_has_no_records(tmp_path):
    """The WAL may be there alone."""
    assert read(tmp_path / "none", [2])[0] == []
