"""The snapshot in Prometheus' words."""

import os
import re
import subprocess
from pathlib import Path

import attrs
import pytest
from hypothesis import given
from hypothesis.strategies import text

from node2dm_tw.admin.health import Health, Phase
from node2dm_tw.admin.lines import is_counter, make_lines
from node2dm_tw.admin.metric_names import BY_OTHER_MEANS, HISTOGRAMS, PROCESS, ROUTE
from node2dm_tw.core.snapshot import RouteSnapshot
from node2dm_tw.core.stats import TERMINAL_COUNTERS
from tests.support.tools import tool
from tests.unit.admin.support import FakeGateway

try:
    from prometheus_client.parser import text_string_to_metric_families

    from node2dm_tw.admin.metrics import OPENMETRICS, PLAIN, Metrics, choose_form
except ImportError:
    if os.environ.get("CI") == "true":
        raise
    pytest.skip("the extra `metrics` is not installed", allow_module_level=True)


NO_METRIC = {"refused_reasons", "queue_writable", "errors", "blocked"}
"""Of a route: labels of `messages_refused`, what /readyz tells, and lists for people."""

TOTALS_ONLY = {"messages_invalid", "version"}


def make():
    gateway = FakeGateway(values={"udp_dropped": 3})
    gateway.invalid["colons"] += 2
    for name, state in (("shop", "ready"), ("news", "paused")):
        stats = gateway.add_route(name, state=state, token_age=5, token_left=5).stats
        for number, ending in enumerate(TERMINAL_COUNTERS):
            setattr(stats, ending, number)
        stats.count_unsent("refused", 'Odd "reason"\n')
        stats.upstream_latency.observe(0.03)
        stats.upstream_latency.observe(99.0)
        stats.queue_age.observe(-1.0)
    return gateway


def metrics_of(gateway):
    seconds = gateway.clock.seconds
    return Metrics(gateway.snapshot, Health(seconds, Phase.RUNNING), seconds)


def samples(gateway, accept=""):
    _, text = metrics_of(gateway).render(accept)
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text.decode())
        for sample in family.samples
    }


def value(found, name, **labels):
    return found[name, frozenset(labels.items())]


def test_counters_by_route_and_outcome():
    """Every ending of a push has one."""
    found = samples(make())
    for number, ending in enumerate(TERMINAL_COUNTERS):
        outcome = ending.removeprefix("messages_")
        number += outcome == "refused"
        name = "node2dm_messages_ended_total"
        assert value(found, name, route="shop", outcome=outcome) == number
    assert value(found, "node2dm_messages_invalid_total", reason="colons") == 2
    name = "node2dm_messages_refused_total"
    assert value(found, name, route="news", reason='Odd "reason"\n') == 1
    assert value(found, "node2dm_udp_datagrams_dropped_total") == 3


def test_gauges_of_the_state():
    """One of the states is 1, the others are 0; readiness is the health's."""
    found = samples(make())
    name = "node2dm_route_state"
    assert value(found, name, route="news", state="paused") == 1
    assert value(found, name, route="news", state="ready") == 0
    assert value(found, "node2dm_ready") == 1
    assert value(found, "node2dm_signed_in", route="shop") == 1
    assert value(found, "node2dm_credential_age_seconds", route="shop") == 5
    assert value(found, "node2dm_build_info", version="1.2") == 1


def test_histograms():
    """Cumulative, and with what lies beyond the last bound."""
    found = samples(make())
    name = "node2dm_upstream_latency_seconds"
    assert value(found, f"{name}_bucket", route="shop", le="0.025") == 0
    assert value(found, f"{name}_bucket", route="shop", le="0.05") == 1
    assert value(found, f"{name}_bucket", route="shop", le="30.0") == 1
    assert value(found, f"{name}_bucket", route="shop", le="+Inf") == 2
    assert value(found, f"{name}_count", route="shop") == 2
    assert value(found, f"{name}_sum", route="shop") == pytest.approx(99.03)
    assert value(found, "node2dm_queue_age_seconds_sum", route="shop") == 0


def test_figures_of_the_process():
    """As every Prometheus client tells them."""
    found = samples(make())
    assert value(found, "process_open_fds") > 0
    assert value(found, "process_start_time_seconds") > 0


def test_every_line_of_the_stats_has_a_metric():
    """A value that is new must be named in one of the tables, or be no metric knowingly."""
    names = {field.name for field in attrs.fields(RouteSnapshot)} | {"total_errors"}
    assert names == ROUTE.keys() | HISTOGRAMS.keys() | NO_METRIC | BY_OTHER_MEANS - TOTALS_ONLY
    totals = {name.partition(".")[0] for name in make_lines(make().snapshot()).totals}
    assert totals <= ROUTE.keys() | PROCESS.keys() | BY_OTHER_MEANS
    assert totals >= PROCESS.keys() | TOTALS_ONLY


def test_what_never_falls_is_a_counter():
    """Its name ends as such, and no other does."""
    for name in ("messages_sent", "handshakes", "udp_dropped", "messages_refused.X"):
        assert is_counter(name)
    for name in ("window", "messages_in_queue", "messages_waiting", "memory_rss"):
        assert not is_counter(name)


def test_open_metrics_for_those_who_ask():
    """And the old text for the others."""
    metrics = metrics_of(make())
    assert metrics.render("")[0].startswith("text/plain")
    content_type, text = metrics.render("application/openmetrics-text; version=1.0.0")
    assert content_type.startswith("application/openmetrics-text")
    assert text.endswith(b"# EOF\n")


@pytest.mark.parametrize(
    ("accept", "form"),
    [
        ("", PLAIN),
        ("\xff", PLAIN),
        ("application/json", PLAIN),
        ("text/plain;version=1.0.0;escaping=allow-utf-8", PLAIN),
        ("text/html, application/openmetrics-text;version=1.0.0;q=0.1", OPENMETRICS),
        ("Application/OpenMetrics-Text ; charset=utf-8 ; Version=1.0.0", OPENMETRICS),
        ("application/openmetrics-text", OPENMETRICS),
        ("text/plain,application/openmetrics-text", PLAIN),
        ("application/openmetrics-text;version=x", PLAIN),
        ("application/openmetrics-text;version=0.0.1", PLAIN),
        ("application/openmetrics-text;version=", PLAIN),
        ("application/openmetrics-text;version=1.0.0;version=9", PLAIN),
        (";;;,,,=;" * 10_000, PLAIN),
        ("x," * 600 + "application/openmetrics-text", PLAIN),
    ],
)
def test_any_header_accept_chooses_one_of_two_forms(accept, form):
    """The first that it names of those; nothing else that it holds has an effect."""
    assert choose_form(accept) == form
    assert metrics_of(make()).render(accept)[0].startswith(form)


@given(text())
def test_no_header_accept_is_a_fault(accept):
    """Whatever its characters are."""
    assert choose_form(accept) in (PLAIN, OPENMETRICS)


def test_promtool_finds_no_fault():
    """Names, units, help and types follow Prometheus' conventions."""
    _, text = metrics_of(make()).render("")
    done = subprocess.run(
        [tool("promtool"), "check", "metrics"], input=text, capture_output=True, check=False
    )
    assert (done.returncode, done.stdout + done.stderr) == (0, b"")


def test_the_reference_names_every_metric():
    """docs/metrics.md has those that are rendered, and no other."""
    page = Path(__file__).parents[3] / "docs/metrics.md"
    documented = set(re.findall(r"^\| `(\w+)`", page.read_text(encoding="utf-8"), re.MULTILINE))
    gateway = make()
    gateway.routes["shop"].values |= {"bad_device_alarm": False, "project_rate_used": 0.5}
    suffix = re.compile(r"(_bucket|_count|_sum)$")
    rendered = {suffix.sub("", name) for name, _ in samples(gateway) if name.startswith("node2dm_")}
    assert rendered == documented
