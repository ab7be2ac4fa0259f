"""The snapshot in Prometheus' words; wants the extra `metrics`."""

from collections.abc import Iterator
from itertools import accumulate
from typing import Any

import attrs
from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from node2dm_tw.admin.health import Health
from node2dm_tw.admin.telnet import Snapshot
from node2dm_tw.stats import ENDINGS, never_falls

Values = dict[str, Any]

ROUTE = {
    "messages_received": ("messages_received", "Pushes taken in."),
    "messages_taken_over": ("messages_taken_over", "Pushes taken over from an earlier process."),
    "messages_ambiguous": (
        "requests_ambiguous",
        "Requests without an answer that may have been processed.",
    ),
    "network_failures": ("requests_failed", "Requests without an answer."),
    "unavailable_answers": ("answers_unavailable", "Answers of 500, 502, 503 or 504."),
    "quota_answers": (
        "answers_over_quota",
        "Answers that the sender or a device is over its quota.",
    ),
    "total_errors": (
        "errors",
        "Refused pushes, bad devices, quota answers and requests without one.",
    ),
    "handshakes": ("tls_handshakes", "Connections made to the upstream."),
    "reconnects": ("reconnects", "Requests repeated because a kept-alive connection had closed."),
    "messages_in_queue": (
        "queue_messages",
        "Pushes not ended, those in flight and asleep included.",
    ),
    "max_queued": ("queue_limit_messages", "Pushes that the queue may hold."),
    "oldest_age": ("queue_oldest_age_seconds", "Age of the push that is next to be sent."),
    "messages_in_flight": ("messages_in_flight", "Pushes sent and not yet answered."),
    "messages_waiting": ("messages_asleep", "Pushes that sleep until their next try."),
    "window": ("window_requests", "Requests that may be in flight at once."),
    "backing_off": ("paused", "1 while the route is paused for its upstream's sake."),
    "pause_left": ("pause_left_seconds", "Seconds for which the route is still paused."),
    "signed_in": ("signed_in", "1 while the route has a credential."),
    "token_age": ("credential_age_seconds", "Age of the credential; absent while signed out."),
    "rate_limited_tokens": ("devices_blocked", "Devices left alone, being over their quota."),
}
"""For each line of a route: the name, without its prefix and `_total`, and a sentence."""

PROCESS = {
    "uptime": ("uptime_seconds", "Seconds since the process started."),
    "udp_dropped": (
        "udp_datagrams_dropped",
        "Datagrams thrown away since the receive buffer was full.",
    ),
    "rcvbuf": ("udp_receive_buffer_bytes", "Receive buffer that the kernel granted."),
    "memory_rss": ("memory_resident_bytes", "Resident memory."),
    "memory_heapTotal": ("memory_heap_bytes", "The C heap, large blocks included."),
    "memory_heapUsed": ("memory_heap_used_bytes", "The C heap's small blocks in use."),
}
"""The same for the lines that only the totals have."""

LABELLED = {
    "messages_ended": (
        "outcome",
        "Pushes that ended, by how.",
        {name.removeprefix("messages_"): name for name in ENDINGS},
    ),
    "callbacks": (
        "outcome",
        "Reports of bad devices, by what became of them.",
        {outcome: f"callbacks_{outcome}" for outcome in ("sent", "failed", "dropped")},
    ),
}
"""Counters of a route that make one metric: its name, label, sentence, and label value to line."""

HISTOGRAMS = {
    "upstream_latency": ("upstream_latency_seconds", "Seconds from a request to its answer."),
    "queue_age": ("queue_age_seconds", "Age of a push when a request for it is sent."),
}

STATES = ("signed out", "signing in", "ready", "paused", "locked")

BY_OTHER_MEANS = {
    *(line for _, _, lines in LABELLED.values() for line in lines.values()),
    "messages_invalid",
    "http_client",
    "version",
    "state",
    "state_reason",
    "logged_in_to_c2dm",
}
"""Lines shown with a label, as text, or by `signed_in`."""


@attrs.define(eq=False)
class SnapshotCollector(Collector):
    """Renders one snapshot at each scrape."""

    snapshot: Snapshot
    health: Health

    def collect(self) -> Iterator[Metric]:
        snapshot = self.snapshot()
        totals, routes = snapshot["totals"], snapshot["routes"]
        yield InfoMetricFamily("node2dm_build", "This program.", {"version": totals["version"]})
        ready = self.health.report(snapshot).is_ready
        yield GaugeMetricFamily("node2dm_ready", "1 while /readyz answers 200.", ready)
        for line, (name, text) in PROCESS.items():
            if line in totals:
                yield _family(line, name, text, {}, [({}, totals[line])])
        yield _reasons("messages_invalid", "Lines that were no pushes.", {"": totals})
        yield _reasons("messages_refused", "Pushes the upstream will never take.", routes)
        yield _states(routes)
        for line, (name, text) in _lines_of(routes).items():
            found = [({"route": r}, v[line]) for r, v in routes.items() if line in v]
            if found:
                yield _family(line, name, text, {"route": ""}, found)
        for name, (label, text, lines) in LABELLED.items():
            found = [
                ({"route": route, label: value}, values[line])
                for route, values in routes.items()
                for value, line in lines.items()
            ]
            yield _family(next(iter(lines.values())), name, text, {"route": "", label: ""}, found)
        yield from _histograms(snapshot["histograms"])


def _lines_of(routes: Values) -> dict[str, tuple[str, str]]:
    """Name every line of the routes that is a number; those that no table knows as they are."""
    names = dict.fromkeys(name for values in routes.values() for name in values)
    unknown = {
        name: (name, "See docs/stats.md.")
        for name in names
        if name not in ROUTE and name.partition(".")[0] not in BY_OTHER_MEANS
        if all(isinstance(values.get(name, 0), int | float) for values in routes.values())
    }
    return {**ROUTE, **unknown}


def _family(
    line: str, name: str, text: str, labels: Values, found: list[tuple[dict[str, str], Any]]
) -> Metric:
    kind = CounterMetricFamily if never_falls(line) else GaugeMetricFamily
    family = kind(f"node2dm_{name}", text, labels=list(labels))
    for values, number in found:
        family.add_metric(list(values.values()), float(number))
    return family


def _reasons(line: str, text: str, routes: Values) -> Metric:
    """Render the lines ``LINE.REASON``, for each route, or for the process under no name."""
    labels = [*(["route"] if "" not in routes else []), "reason"]
    family = CounterMetricFamily(f"node2dm_{line}", text, labels=labels)
    for route, values in routes.items():
        for name, number in values.items():
            first, _, reason = name.partition(".")
            if first == line and reason:
                family.add_metric([route, reason] if route else [reason], number)
    return family


def _states(routes: Values) -> Metric:
    family = GaugeMetricFamily(
        "node2dm_route_state", "1 for the state that the route is in.", labels=["route", "state"]
    )
    for route, values in routes.items():
        for state in STATES:
            family.add_metric([route, state], float(values["state"] == state))
    return family


def _histograms(routes: Values) -> Iterator[Metric]:
    for line, (name, text) in HISTOGRAMS.items():
        family = HistogramMetricFamily(f"node2dm_{name}", text, labels=["route"])
        for route, histograms in routes.items():
            values = histograms[line]
            bounds = [*map(str, map(float, values["bounds"])), "+Inf"]
            buckets = list(zip(bounds, accumulate(values["counts"]), strict=True))
            family.add_metric([route], buckets, values["total"])
        yield family


@attrs.define(eq=False)
class Metrics:
    """What /metrics answers."""

    snapshot: Snapshot
    health: Health
    _registry: CollectorRegistry = attrs.field(factory=CollectorRegistry, init=False)

    def __attrs_post_init__(self) -> None:
        self._registry.register(SnapshotCollector(self.snapshot, self.health))
        ProcessCollector(registry=self._registry)

    def render(self, accept: str) -> tuple[str, bytes]:
        """Render a snapshot in the form that a header `Accept` asks for: its type and the text."""
        encode, content_type = choose_encoder(accept)
        return content_type, encode(self._registry)
