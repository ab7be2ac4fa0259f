"""Snapshots for the views' tests."""

from typing import Any

from node2dm_tw.stats import COUNTERS, RouteStats, Stats
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
    made = stats.route(name)
    values = {k: v for k, v in {**ROUTE, **gauges}.items() if k not in (*COUNTERS, "total_errors")}
    made.gauges |= {name: (lambda value=value: value) for name, value in values.items()}
    return made
