"""The lines of the stats: names, order, totals, and the forms in which they are rendered."""

import json

import attrs
import pytest

from node2dm_tw.admin.lines import ORDER, StatsLines, make_lines
from node2dm_tw.core.snapshot import LaneState, MemoryUse
from node2dm_tw.core.stats import COUNTERS
from tests.support.gateway import NODE2DM_LINES
from tests.unit.admin.support import PROCESS, route, snapshot

FULL = route(
    token_age=10,
    token_left=20,
    renewal_error="BadAuthentication",
    state="paused",
    state_reason="503",
    bad_device_alarm=False,
    project_rate_used=0.5,
    state_advice="restart",
    queue_writable=True,
)


def lines_of(**routes):
    return make_lines(snapshot(**{name: route(**values) for name, values in routes.items()}))


def test_node2dms_lines_come_first_in_its_order():
    """Then ours in the order of the reference, then what is not in it."""
    names = list(make_lines(snapshot(shop=FULL)).totals)
    assert names[: len(NODE2DM_LINES)] == NODE2DM_LINES
    assert names == [*ORDER, *(name for name in names if name not in ORDER)]


def test_each_value_of_a_route_has_the_name_of_its_field():
    """Counters, their sum and their reasons, then gauges; lists and histograms have no lines."""
    lines = make_lines(snapshot(shop=attrs.evolve(FULL, refused_reasons={"TooBig": 2})))
    names = list(lines.routes["shop"])
    first = [*COUNTERS, "total_errors", "messages_refused.TooBig"]
    assert names[: len(first)] == first
    apart = {"refused_reasons", "upstream_latency", "queue_age", "errors", "blocked"}
    fields = [field.name for field in attrs.fields(type(FULL)) if field.name not in apart]
    assert names[len(first) :] == fields[len(COUNTERS) :]
    values = {**attrs.asdict(FULL, recurse=False), "state": "paused"}
    assert all(lines.routes["shop"][name] == values[name] for name in fields)


def test_totals_are_sums_over_the_routes():
    """Of counters and of gauges that can be added."""
    shop = {name: number for number, name in enumerate(COUNTERS)}
    totals = lines_of(
        shop={**shop, "messages_in_queue": 3},
        news={**dict.fromkeys(COUNTERS, 100), "messages_in_queue": 4},
    ).totals
    assert {name: totals[name] for name in COUNTERS} == {
        name: 100 + number for number, name in enumerate(COUNTERS)
    }
    assert totals["messages_in_queue"] == 7


def test_without_a_c2dm_route_all_of_them_are_signed_in():
    """node2dm's lines are always there, token_age alone goes."""
    totals = lines_of(shop={"logged_in_to_c2dm": None}).totals
    assert totals["logged_in_to_c2dm"] is True
    assert [name for name in NODE2DM_LINES if name not in totals] == ["token_age"]


@pytest.mark.parametrize(
    ("name", "shop", "news", "total"),
    [
        ("backing_off", False, True, True),
        ("backing_off", False, False, False),
        ("logged_in_to_c2dm", True, False, False),
        ("logged_in_to_c2dm", True, True, True),
        ("token_age", 5, 7, 7),
        ("token_age", None, 7, 7),
        ("token_age", None, None, None),
        ("token_left", 5, 7, 5),
        ("oldest_age", 1.5, 0.0, 1.5),
        ("project_rate_used", 0.25, 0.5, 0.5),
        ("project_rate_used", 0.25, None, 0.25),
        ("project_rate_used", None, None, None),
        ("http_client", "treq", "curl", "curl, treq"),
        ("http_client", "treq", "treq", "treq"),
    ],
)
def test_what_cannot_be_added_is_merged_by_its_meaning(name, shop, news, total):
    """Any route, every route, the oldest, or each once; None leaves the line out."""
    lines = lines_of(shop={name: shop}, news={name: news})
    assert lines.totals.get(name) == total
    assert (name in lines.totals) == (total is not None)
    assert (name in lines.routes["shop"]) == (shop is not None)


def test_the_words_of_a_route_are_not_in_the_totals():
    """They are true of that route alone."""
    lines = make_lines(snapshot(shop=FULL))
    words = {"state", "state_reason", "state_advice", "renewal_error"}
    assert words <= lines.routes["shop"].keys()
    assert not words & lines.totals.keys()


def test_total_errors():
    """Refused, bad devices, quota answers and network failures; nothing else is an error."""
    errors = {
        "messages_refused": 1,
        "messages_bad_device": 1,
        "quota_answers": 20,
        "network_failures": 300,
    }
    others = {"messages_expired": 9, "messages_blocked": 9, "messages_ambiguous": 9}
    assert lines_of(shop={**errors, **others}).totals["total_errors"] == 322


def test_reasons_are_counted_apart():
    """Those of the upstream for each route, those of the intake for the process."""
    shop = route(messages_refused=2, refused_reasons={"MessageTooBig": 2})
    totals = make_lines(attrs.evolve(snapshot(shop=shop), invalid={"colons": 2, "json": 1})).totals
    assert totals["messages_refused"] == totals["messages_refused.MessageTooBig"] == 2
    assert totals["messages_invalid"] == 3
    assert (totals["messages_invalid.colons"], totals["messages_invalid.json"]) == (2, 1)


def test_what_only_the_process_has():
    """Under node2dm's names where it had them."""
    process = attrs.evolve(PROCESS, memory=MemoryUse(rss=3, heap_total=2, heap_used=1), uptime=61)
    totals = make_lines(process).totals
    assert (totals["memory_rss"], totals["memory_heapTotal"], totals["memory_heapUsed"]) == (
        3,
        2,
        1,
    )
    assert (totals["uptime"], totals["version"]) == (61, "1.2")
    assert (totals["rcvbuf"], totals["max_queued_bytes"]) == (4_096, 1_000_000)


def test_every_state_has_a_word():
    """The same in every view."""
    words = [lines_of(shop={"state": state.value}).routes["shop"]["state"] for state in LaneState]
    assert words == ["signed out", "signing in", "ready", "paused", "locked"]


def test_as_text():
    """Totals first, then each route under its name; booleans in small letters."""
    text = lines_of(shop={}, news={}).as_text()
    assert text[0] == "uptime: 3 seconds"
    assert text[3] == "backing_off: false"
    assert "version: 1.2" in text
    assert "shop.logged_in_to_c2dm: true" in text
    assert "news.window: 8" in text
    assert all(": " in line and "\n" not in line for line in text)


def test_as_json():
    """On one line of ASCII without controls, whatever the values hold."""
    lines = StatsLines({"version": "1\n\x7f\u2028"}, {"shop": {"signed_in": True}})
    assert lines.as_json() == (
        b'{"totals":{"version":"1\\n\\u007f\\u2028"},"routes":{"shop":{"signed_in":true}}}'
    )
    assert json.loads(lines.as_json()) == attrs.asdict(lines)
