"""The snapshot in Prometheus' words; wants the extra `metrics`."""

from collections.abc import Callable, Iterator
from functools import partial
from itertools import accumulate

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
from node2dm_tw.admin.lines import TakeSnapshot, Values, is_counter, make_lines
from node2dm_tw.admin.memo import Memo
from node2dm_tw.admin.metric_names import (
    HISTOGRAMS,
    LABELLED,
    OTHERS,
    PROCESS,
    REASONS,
    ROUTE,
)
from node2dm_tw.core.snapshot import LaneState, RouteSnapshot
from node2dm_tw.core.stats import HistogramSnapshot

Labels = dict[str, str]


@attrs.define(eq=False)
class SnapshotCollector(Collector):
    """Renders one snapshot at each scrape."""

    snapshot: TakeSnapshot
    health: Health

    def collect(self) -> Iterator[Metric]:
        snapshot = self.snapshot()
        lines, routes = make_lines(snapshot), snapshot.routes
        version = {"version": snapshot.version}
        yield InfoMetricFamily("node2dm_build", OTHERS["build_info"][1], version)
        ready = self.health.report(snapshot).is_ready
        yield GaugeMetricFamily("node2dm_ready", OTHERS["ready"][1], ready)
        for line, (name, text) in PROCESS.items():
            yield _family(line, name, text, [({}, lines.totals[line])])
        yield _reasons("messages_invalid", [({}, snapshot.invalid)])
        refused = [({"route": name}, route.refused_reasons) for name, route in routes.items()]
        yield _reasons("messages_refused", refused)
        yield _states(routes)
        yield from _route_families(lines.routes)
        yield from _histograms(routes)


def _route_families(routes: dict[str, Values]) -> Iterator[Metric]:
    """Render the lines of the routes that are numbers."""
    for line, (name, text) in ROUTE.items():
        found = [({"route": r}, values[line]) for r, values in routes.items() if line in values]
        if found:
            yield _family(line, name, text, found)
    for name, (label, text, lines) in LABELLED.items():
        found = [
            ({"route": route, label: value}, values[line])
            for route, values in routes.items()
            for value, line in lines.items()
        ]
        yield _family(next(iter(lines.values())), name, text, found)


def _family(
    line: str, name: str, text: str, found: list[tuple[Labels, int | float | str]]
) -> Metric:
    """Render a line, from its values with their labels: one at least."""
    kind = CounterMetricFamily if is_counter(line) else GaugeMetricFamily
    family = kind(f"node2dm_{name}", text, labels=list(found[0][0]))
    for labels, number in found:
        family.add_metric(list(labels.values()), float(number))
    return family


def _reasons(line: str, found: list[tuple[Labels, dict[str, int]]]) -> Metric:
    """Render a counter by its reasons, each with the labels of where it was counted."""
    labels, text = REASONS[line]
    family = CounterMetricFamily(f"node2dm_{line}", text, labels=labels)
    for place, reasons in found:
        for reason, number in reasons.items():
            family.add_metric([*place.values(), reason], number)
    return family


def _states(routes: dict[str, RouteSnapshot]) -> Metric:
    labels, text = OTHERS["route_state"]
    family = GaugeMetricFamily("node2dm_route_state", text, labels=labels)
    for name, route in routes.items():
        for state in LaneState:
            family.add_metric([name, state.value], float(route.state is state))
    return family


def _histograms(routes: dict[str, RouteSnapshot]) -> Iterator[Metric]:
    for line, (name, text) in HISTOGRAMS.items():
        family = HistogramMetricFamily(f"node2dm_{name}", text, labels=["route"])
        for route_name, route in routes.items():
            histogram: HistogramSnapshot = getattr(route, line)
            bounds = [*map(str, map(float, histogram.bounds)), "+Inf"]
            buckets = list(zip(bounds, accumulate(histogram.counts), strict=True))
            family.add_metric([route_name], buckets, histogram.total)
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

    snapshot: TakeSnapshot
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
