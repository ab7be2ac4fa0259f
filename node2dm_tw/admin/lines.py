"""The lines of the stats: every value of a snapshot under its public name, as views render it."""

import json
from collections import defaultdict
from collections.abc import Callable
from operator import attrgetter
from typing import Any

import attrs

from node2dm_tw.core.snapshot import ProcessSnapshot, RouteSnapshot
from node2dm_tw.core.stats import COUNTERS, TERMINAL_COUNTERS

TakeSnapshot = Callable[[], ProcessSnapshot]

Values = dict[str, int | float | str]
"""Lines by name: numbers, booleans and texts."""

ORDER = (
    "uptime",
    "messages_sent",
    "messages_in_queue",
    "backing_off",
    "total_errors",
    "rate_limited_tokens",
    "logged_in_to_c2dm",
    "token_age",
    "memory_rss",
    "memory_heapTotal",
    "memory_heapUsed",
    "http_client",
    "version",
    "messages_received",
    "messages_taken_over",
    *TERMINAL_COUNTERS[1:],
    "messages_invalid",
    "messages_ambiguous",
    "network_failures",
    "unavailable_answers",
    "quota_answers",
    "client_error_answers",
    "spool_damaged",
    "callbacks_sent",
    "callbacks_failed",
    "callbacks_dropped",
    "callbacks_waiting",
    "outcomes_dropped",
    "handshakes",
    "reconnects",
    "udp_dropped",
    "rcvbuf",
)
"""The totals' first lines: node2dm's own in its order and spelling, then ours."""

_NOT_LINES = {"refused_reasons", "upstream_latency", "queue_age", "errors", "blocked"}

_GAUGES = tuple(
    field.name
    for field in attrs.fields(RouteSnapshot)
    if field.name not in _NOT_LINES and field.name not in COUNTERS
)

_get_counters = attrgetter(*COUNTERS)
_get_gauges = attrgetter(*_GAUGES)

_COUNTER_LINES = {
    *COUNTERS,
    "total_errors",
    "messages_invalid",
    "handshakes",
    "reconnects",
    "outcomes_dropped",
    "udp_dropped",
}


def is_counter(name: str) -> bool:
    """Whether the line of this name counts events since the start; else it is the state now."""
    return name.partition(".")[0] in _COUNTER_LINES


@attrs.frozen
class StatsLines:
    """The lines of one snapshot, in the order of the reference.

    Args:
        totals: of the process; they begin with node2dm's lines in node2dm's order.
        routes: of each route.
    """

    totals: Values
    routes: dict[str, Values]

    def as_json(self) -> bytes:
        """Render them as JSON on one line."""
        values = {"totals": self.totals, "routes": self.routes}
        # DEL is the one control character that JSON does not ask to be escaped.
        return json.dumps(values, separators=(",", ":")).replace("\x7f", "\\u007f").encode()

    def as_text(self) -> list[str]:
        """Render them as ``name: value``: the totals, then ``ROUTE.name: value``."""
        return [_line(name, value) for name, value in self.totals.items()] + [
            _line(f"{route}.{name}", value)
            for route, values in self.routes.items()
            for name, value in values.items()
        ]


def _line(name: str, value: object) -> str:
    if name == "uptime":
        return f"uptime: {value} seconds"
    return f"{name}: {str(value).lower() if isinstance(value, bool) else value}"


def make_lines(snapshot: ProcessSnapshot) -> StatsLines:
    """Give every value of a snapshot its name."""
    routes = {name: _route_lines(route) for name, route in snapshot.routes.items()}
    # Without a C2DM route all of them are signed in: node2dm's lines are always there.
    values: Values = {"logged_in_to_c2dm": True} | _merge(list(routes.values()))
    values |= {
        "uptime": snapshot.uptime,
        "version": snapshot.version,
        "messages_invalid": sum(snapshot.invalid.values()),
        "memory_rss": snapshot.memory.rss,
        "memory_heapTotal": snapshot.memory.heap_total,
        "memory_heapUsed": snapshot.memory.heap_used,
        "callbacks_waiting": snapshot.callbacks_waiting,
        "outcomes_dropped": snapshot.outcomes_dropped,
        "udp_dropped": snapshot.udp_dropped,
        "max_queued_bytes": snapshot.max_queued_bytes,
        "rcvbuf": snapshot.rcvbuf,
    }
    values |= {f"messages_invalid.{reason}": n for reason, n in snapshot.invalid.items()}
    totals = {name: values.pop(name) for name in ORDER if name in values}
    return StatsLines(totals | values, routes)


def _route_lines(route: RouteSnapshot) -> Values:
    values: Values = dict(zip(COUNTERS, _get_counters(route), strict=True))
    values["total_errors"] = route.total_errors
    for reason, number in route.refused_reasons.items():
        values[f"messages_refused.{reason}"] = number
    for name, value in zip(_GAUGES, _get_gauges(route), strict=True):
        if value is not None:
            values[name] = value
    values["state"] = route.state.value
    return values


_ROUTES_ONLY = {"state", "state_reason", "state_advice", "renewal_error"}

_MERGED: dict[str, Callable[[list[Any]], int | float | str]] = {
    "backing_off": any,
    "bad_device_alarm": any,
    "logged_in_to_c2dm": all,
    "signed_in": all,
    "token_age": max,
    "token_left": min,
    "oldest_age": max,
    "pause_left": max,
    "project_rate_used": max,
    "http_client": lambda names: ", ".join(sorted(set(names))),
}
"""How the values of several routes make one, where a sum would not do."""


def _merge(routes: list[Values]) -> Values:
    found = defaultdict[str, list[Any]](list)
    for route in routes:
        for name, value in route.items():
            found[name].append(value)
    return {
        name: _MERGED.get(name, sum)(values)
        for name, values in found.items()
        if name not in _ROUTES_ONLY
    }
