"""Computes how long to wait before a retry. Pure functions."""

import calendar
import re
from collections.abc import Callable
from datetime import UTC
from email.utils import parsedate_to_datetime

MAX_RETRY_AFTER_SECONDS = 86_400.0
"""Maximum delay that an upstream can ask for."""

IMPLAUSIBLE_RETRY_AFTER_SECONDS = 3_600.0
"""Delay for a number above `MAX_RETRY_AFTER_SECONDS`, which may be a Unix time."""


def exponential(
    attempt: int, random: Callable[[], float], *, first: float = 1.0, longest: float = 600.0
) -> float:
    """Return the seconds to wait after failure number `attempt`, which counts from 1.

    Args:
        random: returns a number in [0, 1), as `random.random` does.
        first: seconds before the second try; they double each time, up to `longest`.

    Returns:
        Between half and the whole of the doubled delay, so that clients that failed together do not
        retry together.
    """
    whole = min(longest, first * 2.0 ** min(attempt - 1, 32))
    return whole * (0.5 + random() / 2)


def retry_after(value: bytes | None, now: float) -> float | None:
    """Read Retry-After (RFC 9110, 10.2.3): seconds, or an HTTP date in any of its three forms.

    Proxies repeat the header, so it may have several values, and servers write ``120s``. Of all
    valid values the latest time counts.

    Args:
        value: the value of the header, or None without a header.
        now: seconds since the epoch, to convert a date.

    Returns:
        Seconds from now, 0 to `MAX_RETRY_AFTER_SECONDS`; None without a valid value.
    """
    text = (value or b"")[:_MAX_VALUE].decode("ascii", "replace")
    named = [_seconds_from(item, now) for item in _RETRY_ITEM.findall(text)]
    return max((seconds for seconds in named if seconds is not None), default=None)


_MAX_VALUE = 1_000
"""Maximum number of bytes of a Retry-After that are read."""

_RETRY_ITEM = re.compile(r"[A-Za-z]{3,9},[^,]*|[^,]+")
"""A value of a list. A date has a comma after the day of the week."""

_RETRY_SECONDS = re.compile(r"\s*(-?\d+(?:\.\d*)?)\s*(?:s|sec|secs|seconds)?\s*", re.ASCII)


def _seconds_from(item: str, now: float) -> float | None:
    """Read one value of a Retry-After."""
    number = _RETRY_SECONDS.fullmatch(item)
    if number is not None:
        seconds = float(number[1])
        return (
            IMPLAUSIBLE_RETRY_AFTER_SECONDS
            if seconds > MAX_RETRY_AFTER_SECONDS
            else max(seconds, 0.0)
        )
    date = http_date(item.encode())
    return None if date is None else min(max(date - now, 0.0), MAX_RETRY_AFTER_SECONDS)


def http_date(value: bytes | None) -> float | None:
    """Read an HTTP date (RFC 9110, 5.6.7), in any of its three forms, to seconds since the epoch.

    Args:
        value: the value of the header, or None without a header.
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
