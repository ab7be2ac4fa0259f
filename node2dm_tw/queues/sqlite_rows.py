"""Pushes as rows of the table `push`."""

import struct
import zlib
from typing import Any

from node2dm_tw.core.push import Push
from node2dm_tw.state.spool import restore_push

COLUMNS = "id, line, device_end, key_end, is_json, received, crc, attempts, not_before"
"""The columns of a row, in this order."""

SEQUENCE_BITS = 48
"""An id is the number of the route, shifted by this many bits, and a sequence number."""

URGENT = 1 << 47
"""The highest bit of the sequence number: urgent pushes have ids above it, all others below."""

MAX_ATTEMPTS = 1 << 31
MAX_SLEEP_SECONDS = 2_419_200
"""Maximum time from receipt to the end of a sleep: a push lives for at most four weeks."""

Row = tuple[int, bytes, int, int, int, float, int, int, float | None]

_numbers = struct.Struct("<qIIBd").pack


def checksum(
    number: int, line: bytes, device_end: int, key_end: int, is_json: int, received: float
) -> int:
    """Return the CRC-32 of what never changes in a row."""
    return zlib.crc32(line, zlib.crc32(_numbers(number, device_end, key_end, is_json, received)))


def to_row(
    number: int, push: Push, offset: float, attempts: int = 0, not_before: float | None = None
) -> Row:
    """Encode a push.

    Args:
        number: the id of the row.
        offset: seconds since the epoch minus seconds of the monotonic clock.
        attempts: failed tries.
        not_before: when it is due, in seconds since the epoch; None: it does not sleep.
    """
    received = push.received + offset
    fields = push.line, push.device_end, push.key_end, int(push.is_json), received
    return number, *fields, checksum(number, *fields), attempts, not_before


def check_row(row: tuple[Any, ...]) -> Row | None:
    """Return a row if its types are right and its checksum matches; otherwise None.

    Attempts and the end of a sleep are not part of the checksum: if they are impossible, the push
    is due now.
    """
    if tuple(map(type, row)) not in _FORMS:
        return None
    number, line, device_end, key_end, is_json, received, crc, attempts, not_before = row
    try:
        fields = number, line, device_end, key_end, is_json, float(received)
        is_intact = checksum(*fields) == crc
    except (struct.error, OverflowError):
        return None
    if not is_intact:
        return None
    if not 0 <= attempts < MAX_ATTEMPTS:
        attempts = 0
    if not_before is not None and not 0 <= not_before <= received + MAX_SLEEP_SECONDS:
        not_before = None
    return *fields, crc, attempts, not_before


_FORMS = {
    (int, bytes, int, int, int, received, int, int, not_before)
    for received in (int, float)  # SQLite stores 60.0 as the integer 60
    for not_before in (int, float, type(None))
}


def from_row(row: tuple[Any, ...], now: float, offset: float) -> Push | None:
    """Decode a push; None if the row is damaged, or the push is not valid any more.

    Args:
        now: seconds of the monotonic clock, the latest time a push can have been received at.
        offset: as for `to_row`.
    """
    checked = check_row(row)
    if checked is None:
        return None
    _, line, device_end, key_end, is_json, received, *_ = checked
    return restore_push(line, device_end, key_end, min(now, received - offset), bool(is_json))
