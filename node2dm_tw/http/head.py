"""The first part of an answer: status line and header fields, as plain values."""

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

_STATUS = re.compile(rb"HTTP/[0-9](?:\.[0-9])? ([0-9]{3})(?: |\r?\n?$)")


def parse_status(line: bytes) -> int | None:
    """Read the status out of a status line, of HTTP/1 or as libcurl writes it for HTTP/2."""
    match = _STATUS.match(line)
    return int(match[1]) if match else None


def join_fields(fields: Iterable[tuple[bytes, bytes]]) -> Mapping[bytes, bytes]:
    """Lower the names; join the values of repeated ones with ``b", "``."""
    joined: dict[bytes, bytes] = {}
    for name, value in fields:
        key = name.lower()
        joined[key] = joined[key] + b", " + value if key in joined else value
    return joined


def parse_fields(lines: Iterable[bytes]) -> Mapping[bytes, bytes]:
    """Read header lines, line ends included or not; what has no colon is passed over."""
    parts = (line.partition(b":") for line in lines)
    return join_fields((name, value.strip()) for name, colon, value in parts if colon)


class Fields(Mapping[bytes, bytes]):
    """Header fields in lower case out of the lines libcurl gave; parsed only if one is there.

    Args:
        block: all header lines, their line ends included. Of several blocks (interim answers) the
            last one counts.
    """

    __slots__ = ("_block", "_parsed")

    def __init__(self, block: bytes) -> None:
        self._block = block
        self._parsed: Mapping[bytes, bytes] | None = None

    def get(self, key: bytes, default: Any = None) -> Any:
        if b"\n" + key + b":" in self._block.lower():
            return self._fields().get(key, default)
        return default

    def _fields(self) -> Mapping[bytes, bytes]:
        if self._parsed is None:
            lines: list[bytes] = []
            for line in self._block.split(b"\n"):
                if line.startswith(b"HTTP/"):
                    lines.clear()
                else:
                    lines.append(line)
            self._parsed = parse_fields(lines)
        return self._parsed

    def __getitem__(self, key: bytes) -> bytes:
        return self._fields()[key]

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._fields())

    def __len__(self) -> int:
        return len(self._fields())
