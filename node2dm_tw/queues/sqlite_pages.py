"""Reads what is left of a damaged database, page by page, without SQLite.

SQLite finds a row by way of the pages above it: one bad page may hide a million rows. Here each
page is read for itself. https://sqlite.org/fileformat2.html describes pages and records.
"""

import os
import struct
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any, BinaryIO, Self

import attrs

from node2dm_tw.queues.sqlite_wal import PAGE_BYTES, Frame, read_wal, wal_path
from node2dm_tw.state.atomic import open_own_file

MAGIC = b"SQLite format 3\0"
"""What a database begins with."""

MAX_RECORD_BYTES = 1 << 22
"""Maximum size of a record; a line has at most 1 MiB."""

_LEAF, _INTERIOR = 0x0D, 0x05
_PAGES_OF_INDEXES = (0x02, 0x0A)
_MAX_LOCAL, _MIN_LOCAL = PAGE_BYTES - 35, (PAGE_BYTES - 12) * 32 // 255 - 23
_OVERFLOW_BYTES = PAGE_BYTES - 4
_SIZES = {0: 0, 1: 1, 2: 2, 3: 3, 4: 4, 5: 6, 6: 8, 7: 8, 8: 0, 9: 0}
"""Bytes of a value in a record, by its type; 10 and 11 are not used."""

_u16 = struct.Struct(">H").unpack_from
_u32 = struct.Struct(">I").unpack_from
_double = struct.Struct(">d").unpack

Record = tuple[Any, ...]


@attrs.define(eq=False)
class PageReader:
    """The records of all tables of a database file and its WAL, as far as they can be read.

    Args:
        path: the database.
        roots: first pages of its tables.

    Attributes:
        unreadable: number of records that could not be read so far.
        bad_pages: number of pages that could not be read, after `records`.

    Raises:
        OSError: a file exists, but cannot be opened.
    """

    path: Path
    roots: Iterable[int]
    unreadable: int = attrs.field(default=0, init=False)
    bad_pages: int = attrs.field(default=0, init=False)
    _frames: list[Frame] = attrs.field(init=False)
    _newest: dict[int, int] = attrs.field(init=False)
    """The position in the WAL of the last intact version of a page."""
    _overflow: set[int] = attrs.field(factory=set, init=False)
    _files: ExitStack = attrs.field(factory=ExitStack, init=False)
    _database: BinaryIO | None = attrs.field(default=None, init=False)
    _wal: BinaryIO | None = attrs.field(default=None, init=False)

    def __attrs_post_init__(self) -> None:
        self._frames = read_wal(wal_path(self.path))
        self._newest = {frame.page: frame.offset for frame in self._frames if frame.is_intact}
        with self._files:
            self._database = self._open(self.path)
            self._wal = self._open(wal_path(self.path))
            self._files = self._files.pop_all()

    def _open(self, path: Path) -> BinaryIO | None:
        with suppress(FileNotFoundError):
            return self._files.enter_context(os.fdopen(open_own_file(path), "rb"))
        return None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._files.close()

    def records(self) -> Iterator[Record]:
        """Read the records of all tables; the row's id takes the place of the first value.

        The last ones are of damaged frames of the WAL, and may have been there before.
        """
        unknown = set()
        for number in self._live_pages():
            page = self._page(number)
            if page[:1] == bytes([_LEAF]):
                yield from self._read_leaf(page)
            elif number > 1 and page[0] not in (_INTERIOR, *_PAGES_OF_INDEXES):
                unknown.add(number)
        for frame in self._frames:
            if not frame.is_intact:
                page = _read_at(self._wal, frame.offset)
                if page[0] == _LEAF:
                    yield from self._read_leaf(page)
        self.bad_pages = len(unknown - self._overflow)

    @property
    def _count(self) -> int:
        """Number of pages of the database."""
        commits = [frame.commit for frame in self._frames if frame.is_intact and frame.commit]
        if commits:
            return commits[-1]
        return os.fstat(self._database.fileno()).st_size // PAGE_BYTES if self._database else 0

    def _page(self, number: int) -> bytes:
        """Read the newest version of a page; zeros if it is not in the files."""
        offset = self._newest.get(number)
        if offset is not None:
            return _read_at(self._wal, offset)
        return _read_at(self._database, (number - 1) * PAGE_BYTES)

    def _live_pages(self) -> Iterable[int]:
        """List the pages that may hold records.

        A free page still holds rows that were removed long ago. If the list of free pages is
        damaged, the pages that can be reached from the roots count; if these are damaged too, all.
        """
        every = range(1, self._count + 1)
        free = self._free_pages(every)
        if free is not None:
            return (number for number in every if number not in free)
        return self._reachable_pages(every) or every

    def _free_pages(self, every: range) -> set[int] | None:
        head = self._page(1)
        (trunk,), (count,) = _u32(head, 32), _u32(head, 36)
        free: set[int] = set()
        while trunk:
            page = self._page(trunk)
            (following,), (leaves,) = _u32(page), _u32(page, 4)
            if trunk in free or trunk not in every or leaves > PAGE_BYTES // 4 - 2:
                return None
            free.update([trunk, *struct.unpack_from(f">{leaves}I", page, 8)])
            trunk = following
        return free if head.startswith(MAGIC) and len(free) == count else None

    def _reachable_pages(self, every: range) -> set[int] | None:
        found: set[int] = set()
        waiting = list(self.roots)
        while waiting:
            number = waiting.pop()
            page = self._page(number)
            if number in found or number not in every or page[0] not in (_LEAF, _INTERIOR):
                return None
            found.add(number)
            if page[0] == _INTERIOR:
                waiting += [_u32(page, at)[0] for at in (8, *_find_cells(page, 12))]
        return found

    def _read_leaf(self, page: bytes) -> Iterator[Record]:
        for at in _find_cells(page, 8):
            try:
                yield self._read_cell(page, at)
            except (ValueError, IndexError, struct.error):
                self.unreadable += 1

    def _read_cell(self, page: bytes, at: int) -> Record:
        size, at = _read_varint(page, at)
        number, at = _read_varint(page, at)
        if size <= _MAX_LOCAL:
            return (number, *_decode(page[at : at + size])[1:])
        if size > MAX_RECORD_BYTES:
            raise ValueError("a record is too long")
        local = _MIN_LOCAL + (size - _MIN_LOCAL) % _OVERFLOW_BYTES
        at, start = at + (local if local <= _MAX_LOCAL else _MIN_LOCAL), at
        parts, left, (following,) = [page[start:at]], size - (at - start), _u32(page, at)
        while left > 0:
            self._overflow.add(following)
            page = self._page(following)
            parts.append(page[4 : 4 + left])
            left -= _OVERFLOW_BYTES
            (following,) = _u32(page)
        return (number, *_decode(b"".join(parts))[1:])


def _read_at(file: BinaryIO | None, offset: int) -> bytes:
    """Read a page; what is missing is zeros. Raises OSError."""
    page = b"" if file is None or offset < 0 else os.pread(file.fileno(), PAGE_BYTES, offset)
    return page.ljust(PAGE_BYTES, b"\0")


def _find_cells(page: bytes, header_bytes: int) -> tuple[int, ...]:
    """Return the positions of the cells of a page, except of the first page."""
    (count,) = _u16(page, 3)
    count = min(count, (PAGE_BYTES - header_bytes) // 2)
    cells = struct.unpack_from(f">{count}H", page, header_bytes)
    return tuple(at for at in cells if at <= PAGE_BYTES - 4)


def _read_varint(data: bytes, at: int) -> tuple[int, int]:
    """Read an integer of 1 to 9 bytes; return it and the position after it."""
    value = 0
    for place in range(at, at + 8):
        value = value << 7 | data[place] & 0x7F
        if data[place] < 0x80:
            return value, place + 1
    value = value << 8 | data[at + 8]
    return value - (value >> 63 << 64), at + 9


def _decode(record: bytes) -> list[Any]:
    """Decode a record. Raises ValueError, IndexError or struct.error if that fails."""
    end, at = _read_varint(record, 0)
    values, body = [], end
    while at < end:
        kind, at = _read_varint(record, at)
        size = (kind - 12) // 2 if kind >= 12 else _SIZES.get(kind, MAX_RECORD_BYTES)
        if size < 0 or body + size > len(record):
            raise ValueError("a value is longer than its record")
        values.append(_as_value(kind, record[body : body + size]))
        body += size
    return values


def _as_value(kind: int, data: bytes) -> Any:
    if kind >= 12:
        return data.decode() if kind % 2 else data
    if kind == 0:
        return None
    if kind == 7:
        return _double(data)[0]
    return kind - 8 if kind >= 8 else int.from_bytes(data, "big", signed=True)
