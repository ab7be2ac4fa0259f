"""The snapshot in Prometheus' words; wants the extra `metrics`."""

from collections.abc import Callable, Iterator
from functools import partial
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
from node2dm_tw.admin.memo import Memo
from node2dm_tw.admin.metric_names import (
    BY_OTHER_MEANS,
    HISTOGRAMS,
    LABELLED,
    OTHERS,
    PROCESS,
    REASONS,
    ROUTE,
    STATES,
)
from node2dm_tw.admin.telnet import Snapshot
from node2dm_tw.core.stats import is_counter

Values = dict[str, Any]


@attrs.define(eq=False)
class SnapshotCollector(Collector):
    """Renders one snapshot at each scrape."""

    snapshot: Snapshot
    health: Health

    def collect(self) -> Iterator[Metric]:
        snapshot = self.snapshot()
        totals, routes = snapshot["totals"], snapshot["routes"]
        version = {"version": totals["version"]}
        yield InfoMetricFamily("node2dm_build", OTHERS["build_info"][1], version)
        ready = self.health.report(snapshot).is_ready
        yield GaugeMetricFamily("node2dm_ready", OTHERS["ready"][1], ready)
        for line, (name, text) in PROCESS.items():
            if line in totals:
                yield _family(line, name, text, {}, [({}, totals[line])])
        yield _reasons("messages_invalid", {"": totals})
        yield _reasons("messages_refused", routes)
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
    kind = CounterMetricFamily if is_counter(line) else GaugeMetricFamily
    family = kind(f"node2dm_{name}", text, labels=list(labels))
    for values, number in found:
        family.add_metric(list(values.values()), float(number))
    return family


def _reasons(line: str, routes: Values) -> Metric:
    """Render the lines ``LINE.REASON``, for each route, or for the process under no name."""
    labels, text = REASONS[line]
    family = CounterMetricFamily(f"node2dm_{line}", text, labels=labels)
    for route, values in routes.items():
        for name, number in values.items():
            first, _, reason = name.partition(".")
            if first == line and reason:
                family.add_metric([route, reason] if route else [reason], number)
    return family


def _states(routes: Values) -> Metric:
    labels, text = OTHERS["route_state"]
    family = GaugeMetricFamily("node2dm_route_state", text, labels=labels)
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


PLAIN, OPENMETRICS = "text/plain", "application/openmetrics-text"

MAX_ACCEPT = 1_000
"""Characters of a header `Accept` that are read."""


def choose_form(accept: str) -> str:
    """Choose the form that a header `Accept` names first; plain text where it names neither.

    prometheus-client chooses too, but raises for some versions and repeats any in its answer.
    """
    for each in accept[:MAX_ACCEPT].split(","):
        kind, *parameters = (word.strip().lower() for word in each.split(";"))
        versions = [word for word in parameters if word.startswith("version=")]
        if kind == PLAIN or (kind == OPENMETRICS and versions in ([], ["version=1.0.0"])):
            return kind
    return PLAIN


@attrs.define(eq=False)
class Metrics:
    """What /metrics answers.

    Args:
        seconds: monotonic.
    """

    snapshot: Snapshot
    health: Health
    seconds: Callable[[], float]
    _forms: dict[str, tuple[str, Memo[bytes]]] = attrs.field(factory=dict, init=False)

    def __attrs_post_init__(self) -> None:
        registry = CollectorRegistry()
        registry.register(SnapshotCollector(self.snapshot, self.health))
        ProcessCollector(registry=registry)
        for form in (PLAIN, OPENMETRICS):
            encode, content_type = choose_encoder(form)
            self._forms[form] = content_type, Memo(self.seconds, partial(encode, registry))

    def render(self, accept: str) -> tuple[str, bytes]:
        """Render a snapshot in the form that a header `Accept` asks for: its type and the text."""
        content_type, text = self._forms[choose_form(accept)]
        return content_type, text()
