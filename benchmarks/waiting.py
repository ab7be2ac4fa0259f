"""Waiting for something to become true, with an end."""

import time
from collections.abc import Callable


class TookTooLong(Exception):
    """What was waited for did not happen in time."""


def wait_until(holds: Callable[[], bool], what: str, seconds: float, every: float = 0.02) -> None:
    """Poll until `holds`.

    Raises:
        TookTooLong: it did not, within `seconds`.
    """
    deadline = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > deadline:
            raise TookTooLong(f"not within {seconds:g} s: {what}")
        time.sleep(every)


def wait_for_count(
    count: Callable[[], int], wanted: int, stall: float = 10.0, every: float = 0.02
) -> bool:
    """Poll until `count` has come to `wanted`, for as long as it grows.

    Returns:
        Whether it has come there; False: it stood still for `stall` seconds.
    """
    best, deadline = count(), time.monotonic() + stall
    while best < wanted:
        if time.monotonic() > deadline:
            return False
        time.sleep(every)
        now = count()
        if now > best:
            best, deadline = now, time.monotonic() + stall
    return True
