"""What a callback says, and how it is kept."""

import json

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from node2dm_tw.callback_target import (
    MAX_ATTEMPTS,
    MAX_RECORD_BYTES,
    Callback,
    from_record,
    to_record,
)

MOMENT = "2023-11-14T22:13:20.000Z"
OLD_RECORD = ["c2dm", "gone", "größer 😀", "NotRegistered", "msg_1", 0]
RECORD = [*OLD_RECORD, "overflowed", MOMENT, "order-7"]
NUMBERS = st.integers() | st.floats() | st.just(10**400)
JSON = st.recursive(
    st.none() | st.booleans() | NUMBERS | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)
TEXTS = st.text(st.characters(exclude_categories=("Cs",)))


def with_field(number: int, value: object) -> bytes:
    return json.dumps([*RECORD[:number], value, *RECORD[number + 1 :]]).encode()


@given(TEXTS, TEXTS, TEXTS, TEXTS, st.integers(0, MAX_ATTEMPTS))
def test_a_callback_is_read_as_it_was_written(route, device, message, reason, attempts):
    """In a record without line feeds."""
    texts = (text.encode() for text in (device, message, reason))
    callback = Callback(route, *texts, b"msg_0", attempts, "expired", MOMENT.encode(), b"a:1")
    record = to_record(callback)
    assert b"\n" not in record
    read = from_record(record)
    assert attrs.asdict(read) == attrs.asdict(callback)
    assert read.size == callback.size


def test_a_record_of_an_earlier_version_is_of_a_bad_device():
    """It has neither outcome nor time of receipt, or no ID of the push."""
    read = from_record(json.dumps(OLD_RECORD).encode())
    assert (read.outcome, read.received, read.push_id) == ("bad_device", b"", b"")
    read = from_record(json.dumps(RECORD[:8]).encode())
    assert (read.outcome, read.received, read.push_id) == ("overflowed", MOMENT.encode(), b"")
    assert from_record(json.dumps(RECORD[:7]).encode()) is None


@given(st.binary() | JSON.map(lambda value: json.dumps(value).encode()))
def test_whatever_else_is_in_a_record_it_is_no_callback(record):
    """And raises nothing."""
    assert from_record(record) is None


@given(st.integers(0, 8), JSON)
def test_one_wrong_field_is_no_callback_and_raises_nothing(number, value):
    """Each field has its type; texts are whole, the id can stand in a header."""
    callback = from_record(with_field(number, value))
    if callback is not None:
        assert type(value) is type(RECORD[number])
        assert to_record(callback)
        assert callback.callback_id.isascii()
        assert callback.callback_id.decode().isprintable()


@pytest.mark.parametrize(
    "record",
    [
        b"[" * 100_000,
        json.dumps(OLD_RECORD).encode().replace(b" 0]", b" 1e999]"),
        json.dumps(OLD_RECORD).encode().replace(b" 0]", b" " + b"9" * 400 + b"]"),
        json.dumps(OLD_RECORD).encode().replace(b" 0]", b" " + b"9" * 10_000 + b"]"),
        with_field(0, "\ud800"),
        with_field(6, "Overflowed"),
        with_field(6, ""),
        with_field(7, "yesterday"),
        with_field(7, MOMENT + "\n"),
        with_field(8, "order 7"),
        with_field(8, "order-7\n"),
        with_field(8, "x" * 65),
        with_field(1, "\ud800"),
        with_field(4, "msg_1\r\nX-Evil: 1"),
        with_field(4, "msg_1\n"),
        with_field(4, ""),
        with_field(5, -1),
        with_field(5, True),
        with_field(5, 0.0),
        with_field(5, MAX_ATTEMPTS + 1),
        with_field(2, "x" * MAX_RECORD_BYTES),
        json.dumps([*RECORD, "more"]).encode(),
        json.dumps(dict.fromkeys("abcdef", "x")).encode(),
        b'"abcde0"',
        b"",
    ],
)
def test_what_is_no_callback(record):
    """Too deep, too large, of another type, or unfit for a request."""
    assert from_record(record) is None
