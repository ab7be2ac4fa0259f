"""How long to wait before trying again: pure functions."""

import calendar
import re
from collections.abc import Callable
from datetime import UTC
from email.utils import parsedate_to_datetime

LONGEST_RETRY_AFTER = 86_400.0
"""Seconds; an upstream that names a later date is asked again after this long."""

UNBELIEVABLE = 3_600.0
"""Seconds to wait where a number above `LONGEST_RETRY_AFTER` is named: a Unix time, perhaps."""


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

    Proxies repeat the header, so that several values stand in it, and servers write ``120s``: the
    latest moment of all that can be read counts.

    Args:
        value: the header's value, or None where there is none.
        now: seconds since the epoch, to measure a date against.

    Returns:
        Seconds from now, 0 to `LONGEST_RETRY_AFTER`; None where nothing usable was named.
    """
    text = (value or b"")[:_MAX_VALUE].decode("ascii", "replace")
    named = [_seconds_from(item, now) for item in _RETRY_ITEM.findall(text)]
    return max((seconds for seconds in named if seconds is not None), default=None)


_MAX_VALUE = 1_000
"""Bytes looked at of a Retry-After."""

_RETRY_ITEM = re.compile(r"[A-Za-z]{3,9},[^,]*|[^,]+")
"""A value of a list: a date has a comma behind the day of the week."""

_RETRY_SECONDS = re.compile(r"\s*(-?\d+(?:\.\d*)?)\s*(?:s|sec|secs|seconds)?\s*", re.ASCII)


def _seconds_from(item: str, now: float) -> float | None:
    """Read one value of a Retry-After."""
    number = _RETRY_SECONDS.fullmatch(item)
    if number is not None:
        seconds = float(number[1])
        return UNBELIEVABLE if seconds > LONGEST_RETRY_AFTER else max(seconds, 0.0)
    date = http_date(item.encode())
    return None if date is None else min(max(date - now, 0.0), LONGEST_RETRY_AFTER)


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


def _epoch(text: str) -> float:
    date = parsedate_to_datetime(text)
    return calendar.timegm((date if date.tzinfo is None else date.astimezone(UTC)).timetuple())
