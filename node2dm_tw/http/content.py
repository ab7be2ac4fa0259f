"""Decodes compressed bodies, which servers send although the client does not accept them."""

import zlib

from node2dm_tw.http.interface import MAX_RESPONSE

MAX_CODINGS = 4
"""Maximum number of codings of a body; a body with more is not decoded."""

MAX_MEMBERS = 16
"""Maximum number of members of a gzip body; the rest is ignored."""

_GZIP = b"\x1f\x8b"
_GZIP_OR_ZLIB = 32 + zlib.MAX_WBITS
_BARE = -zlib.MAX_WBITS


def decode(codings: bytes, body: bytes) -> tuple[bytes, bool]:
    """Decode the codings of a Content-Encoding header.

    A body that is not compressed, and one with an unknown coding, stay unchanged.

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
    """Decompress gzip, zlib, or deflate without a header."""
    if data.startswith(_GZIP) or _has_zlib_header(data):
        return _read_members(data)
    if may_be_bare and data:
        try:
            return _read_member(zlib.decompressobj(_BARE), data, MAX_RESPONSE)
        except zlib.error:
            pass
    return data, True


def _has_zlib_header(data: bytes) -> bool:
    """Whether `data` has a header as in RFC 1950: the method is deflate, the check bits match."""
    return len(data) > 1 and data[0] & 15 == 8 and int.from_bytes(data[:2], "big") % 31 == 0


def _read_members(data: bytes) -> tuple[bytes, bool]:
    """Decompress a zlib stream, or the members of a gzip body; ignore what follows."""
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
