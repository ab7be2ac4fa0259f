"""Parses status line and header fields of an answer."""

import functools
import re
from collections.abc import Iterable, Mapping
from types import MappingProxyType

from node2dm_tw.http.interface import MAX_RESPONSE

Fields = Mapping[bytes, bytes]

_STATUS = re.compile(rb"HTTP/[0-9](?:\.[0-9])? ([0-9]{3})(?: |\r?\n?$)", re.IGNORECASE)
_BLANK_LINE = re.compile(rb"\r?\n\r?\n")
_BLANK = (b"", b"\r")
_UNSAFE = re.compile(rb"[\0\r\n]")
"""Bytes that a value must not contain, because it may become a header of a request."""


def parse_status(line: bytes) -> int | None:
    """Parse a status line, of HTTP/1 or as libcurl writes it for HTTP/2."""
    match = _STATUS.match(line)
    return int(match[1]) if match else None


def join_fields(fields: Iterable[tuple[bytes, bytes]]) -> Fields:
    """Convert names to lower case; join the values of repeated names with ``b", "``."""
    joined: dict[bytes, bytes] = {}
    for name, value in fields:
        key = name.lower()
        joined[key] = joined[key] + b", " + value if key in joined else value
    return joined


def parse_fields(lines: Iterable[bytes]) -> Fields:
    """Parse header lines, with or without line ends; ignore lines that are not fields.

    A line that begins with white space continues the one before.
    """
    fields: list[tuple[bytes, bytes]] = []
    for line in lines:
        if line[:1] in (b" ", b"\t"):
            if fields:
                name, value = fields[-1]
                fields[-1] = name, (value + b" " + line.strip()).rstrip()
            continue
        name, colon, value = line.partition(b":")
        if colon and name.strip():
            fields.append((name.strip(), value.strip()))
    return join_fields(field for field in fields if not _UNSAFE.search(b"".join(field)))


@functools.lru_cache(maxsize=16)
def parse_head(block: bytes) -> tuple[int, Fields]:
    """Parse a header block: the status (0 if there is none), and the fields by lower-case name.

    Of several blocks (interim answers) the last one counts. Cached, because answers of the same
    second are often identical.
    """
    status, lines, is_first = 0, list[bytes](), True
    for line in block.split(b"\n"):
        if is_first and (found := parse_status(line)) is not None:
            status, lines = found, []
        else:
            lines.append(line)
        is_first = line in _BLANK
    return status, MappingProxyType(parse_fields(lines))


class HeadReader:
    """Parses the header block of an HTTP/1 answer as it arrives, and skips interim answers.

    Attributes:
        is_complete: whether the block has ended; the body follows.
    """

    def __init__(self) -> None:
        self.is_complete = False
        self._block = bytearray()
        self._skipped = 0

    @property
    def status(self) -> int:
        """The status of the final answer; 0 until its line is complete."""
        line, end, _ = bytes(self._block[:MAX_RESPONSE]).partition(b"\n")
        status = parse_status(line) or 0
        return status if end and status >= 200 else 0

    @property
    def fields(self) -> Fields:
        """The header fields whose lines are complete."""
        block = bytes(self._block[:MAX_RESPONSE])
        return parse_head(block[: block.rfind(b"\n") + 1])[1]

    def feed(self, data: bytes) -> bytes | None:
        """Add received bytes.

        Returns:
            The bytes after the block if it is complete; None before.

        Raises:
            ValueError: the answer is not HTTP, or the block is longer than `MAX_RESPONSE`.
        """
        searched = max(0, len(self._block) - 3)
        self._block += data
        while True:
            if not b"HTTP/".startswith(bytes(self._block[:5]).upper()):
                raise ValueError("the answer is not HTTP")
            blank = _BLANK_LINE.search(self._block, searched)
            if self._skipped + (blank.end() if blank else len(self._block)) > MAX_RESPONSE:
                raise ValueError(f"the answer's header is longer than {MAX_RESPONSE} bytes")
            if blank is None:
                return None
            status = parse_status(bytes(self._block.partition(b"\n")[0])) or 0
            if status < 100:
                raise ValueError("the answer is not HTTP")
            if status >= 200:
                rest = bytes(self._block[blank.end() :])
                del self._block[blank.end() :]
                self.is_complete = True
                return rest
            del self._block[: blank.end()]
            self._skipped += blank.end()
            searched = 0

    def framing(self) -> bytes | None:
        """Build a header block that has only the fields that frame the body.

        Returns:
            A block for a strict parser; None if the fields are contradictory.
        """
        fields = self.fields
        lengths = set(_tokens(fields, b"content-length"))
        codings = [
            coding for coding in _tokens(fields, b"transfer-encoding") if coding != b"identity"
        ]
        closes = self._block[:8].upper() == b"HTTP/1.0"
        lines = [b"HTTP/1.1 %d " % self.status]
        if codings:
            if codings != [b"chunked"]:
                return None
            lines.append(b"Transfer-Encoding: chunked")
        elif lengths:
            length = lengths.pop()
            if lengths or not length.isdigit():
                return None
            lines.append(b"Content-Length: " + length)
        if closes or b"close" in _tokens(fields, b"connection"):
            lines.append(b"Connection: close")
        return b"\r\n".join([*lines, b"", b""])


def _tokens(fields: Fields, name: bytes) -> list[bytes]:
    """Split the value of a field at its commas; empty if the field is missing."""
    if name not in fields:
        return []
    return [token.strip().lower() for token in fields[name].split(b",")]
