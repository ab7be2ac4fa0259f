"""Content codings."""

import gzip
import tracemalloc
import zlib
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from node2dm_tw.http.content import MAX_CODINGS, MAX_MEMBERS, decode
from node2dm_tw.http.interface import MAX_RESPONSE

BODY = b"id=0:1234567890"
zipped = partial(gzip.compress, mtime=0)


def bare(data):
    """Deflate without a header."""
    made = zlib.compressobj(wbits=-15)
    return made.compress(data) + made.flush()


CODERS = {b"gzip": zipped, b"x-gzip": zipped, b"deflate": zlib.compress}


@given(st.binary(max_size=2000), st.lists(st.sampled_from(sorted(CODERS)), max_size=MAX_CODINGS))
def test_codings_are_undone(body, codings):
    """Codings in a row are undone, the last one first."""
    coded = body
    for coding in codings:
        coded = CODERS[coding](coded)
    assert decode(b", ".join(codings), coded) == (body, True)


@pytest.mark.parametrize(
    ("codings", "coded"),
    [
        (b"GZIP", zipped(BODY)),
        (b" gzip ,", zipped(BODY)),
        (b"identity, gzip", zipped(BODY)),
        (b"deflate", bare(BODY)),
        (b"deflate", zipped(BODY)),
        (b"gzip", zlib.compress(BODY)),
        (b"gzip", zipped(BODY[:5]) + zipped(BODY[5:])),
        (b"gzip", zipped(BODY) + b"\0" * 20),
    ],
)
def test_ways_of_saying_it(codings, coded):
    """A coding is told by what the body begins with rather than by its name."""
    assert decode(codings, coded) == (BODY, True)


@pytest.mark.parametrize(
    "codings", [b"gzip", b"deflate", b"gzip, gzip", b"", b"identity", b"br", b"utf-8", b"\xff"]
)
def test_what_is_not_compressed(codings):
    """A body that is not compressed stays as it is, whatever its header says."""
    for body in (BODY, b"Error=NotRegistered", b'{"error": {}}', b"", b"<html>"):
        assert decode(codings, body) == (body, True)


def test_an_unknown_coding_ends_it():
    """What lies under an unknown coding is not touched."""
    coded = zipped(BODY)
    assert decode(b"gzip, br", coded) == (coded, True)
    assert decode(b"br, gzip", coded) == (BODY, True)


@pytest.mark.parametrize("code", [zipped, zlib.compress, bare])
def test_a_part_of_a_body(code):
    """What is there of a compressed body that was cut is read."""
    body = bytes(range(256)) * 100
    coded = code(body)
    for size in range(2, len(coded), 7):
        read, is_whole = decode(b"deflate", coded[:size])
        assert not is_whole or code is bare
        assert body.startswith(read) or read == coded[:size]


def test_many_codings_and_members():
    """A body under too many codings stays as it is; too many members are cut off."""
    coded = BODY
    for _ in range(MAX_CODINGS + 1):
        coded = zipped(coded)
    assert decode(b",".join([b"gzip"] * (MAX_CODINGS + 1)), coded) == (coded, True)
    assert decode(b"gzip", zipped(b"x") * 1000) == (b"x" * MAX_MEMBERS, False)


def test_the_bound():
    """A body of exactly the bound is whole; one byte more is cut."""
    for size, is_whole in ((MAX_RESPONSE, True), (MAX_RESPONSE + 1, False)):
        for code in (zipped, zlib.compress, bare):
            assert decode(b"deflate", code(b"b" * size)) == (b"b" * MAX_RESPONSE, is_whole)
    parts = zipped(b"b" * MAX_RESPONSE)
    assert decode(b"gzip", parts + zipped(b"")) == (b"b" * MAX_RESPONSE, True)
    assert decode(b"gzip", parts + zipped(b"b")) == (b"b" * MAX_RESPONSE, False)


def test_a_bomb_costs_little():
    """A body that inflates to 50 MB takes no more memory than the bound allows."""
    bomb = zipped(b"b" * 50_000_000)
    tracemalloc.start()
    try:
        read, is_whole = decode(b"gzip, gzip", zipped(bomb))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert (read, is_whole) == (b"b" * MAX_RESPONSE, False)
    assert peak < 1_000_000


@given(st.sampled_from([b"gzip", b"deflate", b"gzip, deflate"]), st.binary(max_size=500))
def test_anything(codings, body):
    """No bytes make it raise, and what comes out is bounded."""
    for prefix in (b"", b"\x1f\x8b", b"\x1f\x8b\x08\0\0\0\0\0\0\0", b"\x78\x9c"):
        read, _ = decode(codings, prefix + body)
        assert len(read) <= MAX_RESPONSE


@given(st.binary(max_size=3000), st.data())
def test_damage(body, data):
    """A damaged body is never taken for another whole one by gzip's own check."""
    coded = bytearray(zipped(body))
    place = data.draw(st.integers(10, len(coded) - 1))
    coded[place] ^= data.draw(st.integers(1, 255))
    read, is_whole = decode(b"gzip", bytes(coded))
    assert not is_whole or read == body
