"""Status lines and header fields."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from node2dm_tw.http.head import HeadReader, join_fields, parse_fields, parse_head, parse_status
from node2dm_tw.http.interface import MAX_RESPONSE


@pytest.mark.parametrize(
    ("line", "status"),
    [
        (b"HTTP/1.1 200 OK\r\n", 200),
        (b"HTTP/1.0 503 Service Unavailable", 503),
        (b"HTTP/2 404 \r\n", 404),
        (b"HTTP/1.1 204\r\n", 204),
        (b"HTTP/1.1 204", 204),
        (b"http/1.1 200 OK", 200),
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


def test_odd_fields():
    """Folded lines are one value; what cannot go into a request's header is passed over."""
    lines = [b" of none", b"A : 1,", b"\t2 ", b": x", b"  ", b"B: \0", b"C: a\rb", b"D\0: x", b"E:"]
    assert parse_fields(lines) == {b"a": b"1, 2", b"e": b""}


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


def test_status_line_within_a_header():
    """Only the first line of a block is a status line."""
    status, fields = parse_head(b"HTTP/1.1 200 OK\r\nHTTP/1.1 500 No\r\nA: 1\r\n\r\n")
    assert (status, fields) == (200, {b"a": b"1"})


def read(raw, size):
    """Feed a reader in pieces; return it, and what it gave back."""
    reader, rest = HeadReader(), b""
    for start in range(0, len(raw), size):
        piece = raw[start : start + size]
        rest += piece if reader.is_complete else reader.feed(piece) or b""
    return reader, rest


INTERIM = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early\r\nA: early\r\n\r\n"
HEAD = b"HTTP/1.1 503 No\r\nA: 1\r\nContent-Length: 4\r\n\r\n"


@pytest.mark.parametrize("size", [1, 2, 3, 17, 1000])
def test_reader(size):
    """However an answer is cut, the reader finds its header, and gives the body back."""
    reader, rest = read(INTERIM + HEAD + b"body", size)
    assert (reader.status, rest) == (503, b"body")
    assert reader.fields == {b"a": b"1", b"content-length": b"4"}


def test_reader_of_a_part():
    """Status and fields are there as soon as their lines are whole."""
    for part, status, fields in (
        (b"", 0, {}),
        (b"HTTP/1.1 503", 0, {}),
        (b"HTTP/1.1 503 No\r\nA: 1", 503, {}),
        (b"HTTP/1.1 503 No\r\nA: 1\r\nB", 503, {b"a": b"1"}),
        (INTERIM, 0, {}),
        (INTERIM[:-2], 0, {b"a": b"early"}),
    ):
        reader, _ = read(part, 10)
        assert (reader.status, reader.fields, reader.is_complete) == (status, fields, False)


@pytest.mark.parametrize(
    "raw", [b"SSH-2.0-x", b"HTTP/1.1 abc\r\n\r\n", b"HTTP/1.1 099 X\r\n\r\n", INTERIM + b"\0"]
)
def test_reader_of_what_is_not_http(raw):
    """What is not HTTP ends the reading at once."""
    with pytest.raises(ValueError, match="not HTTP"):
        read(raw, 1)


def test_reader_is_bounded():
    """Headers count against the bound, and interim ones with them."""
    for raw in (b"HTTP/1.1 200 OK\r\nA: " + b"a" * MAX_RESPONSE, INTERIM * 2000):
        with pytest.raises(ValueError, match="longer"):
            read(raw, 10_000)


@pytest.mark.parametrize(
    ("fields", "framing"),
    [
        (b"", b""),
        (b"Content-Length: 2\r\n", b"Content-Length: 2\r\n"),
        (b"Content-Length: 2, 2\r\nContent-Length:2\r\n", b"Content-Length: 2\r\n"),
        (b"Content-Length: 2\r\nContent-Length: 3\r\n", None),
        (b"Content-Length: 0x2\r\n", None),
        (b"Content-Length:\r\n", None),
        (b"Content-Length: 9\r\nTransfer-Encoding: Chunked\r\n", b"Transfer-Encoding: chunked\r\n"),
        (b"Transfer-Encoding: identity\r\nContent-Length: 2\r\n", b"Content-Length: 2\r\n"),
        (b"Transfer-Encoding: gzip, chunked\r\n", None),
        (b"Connection: Keep-Alive, Close\r\n", b"Connection: close\r\n"),
        (b"X-A : 1\r\nno colon\r\n\0\r\n", b""),
    ],
)
def test_framing(fields, framing):
    """Nothing but what frames the body goes on to a strict parser."""
    reader, _ = read(b"HTTP/1.1 200 OK\r\n" + fields + b"\r\n", 1000)
    expected = None if framing is None else b"HTTP/1.1 200 \r\n" + framing + b"\r\n"
    assert reader.framing() == expected


def test_framing_of_http_1_0():
    """A connection of HTTP/1.0 is not kept."""
    reader, _ = read(b"HTTP/1.0 200 OK\r\n\r\n", 1000)
    assert reader.framing() == b"HTTP/1.1 200 \r\nConnection: close\r\n\r\n"


@given(st.binary(max_size=300), st.integers(1, 50))
def test_reader_of_anything(raw, size):
    """Whatever comes, the reader raises nothing but ValueError, and its values can be read."""
    for prefix in (b"", b"HTTP/1.1 200 OK\r\n"):
        try:
            reader, _ = read(prefix + raw, size)
        except ValueError:
            continue
        assert reader.status == 0 or reader.status >= 200
        assert isinstance(dict(reader.fields), dict)
        assert not reader.is_complete or reader.framing() is not None or reader.status
