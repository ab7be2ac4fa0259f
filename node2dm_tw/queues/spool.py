"""The file in which records wait from a stop to the next start."""

import json
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path

import attrs

from node2dm_tw.files import write_atomically
from node2dm_tw.push import Push

_HEADER = b"node2dm_tw spool 1\n"


@attrs.frozen
class Spool:
    """Lines, each a CRC-32 in hexadecimal and a record, so that damage costs only what it hit.

    Args:
        path: of the file.
    """

    path: Path

    def write(self, records: Iterable[bytes]) -> None:
        """Put `records`, which hold no LF, in the place of the file. Raises OSError."""
        write_atomically(self.path, _lines(records))

    def read(self) -> Iterator[bytes | None]:
        """Yield each record, or None for one that is damaged; nothing where there is no file.

        The file is opened at the first one. Raises OSError where it cannot be read.
        """
        if not self.path.exists():
            return
        with self.path.open("rb") as file:
            if file.readline(1000) != _HEADER:
                yield None
            for line in file:
                yield _record(line)

    def remove(self) -> None:
        """All of it is taken up."""
        self.path.unlink(missing_ok=True)

    def set_aside(self) -> Path:
        """Move a damaged file out of the way; return where it is now."""
        aside = self.path.with_name(self.path.name + ".damaged")
        return self.path.replace(aside)


def _lines(records: Iterable[bytes]) -> Iterator[bytes]:
    yield _HEADER
    for record in records:
        yield b"%08x %b\n" % (zlib.crc32(record), record)


def _record(line: bytes) -> bytes | None:
    crc, _, record = line.rstrip(b"\n").partition(b" ")
    return record if crc == b"%08x" % zlib.crc32(record) else None


def to_record(push: Push, offset: float) -> bytes:
    """Write a push for the spool: a JSON array of its fields.

    Args:
        offset: what must be added to monotonic seconds to get seconds since the epoch: a record
            holds the latter, since only they mean anything to the next process.
    """
    line, received = push.line.decode(), push.received + offset
    return json.dumps([line, push.device_end, push.key_end, received, push.is_json]).encode()


def from_record(record: bytes, now: float, offset: float) -> Push | None:
    """Read a push back; None where the record is none.

    Args:
        now: seconds of the monotonic clock. A push from the future, which a stepped wall clock can
            make, is taken for one of this moment.
        offset: see `to_record`.
    """
    try:
        line, device_end, key_end, received, is_json = json.loads(record)
        came = min(now, float(received) - offset)
        push = Push(line.encode(), int(device_end), int(key_end), came, bool(is_json))
    except (ValueError, TypeError, AttributeError):
        return None
    colons = push.line[push.device_end : push.device_end + 1] + push.line[key_end : key_end + 1]
    return push if colons == b"::" and push.device_end < push.key_end else None
