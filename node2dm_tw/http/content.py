"""Content codings: a body that comes compressed, unasked, is read all the same."""

import zlib

from node2dm_tw.http.interface import MAX_RESPONSE

MAX_CODINGS = 4
"""Codings applied in a row; a body with more stays as it came."""

MAX_MEMBERS = 16
"""Parts of a gzip body; the rest is left out."""

_GZIP = b"\x1f\x8b"
_GZIP_OR_ZLIB = 32 + zlib.MAX_WBITS
_BARE = -zlib.MAX_WBITS


def decode(codings: bytes, body: bytes) -> tuple[bytes, bool]:
    """Undo the codings that a Content-Encoding header names.

    What is not compressed, whatever the header says, and a coding that is not known stay as
    they came.

    Returns:
        At most `MAX_RESPONSE` bytes, and whether they are the whole body.
    """
    names = [name.strip().lower() for name in codings.split(b",")]
    is_whole = True
    if len(names) > MAX_CODINGS:
        return body, is_whole
    for name in reversed(names):
        if name in (b"gzip", b"x-gzip", b"deflate"):
            body, is_whole_here = _inflate(body, may_be_bare=name == b"deflate")
            is_whole = is_whole and is_whole_here
        elif name not in (b"", b"identity"):
            break
    return body, is_whole


def _inflate(data: bytes, *, may_be_bare: bool) -> tuple[bytes, bool]:
    """Read gzip or zlib, whichever it is, or deflate without either's header."""
    if data.startswith(_GZIP) or _has_zlib_header(data):
        return _read_members(data)
    if may_be_bare and data:
        try:
            return _read_member(zlib.decompressobj(_BARE), data, MAX_RESPONSE)
        except zlib.error:
            pass
    return data, True


def _has_zlib_header(data: bytes) -> bool:
    """Whether `data` begins as RFC 1950 says: the method is deflate, and the check bits hold."""
    return len(data) > 1 and data[0] & 15 == 8 and int.from_bytes(data[:2], "big") % 31 == 0


def _read_members(data: bytes) -> tuple[bytes, bool]:
    """Read one zlib stream, or the members of a gzip body; what follows them is passed over."""
    body = b""
    try:
        for _ in range(MAX_MEMBERS):
            member = zlib.decompressobj(_GZIP_OR_ZLIB)
            part, is_whole = _read_member(member, data, MAX_RESPONSE - len(body))
            body += part
            data = member.unused_data
            if not is_whole or not data.startswith(_GZIP):
                return body, is_whole
    except zlib.error:
        pass
    return body, False


def _read_member(member: "zlib._Decompress", data: bytes, limit: int) -> tuple[bytes, bool]:
    part = member.decompress(data, limit + 1)
    return part[:limit], member.eof and len(part) <= limit
