"""The alert rules and the dashboard in etc/: they name what exists, and the alerts go off."""

import json
import re
import subprocess
from pathlib import Path

import pytest

from node2dm_tw.admin.lines import is_counter
from node2dm_tw.admin.metric_names import (
    HISTOGRAMS,
    LABELLED,
    OTHERS,
    PROCESS,
    REASONS,
    ROUTE,
)
from node2dm_tw.core.snapshot import LaneState
from tests.support.tools import module, tool

yaml = module("yaml")

STATES = [state.value for state in LaneState]
ROOT = Path(__file__).parents[3]
ETC = ROOT / "etc"
RULES = ETC / "prometheus-rules.yml"
ALERTS = yaml.safe_load(RULES.read_text(encoding="utf-8"))["groups"][0]["rules"]
DASHBOARD = json.loads((ETC / "grafana-dashboard.json").read_text(encoding="utf-8"))
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
EXPRESSIONS = [alert["expr"] for alert in ALERTS] + [
    target["expr"] for panel in PANELS for target in panel["targets"]
]
FOREIGN = {"up", "process_cpu_seconds_total", "process_start_time_seconds"}
"""Metrics of Prometheus itself, and of its clients' process collector."""


def labels_of_metrics():
    """Every metric that there is, with its labels."""
    found = {name: set(labels) for name, (labels, _) in OTHERS.items()}
    found |= {f"{name}_total": set(labels) for name, (labels, _) in REASONS.items()}
    found |= {f"{name}_total": {"route", label} for name, (label, _, _) in LABELLED.items()}
    for table, labels in ((ROUTE, {"route"}), (PROCESS, set())):
        for line, (name, _) in table.items():
            found[name + "_total" * is_counter(line)] = labels
    for name, _ in HISTOGRAMS.values():
        found |= {f"{name}_bucket": {"route", "le"}, f"{name}_sum": {"route"}}
        found[f"{name}_count"] = {"route"}
    return {f"node2dm_{name}": labels | {"instance", "job"} for name, labels in found.items()}


METRICS = labels_of_metrics()


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_every_alert_and_panel_names_metrics_and_labels_that_exist(expression):
    """So that none is blind."""
    named = re.findall(r"\b(up|(?:node2dm|process)_\w+)(?:\{([^}]*)\})?", expression)
    assert named
    for metric, selector in named:
        assert metric in METRICS or metric in FOREIGN
        for label, value in re.findall(r'(\w+)=~?"([^"]*)"', selector):
            assert label in METRICS.get(metric, {"instance", "job"})
            if label == "state":
                assert value in STATES
            if label == "outcome":
                (_, _, lines) = LABELLED[metric.removeprefix("node2dm_").removesuffix("_total")]
                assert set(value.split("|")) <= lines.keys()


def test_the_variables_of_the_dashboard_exist():
    """Each is made of a metric and used, and no other is used."""
    names = {variable["name"] for variable in DASHBOARD["templating"]["list"]}
    used = set(re.findall(r"\$\{?(\w+)", json.dumps(PANELS)))
    assert used == names | {"__rate_interval"}
    for variable in DASHBOARD["templating"]["list"]:
        for metric, label in re.findall(r"label_values\((\w+), (\w+)\)", str(variable)):
            assert label in METRICS[metric]


def test_no_panel_lies_upon_another():
    """Each has its place in the grid."""
    taken = set()
    for panel in DASHBOARD["panels"]:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken
        taken |= cells


def test_promtool_finds_no_fault():
    """The rules are rules."""
    done = subprocess.run(
        [tool("promtool"), "check", "rules", RULES], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{len(ALERTS)} rules found" in done.stdout


def one(name, values, **labels):
    """A series of one value a minute, in promtool's notation."""
    named = {"instance": "gw:1", "job": "node2dm", **labels}
    pairs = ",".join(f'{label}="{value}"' for label, value in named.items())
    return {"series": f"{name}{{{pairs}}}", "values": values}


def ended(outcome, values):
    return one("node2dm_messages_ended_total", values, route="shop", outcome=outcome)


def client_errors(values):
    return one("node2dm_answers_client_error_total", values, route="shop")


QUEUE = "node2dm_queue"
LATENCY = "node2dm_upstream_latency_seconds_bucket"
ANSWERS = one("node2dm_upstream_latency_seconds_count", "0+1000x60", route="shop")
GOES_OFF = {
    "Node2dmDown": [one("up", "0x60")],
    "Node2dmRestarts": [one("process_start_time_seconds", "0+60x60")],
    "Node2dmNotReady": [one("node2dm_ready", "0x60")],
    "Node2dmRouteLocked": [one("node2dm_route_state", "1x60", route="shop", state="locked")],
    "Node2dmSignedOut": [one("node2dm_signed_in", "0x60", route="shop")],
    "Node2dmPaused": [one("node2dm_paused", "1x60", route="shop")],
    "Node2dmQueueFills": [
        one(f"{QUEUE}_messages", "60x60", route="shop"),
        one(f"{QUEUE}_limit_messages", "100x60", route="shop"),
    ],
    "Node2dmPushesLate": [one(f"{QUEUE}_oldest_age_seconds", "601x60", route="shop")],
    "Node2dmPushesDropped": [ended("expired", "0x55 1x5")],
    "Node2dmRefused": [ended("sent", "0+90x60"), ended("refused", "0+2x60")],
    "Node2dmBadDevices": [ended("sent", "0+70x60"), ended("bad_device", "0+30x60")],
    "Node2dmClientErrorRate": [ANSWERS, client_errors("0+51x60")],
    "Node2dmBadDeviceAlarm": [one("node2dm_bad_device_alarm", "1x60", route="shop")],
    "Node2dmDatagramsLost": [one("node2dm_udp_datagrams_dropped_total", "0x55 7x5")],
    "Node2dmInvalidPushes": [one("node2dm_messages_invalid_total", "0+1x60", reason="colons")],
    "Node2dmUpstreamSlow": [
        one(LATENCY, "0+50x60", route="shop", le="5.0"),
        one(LATENCY, "0+60x60", route="shop", le="10.0"),
        one(LATENCY, "0+60x60", route="shop", le="+Inf"),
    ],
    "Node2dmNoAnswers": [one("node2dm_requests_failed_total", "0+10x60", route="shop")],
    "Node2dmCallbacksLost": [
        one("node2dm_callbacks_total", "0x55 1x5", route="shop", outcome="failed")
    ],
    "Node2dmOutcomesLost": [one("node2dm_outcome_records_dropped_total", "0x55 7x5")],
}
"""For each alert, an hour in which it goes off."""

HEALTHY = [
    one("up", "1x60"),
    one("process_start_time_seconds", "1x60"),
    one("node2dm_ready", "1x60"),
    *(one("node2dm_route_state", f"{int(s == 'ready')}x60", route="shop", state=s) for s in STATES),
    one("node2dm_signed_in", "1x60", route="shop"),
    one("node2dm_paused", "1x10 0x50", route="shop"),
    one(f"{QUEUE}_messages", "40x60", route="shop"),
    one(f"{QUEUE}_limit_messages", "100x60", route="shop"),
    one(f"{QUEUE}_oldest_age_seconds", "5x60", route="shop"),
    ended("sent", "0+1000x60"),
    ended("refused", "0+1x60"),
    ended("bad_device", "0+10x60"),
    ended("expired", "3x60"),
    ANSWERS,
    client_errors("0+49x60"),
    one("node2dm_bad_device_alarm", "0x60", route="shop"),
    one("node2dm_udp_datagrams_dropped_total", "5x60"),
    one("node2dm_messages_invalid_total", "5x60", reason="colons"),
    one(LATENCY, "0+60x60", route="shop", le="0.5"),
    one(LATENCY, "0+60x60", route="shop", le="+Inf"),
    one("node2dm_requests_failed_total", "0+1x60", route="shop"),
    one("node2dm_callbacks_total", "1x60", route="shop", outcome="failed"),
    one("node2dm_outcome_records_dropped_total", "5x60"),
]
"""An hour in which a gateway is well."""


def hour(series, alert, *, off):
    """Ask promtool whether an alert is on after an hour of these series."""
    return {
        "interval": "1m",
        "input_series": series,
        "promql_expr_test": [
            {
                "expr": f'count(ALERTS{{alertname="{alert}",alertstate="firing"}}) or vector(0)',
                "eval_time": "60m",
                "exp_samples": [{"labels": "{}", "value": int(off)}],
            }
        ],
    }


def run_promtool(tests, tmp_path):
    """Run promtool's tests of the rules."""
    file = tmp_path / "test.yml"
    content = {"rule_files": [str(RULES)], "evaluation_interval": "1m", "tests": tests}
    file.write_text(json.dumps(content), encoding="utf-8")
    done = subprocess.run(
        [tool("promtool"), "test", "rules", file], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_alert_goes_off_when_it_should_and_only_then(tmp_path):
    """Each in an hour of its own; none of them in an hour in which all is well."""
    assert GOES_OFF.keys() == {alert["alert"] for alert in ALERTS}
    tests = [hour(series, alert, off=True) for alert, series in GOES_OFF.items()]
    tests += [hour(HEALTHY, alert, off=False) for alert in GOES_OFF]
    run_promtool(tests, tmp_path)


@pytest.mark.parametrize(("minutes", "found"), [(6, True), (4, False)])
def test_five_minutes_a_day_of_high_use_are_found(tmp_path, minutes, found):
    """By the expression in docs/rates.md."""
    page = (ROOT / "docs/rates.md").read_text(encoding="utf-8")
    (expression,) = re.findall(r"```promql\n(.*?)\n```", page, re.DOTALL)
    use = f"0x99 0.81x{minutes - 1} 0x600"
    run_promtool(
        [
            {
                "interval": "1m",
                "input_series": [one("node2dm_project_rate_used_ratio", use, route="fcm")],
                "promql_expr_test": [
                    {
                        "expr": f"count({expression}) or vector(0)",
                        "eval_time": "690m",
                        "exp_samples": [{"labels": "{}", "value": int(found)}],
                    }
                ],
            }
        ],
        tmp_path,
    )
