"""How long to wait before trying again: pure functions."""

import calendar
from collections.abc import Callable
from datetime import UTC
from email.utils import parsedate_to_datetime

LONGEST_RETRY_AFTER = 86_400.0
"""Seconds; an upstream that names more is asked again after this long."""


def exponential(
    attempt: int, random: Callable[[], float], *, first: float = 1.0, longest: float = 600.0
) -> float:
    """Seconds to wait after failure number `attempt`, which counts from 1.

    Args:
        random: gives a number in [0, 1), as `random.random` does.
        first: seconds before the second try; doubled each time, up to `longest`.

    Returns:
        Between half and the whole of the doubled delay, so that many who failed together do not
        come back together.
    """
    whole = min(longest, first * 2.0 ** min(attempt - 1, 32))
    return whole * (0.5 + random() / 2)


def retry_after(value: bytes | None, now: float) -> float | None:
    """Read Retry-After (RFC 9110, 10.2.3): seconds, or an HTTP date in any of its three forms.

    Args:
        value: the header's value, or None where there is none.
        now: seconds since the epoch, to measure a date against.

    Returns:
        Seconds from now, 0 to `LONGEST_RETRY_AFTER`; None where nothing usable was named.
    """
    if value is None:
        return None
    text = value.decode("ascii", "replace").strip()
    if _is_number(text):
        seconds = float(text)
    else:
        date = http_date(value)
        if date is None:
            return None
        seconds = date - now
    return min(max(seconds, 0.0), LONGEST_RETRY_AFTER)


def http_date(value: bytes | None) -> float | None:
    """Read an HTTP date (RFC 9110, 5.6.7), in any of its three forms, to seconds since the epoch.

    Args:
        value: the header's value, or None where there is none.
    """
    if value is None:
        return None
    try:
        return _epoch(value.decode("ascii", "replace").strip())
    except (ValueError, OverflowError, TypeError, IndexError):
        return None


def _is_number(text: str) -> bool:
    return text.removeprefix("-").replace(".", "", 1).isdecimal() and text.isascii()


def _epoch(text: str) -> float:
    date = parsedate_to_datetime(text)
    return calendar.timegm((date if date.tzinfo is None else date.astimezone(UTC)).timetuple())
