"""Reads the write-ahead log (WAL) of a database without SQLite.

https://sqlite.org/fileformat2.html#the_write_ahead_log describes the format.
"""

import os
import struct
from collections import Counter
from pathlib import Path

import attrs

from node2dm_tw.state.atomic import open_own_file

PAGE_BYTES = 4096
"""The page size of every database that the gateway makes."""

_HEADER_BYTES = 32
_FRAME_HEADER_BYTES = 24
_FRAME_BYTES = _FRAME_HEADER_BYTES + PAGE_BYTES

_frame_header = struct.Struct(">II8s8s").unpack_from
_sums = struct.Struct(">II")


def wal_path(path: Path) -> Path:
    """Name the WAL of a database."""
    return path.with_name(path.name + "-wal")


@attrs.frozen
class Frame:
    """A frame of a WAL: a new version of a page.

    Args:
        page: number of the page.
        commit: if it ends a transaction, the number of pages of the database after it; else 0.
        offset: position of the page in the WAL.
        is_intact: whether its checksum matches.
    """

    page: int
    commit: int
    offset: int
    is_intact: bool


def read_wal(path: Path) -> list[Frame]:
    """List the frames of a WAL up to the last commit.

    If one of them is not intact, SQLite ignores it and all transactions after it, without an error.

    Raises:
        OSError: the file exists, but cannot be read.
    """
    try:
        file = os.fdopen(open_own_file(path), "rb")
    except FileNotFoundError:
        return []
    frames: list[Frame] = []
    end = 0
    with file:
        header = file.read(_HEADER_BYTES)
        if _add_up(bytes(8), header[:24]) == header[24:]:
            salt, before = header[16:24], header[24:]
        else:  # SQLite ignores the whole WAL
            salt, before = _find_salt(header, file.read(2 * _FRAME_BYTES)), b""
        file.seek(_HEADER_BYTES)
        while len(data := file.read(_FRAME_BYTES)) == _FRAME_BYTES:
            page, commit, found, checksum = _frame_header(data)
            is_intact = found == salt and _add_up(before, _summed(data)) == checksum
            frames.append(Frame(page, commit, file.tell() - PAGE_BYTES, is_intact))
            if commit and found == salt:  # otherwise it may be of an earlier WAL in the same file
                end = len(frames)
            before = checksum
    return frames[:end]


def _summed(frame: bytes) -> bytes:
    return frame[:8] + frame[_FRAME_HEADER_BYTES:]


def _find_salt(header: bytes, frames: bytes) -> bytes:
    """Return what header and frames of a WAL have in common, if one of them is damaged."""
    found = [header[16:24], frames[8:16], frames[_FRAME_BYTES + 8 : _FRAME_BYTES + 16]]
    return Counter(found).most_common(1)[0][0]


def _add_up(before: bytes, data: bytes) -> bytes:
    """Continue the checksum `before`; empty if that is not known."""
    if len(before) < _sums.size or len(data) % 8:
        return b""
    first, second = _sums.unpack(before)
    words = iter(struct.unpack(f"={len(data) // 4}I", data))
    for even in words:
        first = (first + even + second) & 0xFFFFFFFF
        second = (second + next(words) + first) & 0xFFFFFFFF
    return _sums.pack(first, second)
