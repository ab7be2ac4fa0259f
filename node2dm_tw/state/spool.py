"""Files that keep records from a stop to the next start."""

import errno
import json
import os
import re
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from itertools import chain
from pathlib import Path
from typing import BinaryIO, Generic, TypeVar

import attrs

from node2dm_tw.core.json_form import read_json
from node2dm_tw.core.push import InvalidPush, Push
from node2dm_tw.state.atomic import (
    as_number,
    find_free_name,
    open_new_file,
    open_own_file,
    parse_json,
    sync,
    write_atomically,
)

T = TypeVar("T")

_HEADER = b"node2dm_tw spool 1\n"

MAX_LINE_BYTES = 8 << 20
"""Maximum length of a line. A request to the HTTP intake has at most 1 MiB, of which a push repeats
target and collapse key, and JSON writes three bytes for one at the most."""

MAX_BYTES_PER_READ = 1 << 20
"""Maximum number of bytes that one `SpoolReader.read` reads, apart from its last line."""


@attrs.frozen
class Spool:
    """Files of lines. Each line is a CRC-32 in hexadecimal and a record, to detect damage.

    A file that cannot be read stays in place, so there may be several files: `path`,
    `path.1`, `path.2` and so on.

    Args:
        path: the first file.
    """

    path: Path

    def files(self) -> list[Path]:
        """List the existing files, oldest first. Raises OSError."""
        return [file for _, file in self._numbered()]

    def add(self, records: Iterable[bytes]) -> Path:
        """Write `records`, which contain no LF, to a new file after the existing ones.

        Raises:
            OSError: nothing was written.
        """
        newest = -1
        with suppress(OSError):
            newest = max((number for number, _ in self._numbered()), default=-1)
        path = self.path if newest < 0 else self.path.with_name(f"{self.path.name}.{newest + 1}")
        path = find_free_name(path)
        write_atomically(path, chain([_HEADER], map(_format_line, records)))
        return path

    def _numbered(self) -> list[tuple[int, Path]]:
        name = re.compile(re.escape(self.path.name) + r"(?:\.([1-9][0-9]{0,8}))?")
        found = ((name.fullmatch(file.name), file) for file in self.path.parent.iterdir())
        return sorted((int(match[1] or 0), file) for match, file in found if match)


@attrs.define(eq=False)
class SpoolReader(Generic[T]):
    """Reads a file of a spool, and copies damaged lines to another file.

    Args:
        path: the file.
        parse: reads a record; returns None if it is damaged.
        offset: position of the first line to read.

    Attributes:
        damaged: number of damaged lines so far.
        aside: the file with the damaged lines, after a copy of the first line; None without any.
        is_at_end: whether the whole file was read.

    Raises:
        OSError: the file cannot be opened.
    """

    path: Path
    parse: Callable[[bytes], T | None]
    offset: int = 0
    damaged: int = attrs.field(default=0, init=False)
    aside: Path | None = attrs.field(default=None, init=False)
    is_at_end: bool = attrs.field(default=False, init=False)
    _file: BinaryIO = attrs.field(init=False)
    _aside_file: BinaryIO | None = attrs.field(default=None, init=False)
    _is_aside_whole: bool = attrs.field(default=True, init=False)

    def __attrs_post_init__(self) -> None:
        self._file = os.fdopen(open_own_file(self.path), "rb")

    def read(self, most: int) -> list[T]:
        """Read up to `most` records, and return those that are not damaged.

        Raises:
            OSError: the disk failed, and nothing was read; `offset` is unchanged.
        """
        records: list[T] = []
        start = self.offset
        try:
            self._file.seek(start)
            if start == 0:
                self._read_header()
            for _ in range(most):
                line = self._file.readline(MAX_LINE_BYTES)
                self.is_at_end = not line
                if self.is_at_end or self.offset - start > MAX_BYTES_PER_READ:
                    break
                self._take(line, records)
        except OSError:
            if self.offset == start:
                raise
        return records

    def _read_header(self) -> None:
        header = self._file.readline(MAX_LINE_BYTES)
        if header != _HEADER:
            self._set_aside(header)
        self.offset += len(header)

    def _take(self, line: bytes, records: list[T]) -> None:
        content = _parse_line(line)
        record = None if content is None else self.parse(content)
        if record is None:
            self._set_aside(line)
        else:
            records.append(record)
        self.offset += len(line)

    def _set_aside(self, line: bytes) -> None:
        self.damaged += 1
        if not self._is_aside_whole:
            return
        try:
            if self._aside_file is None:
                self.aside = find_free_name(self._aside_path)
                self._aside_file = open_new_file(self.aside)
                self._aside_file.write(_HEADER if self.offset else b"")
            self._aside_file.write(line)
        except OSError:
            self._is_aside_whole = False

    def remove(self) -> None:
        """Remove the file after all of it was read.

        If the damaged lines could not be copied, the whole file is renamed instead.

        Raises:
            OSError: the file is still there.
        """
        self.close()
        if self._is_aside_whole:
            self.path.unlink(missing_ok=True)
        else:
            self.aside = self.path
            self.aside = self.path.rename(find_free_name(self._aside_path))

    def replace(self, records: Iterable[bytes]) -> None:
        """Replace the file by `records`, followed by the lines that were not read yet.

        Raises:
            OSError: the file is unchanged.
        """
        self._close_aside()
        if not self._is_aside_whole:
            raise OSError(errno.EIO, "damaged lines could not be set aside", str(self.path))
        write_atomically(self.path, chain([_HEADER], map(_format_line, records), self._rest()))

    def close(self) -> None:
        """Close the files."""
        self._file.close()
        self._close_aside()

    @property
    def _aside_path(self) -> Path:
        return self.path.with_name(self.path.name + ".damaged")

    def _rest(self) -> Iterator[bytes]:
        self._file.seek(self.offset)
        while chunk := self._file.read(1 << 16):
            yield chunk

    def _close_aside(self) -> None:
        file, self._aside_file = self._aside_file, None
        if file is None:
            return
        try:
            sync(file)
        except OSError:
            self._is_aside_whole = False
        with suppress(OSError):
            file.close()
        if not self._is_aside_whole and self.aside is not None:
            with suppress(OSError):
                self.aside.unlink()


def _format_line(record: bytes) -> bytes:
    return b"%08x %b\n" % (zlib.crc32(record), record)


def _parse_line(line: bytes) -> bytes | None:
    crc, _, record = line.rstrip(b"\n").partition(b" ")
    return record if crc == b"%08x" % zlib.crc32(record) else None


def to_record(push: Push, offset: float) -> bytes:
    """Encode a push for the spool: a JSON array of its fields.

    Args:
        offset: seconds since the epoch minus seconds of the monotonic clock. A record has the
            former, because the next process has another monotonic clock.
    """
    line, received = push.line.decode(), push.received + offset
    return json.dumps([line, push.device_end, push.key_end, received, push.is_json]).encode()


def from_record(record: bytes, now: float, offset: float) -> Push | None:
    """Decode a push; None if the record is invalid.

    Args:
        now: seconds of the monotonic clock. If the wall clock was set back, a push may have a time
            in the future; it then gets this time.
        offset: see `to_record`.
    """
    fields = parse_json(record)
    if not isinstance(fields, list) or [type(field) for field in fields] not in _FORMS:
        return None
    text, device_end, key_end, number, is_json = fields
    received = as_number(number)
    try:
        line = text.encode()
    except UnicodeEncodeError:  # half of a surrogate pair
        return None
    if received is None:
        return None
    return restore_push(line, device_end, key_end, min(now, received - offset), is_json)


def restore_push(
    line: bytes, device_end: int, key_end: int, received: float, is_json: bool
) -> Push | None:
    """Make a push of what an earlier process stored; None if it is not valid (any more)."""
    colons = line[device_end : device_end + 1] + line[key_end : key_end + 1]
    if colons != b"::" or not 0 < device_end < key_end:
        return None
    push = Push(line, device_end, key_end, received, is_json)
    return _revalidate(push) if is_json else push


_FORMS = tuple([str, int, int, number, bool] for number in (float, int))


def _revalidate(push: Push) -> Push | None:
    """Return a push as the intake reads its JSON payload now; None if it is not valid any more."""
    try:
        _, checked = read_json(push.payload, push.received)
    except InvalidPush:
        return None
    return checked if checked.device == push.device else None
