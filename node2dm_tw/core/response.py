"""What providers and HTTP clients share: the headers of a request, and an answer to it."""

from collections.abc import Mapping
from typing import NamedTuple

Headers = tuple[tuple[bytes, bytes], ...]
"""Request headers in order. Clients may key a cache by the identity of the tuple."""

MAX_RESPONSE = 64 * 1024
"""Bytes read of a body, and of a header block; the rest is cut off."""


class Response(NamedTuple):
    """One answer.

    Args:
        status: the HTTP status code.
        headers: names in lower case; values of a repeated header joined with ``b", "``.
        body: at most `MAX_RESPONSE` bytes, uncompressed.
        truncated: a part is missing: header block or body was longer than `MAX_RESPONSE`, broken
            off, or could not be read.
    """

    status: int
    headers: Mapping[bytes, bytes]
    body: bytes
    truncated: bool = False
