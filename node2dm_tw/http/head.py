"""The first part of an answer: status line and header fields, as plain values."""

import functools
import re
from collections.abc import Iterable, Mapping
from types import MappingProxyType

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


@functools.lru_cache(maxsize=16)
def parse_head(block: bytes) -> tuple[int, Mapping[bytes, bytes]]:
    """Read the status (0 where there is none) and the fields, by their lower-case names.

    Of several blocks (interim answers) the last one counts. Answers of one second differ in
    little, so a block is mostly one that was read just now.
    """
    status, lines = 0, list[bytes]()
    for line in block.split(b"\n"):
        if line.startswith(b"HTTP/"):
            status, lines = parse_status(line) or 0, []
        else:
            lines.append(line)
    return status, MappingProxyType(parse_fields(lines))
