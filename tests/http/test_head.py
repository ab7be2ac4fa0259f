"""Status lines and header fields."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from node2dm_tw.http.head import join_fields, parse_fields, parse_head, parse_status


@pytest.mark.parametrize(
    ("line", "status"),
    [
        (b"HTTP/1.1 200 OK\r\n", 200),
        (b"HTTP/1.0 503 Service Unavailable", 503),
        (b"HTTP/2 404 \r\n", 404),
        (b"HTTP/1.1 204\r\n", 204),
        (b"HTTP/1.1 204", 204),
        (b"HTTP/1.1 20", None),
        (b"HTTP/1.1 2000 OK", None),
        (b"ICY 200 OK", None),
        (b"", None),
    ],
)
def test_status(line, status):
    """A status line is read or refused."""
    assert parse_status(line) == status


def test_fields():
    """Names are lowered, values stripped and joined; lines without a colon are passed over."""
    lines = [b"A: 1\r\n", b"a:2\r", b"nonsense", b"B:  x: y \r\n", b"\r\n"]
    assert parse_fields(lines) == {b"a": b"1, 2", b"b": b"x: y"}


def test_join():
    """Order is kept among repeated names."""
    assert join_fields([(b"X", b"2"), (b"x", b"1")]) == {b"x": b"2, 1"}


BLOCK = (
    b"HTTP/1.1 103 Early\r\nX: early\r\n\r\nHTTP/2 200 \r\nRetry-After: 3\r\nA: 1\r\na: 2\r\n\r\n"
)


def test_fields_of_a_block():
    """Only the last block of header lines counts; what was read is nobody's to change."""
    status, fields = parse_head(BLOCK)
    assert status == 200
    assert fields == {b"retry-after": b"3", b"a": b"1, 2"}
    with pytest.raises(TypeError):
        fields[b"x"] = b"early"


@given(st.binary(max_size=300))
def test_fields_of_anything(block):
    """No block of bytes makes it raise; names come out in lower case."""
    _, fields = parse_head(b"HTTP/1.1 200 OK\r\n" + block)
    assert all(name == name.lower() for name in fields)
