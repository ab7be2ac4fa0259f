"""The headers of a request and the response to it, as providers and HTTP clients use them."""

from collections.abc import Mapping
from typing import NamedTuple

Headers = tuple[tuple[bytes, bytes], ...]
"""Request headers in order. Clients may key a cache by the identity of the tuple."""

MAX_RESPONSE = 64 * 1024
"""Maximum number of bytes of a body, and of a header block; the rest is cut off."""


class Response(NamedTuple):
    """One HTTP response.

    Args:
        status: the HTTP status code.
        headers: names in lower case; values of a repeated header joined with ``b", "``.
        body: at most `MAX_RESPONSE` bytes, uncompressed.
        truncated: header block or body was longer than `MAX_RESPONSE`, incomplete, or could not
            be decoded.
    """

    status: int
    headers: Mapping[bytes, bytes]
    body: bytes
    truncated: bool = False

    @property
    def is_client_error(self) -> bool:
        """Whether Google counts it as a client error: 4xx, but for 429."""
        return 400 <= self.status < 500 and self.status != 429
