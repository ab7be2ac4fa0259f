"""Snapshots for the views' tests."""

import socket
from typing import Any

from node2dm_tw.core.stats import COUNTERS, RouteStats, Stats
from tests.support.tools import tool as tool

ROUTE: dict[str, Any] = {
    **dict.fromkeys(COUNTERS, 0),
    "messages_sent": 4,
    "total_errors": 0,
    "messages_in_queue": 0,
    "messages_in_flight": 0,
    "messages_waiting": 0,
    "max_queued": 100,
    "window": 8,
    "backing_off": False,
    "rate_limited_tokens": 0,
    "signed_in": True,
    "logged_in_to_c2dm": True,
    "state": "ready",
    "pause_left": 0.0,
    "oldest_age": 0.0,
}
"""What a route tells that is at rest."""


def route(**values: Any) -> dict[str, Any]:
    """A route's values; a value of None is left out."""
    return {name: value for name, value in {**ROUTE, **values}.items() if value is not None}


def snapshot(**routes: dict[str, Any]) -> dict[str, Any]:
    """A snapshot of these routes, as far as health looks at it."""
    return {"totals": {}, "routes": routes}


def fake_route(stats: Stats, name: str, **gauges: Any) -> RouteStats:
    """Add a route to `stats` whose gauges do not move."""
    made = stats.add_route(name)
    values = {k: v for k, v in {**ROUTE, **gauges}.items() if k not in (*COUNTERS, "total_errors")}
    made.gauges |= {name: (lambda value=value: value) for name, value in values.items()}
    return made


class StatsdServer:
    """A UDP socket to which reports are sent, on a free port."""

    def __init__(self, host: str = "127.0.0.1", port: int = 0) -> None:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._socket = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        self._socket.bind((host, port))
        self.port: int = self._socket.getsockname()[1]

    def __enter__(self) -> "StatsdServer":
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def lines(self) -> list[str]:
        """The lines that came since the last look."""
        found: list[str] = []
        while True:
            try:
                found += self._socket.recv(65_536).decode().split("\n")
            except BlockingIOError:
                return found
