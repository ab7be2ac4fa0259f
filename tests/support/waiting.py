"""Waiting for something to become true, with an end."""

import time
from collections.abc import Callable
from typing import Any

PATIENCE = 60.0
"""Seconds that a test waits for what should come at once: on a busy machine nothing does."""


def wait_until(
    holds: Callable[[], Any], what: str, seconds: float = PATIENCE, every: float = 0.02
) -> Any:
    """Poll until `holds` returns something true; return it."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if result := holds():
            return result
        time.sleep(every)
    raise AssertionError(f"in {seconds} s it did not happen: {what}")


def wait_for_count(
    count: Callable[[], int], wanted: int, stall: float = 10.0, every: float = 0.02
) -> None:
    """Poll until `count` has come to `wanted`, or has stood still for `stall` seconds."""
    best, deadline = count(), time.monotonic() + stall
    while best < wanted and time.monotonic() < deadline:
        time.sleep(every)
        if (now := count()) > best:
            best, deadline = now, time.monotonic() + stall
