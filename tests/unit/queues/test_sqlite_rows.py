"""A push as a row: what is written is read again, and damage is noticed."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from node2dm_tw.core.json_form import read_json
from node2dm_tw.core.push import Push, split_at_colons
from node2dm_tw.queues.sqlite_rows import check_row, from_row, to_row

NOW = 5000.0
PUSH = split_at_colons(b"token:key:payload", 100.0)
JSON_PUSH = read_json(b'{"token": "a", "data": {"b": "c"}}', 100.0)[1]


@pytest.mark.parametrize("push", [PUSH, JSON_PUSH])
def test_a_push_is_read_as_it_was_written(push):
    """With another monotonic clock."""
    row = to_row(7, push, offset=1_000_000.0, attempts=3, not_before=1_000_200.0)
    assert check_row(row) == row
    again = from_row(row, now=NOW, offset=1_000_050.0)
    assert again == Push(push.line, push.device_end, push.key_end, 50.0, push.is_json)


def test_a_push_of_the_future_was_received_now():
    """The wall clock was set back."""
    again = from_row(to_row(7, PUSH, offset=9_000_000.0), now=NOW, offset=1000.0)
    assert again.received == NOW


@given(place=st.integers(0, 6), bit=st.integers(0, 30), data=st.data())
def test_another_value_of_a_column_is_noticed(place, bit, data):
    """Of each column whose value never changes."""
    row = list(to_row(7, PUSH, offset=1000.0))
    if isinstance(row[place], bytes):
        at = data.draw(st.integers(0, len(row[place]) - 1))
        row[place] = row[place][:at] + bytes([row[place][at] ^ 1 << bit % 8]) + row[place][at + 1 :]
    elif isinstance(row[place], int):
        row[place] ^= 1 << bit
    else:
        row[place] += 1 << bit
    assert check_row(tuple(row)) is None
    assert from_row(tuple(row), NOW, 0.0) is None


@pytest.mark.parametrize("value", [None, "text", b"bytes", 1.5, 1 << 62, -(1 << 62)])
@pytest.mark.parametrize("place", range(9))
def test_any_value_in_any_column_is_read_without_an_error(place, value):
    """A damaged record can have any."""
    row = list(to_row(7, PUSH, offset=1000.0))
    row[place] = value
    checked = check_row(tuple(row))
    assert checked is None or checked[:7] == to_row(7, PUSH, offset=1000.0)[:7]


def test_impossible_tries_and_sleeps_make_a_push_due():
    """They change while a push waits, so the checksum leaves them out."""
    row = to_row(7, PUSH, offset=1000.0)[:7]
    assert check_row((*row, -1, 1e300)) == (*row, 0, None)
    assert check_row((*row, 2, 1200.5)) == (*row, 2, 1200.5)


def test_whole_seconds_are_read_too():
    """SQLite stores them as integers."""
    row = to_row(7, PUSH, offset=1000.0)
    assert check_row((*row[:5], 1100, *row[6:])) == row


def test_a_push_that_is_not_valid_any_more_is_none():
    """As an earlier version may have stored it."""
    line = b"a::" + json.dumps({"token": "a", "no_such_field": 1}).encode()
    assert from_row(to_row(7, Push(line, 1, 2, 1.0, True), 0.0), NOW, 0.0) is None
    assert from_row(to_row(7, Push(b"a:b:c", 1, 2, 1.0), 0.0), NOW, 0.0) is None
