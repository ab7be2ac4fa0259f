"""The counters, and the snapshot that every view renders."""

import pytest

from node2dm_tw.core.stats import COUNTERS, ORDER, TERMINAL_COUNTERS, RouteStats, Stats, as_text
from tests.support.gateway import NODE2DM_LINES

GAUGES = {
    "messages_in_queue": 3,
    "backing_off": False,
    "rate_limited_tokens": 2,
    "logged_in_to_c2dm": True,
    "token_age": 10,
    "http_client": "treq",
    "handshakes": 1,
    "reconnects": 0,
    "window": 8,
}


class Now:
    """A clock that stands still unless told."""

    def __init__(self):
        self.seconds = 1_000.0

    def __call__(self):
        return self.seconds


def gauges(**values):
    return {name: (lambda value=value: value) for name, value in {**GAUGES, **values}.items()}


def make(**routes):
    stats = Stats(Now(), "1.2")
    for name, values in routes.items():
        stats.add_route(name).gauges |= gauges(**values)
    stats.gauges |= {"udp_dropped": lambda: 0, "rcvbuf": lambda: 4_096}
    stats.gauges["callbacks_waiting"] = lambda: 0
    return stats


def test_node2dms_lines_come_first_in_its_order():
    """Then ours in the order of the reference, then what is not in it."""
    names = list(make(shop={}).snapshot()["totals"])
    assert names[: len(NODE2DM_LINES)] == NODE2DM_LINES
    assert names == [*ORDER, *(name for name in names if name not in ORDER)]


def test_every_counter_is_in_the_snapshot_of_route_and_total():
    """And each is at 0 to begin with."""
    snapshot = make(shop={}).snapshot()
    for name in COUNTERS:
        assert snapshot["totals"][name] == snapshot["routes"]["shop"][name] == 0


def test_totals_are_sums_over_the_routes():
    """Of counters and of gauges that can be added."""
    stats = make(shop={}, news={"messages_in_queue": 4})
    for number, name in enumerate(COUNTERS):
        setattr(stats.routes["shop"], name, number)
        setattr(stats.routes["news"], name, 100)
    totals = stats.snapshot()["totals"]
    assert {name: totals[name] for name in COUNTERS} == {
        name: 100 + number for number, name in enumerate(COUNTERS)
    }
    assert totals["messages_in_queue"] == 7


def test_without_a_c2dm_route_all_of_them_are_signed_in():
    """node2dm's lines are always there, token_age alone goes."""
    stats = Stats(lambda: 0.0, "1")
    assert stats.snapshot()["totals"]["logged_in_to_c2dm"] is True


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
        ("http_client", "treq", "curl", "curl, treq"),
        ("http_client", "treq", "treq", "treq"),
    ],
)
def test_what_cannot_be_added_is_merged_by_its_meaning(name, shop, news, total):
    """Any route, every route, the oldest, or each once; None leaves the line out."""
    snapshot = make(shop={name: shop}, news={name: news}).snapshot()
    assert snapshot["totals"].get(name) == total
    assert (name in snapshot["totals"]) == (total is not None)
    assert (name in snapshot["routes"]["shop"]) == (shop is not None)


def test_total_errors():
    """Refused, bad devices, quota answers and network failures; nothing else is an error."""
    stats = make(shop={})
    route = stats.routes["shop"]
    route.messages_bad_device, route.quota_answers, route.network_failures = 1, 20, 300
    route.refuse("MessageTooBig")
    route.messages_expired = route.messages_blocked = route.messages_ambiguous = 9
    assert stats.snapshot()["totals"]["total_errors"] == 322


def test_reasons_are_counted_apart():
    """Those of the upstream for each route, those of the intake for the process."""
    stats = make(shop={})
    stats.routes["shop"].refuse("MessageTooBig")
    stats.routes["shop"].refuse("MessageTooBig")
    stats.invalid["colons"] += 3
    totals = stats.snapshot()["totals"]
    assert totals["messages_refused"] == totals["messages_refused.MessageTooBig"] == 2
    assert totals["messages_invalid"] == totals["messages_invalid.colons"] == 3


def test_an_upstream_cannot_fill_the_memory_with_reasons():
    """The hundredth and later words are `other`; nothing is lost from the sum."""
    route = RouteStats()
    for number in range(1_000):
        route.refuse(f"reason{number}")
    route.refuse("reason5")
    assert len(route.refused_reasons) == 100
    assert route.refused_reasons["other"] == 901
    assert route.refused_reasons["reason5"] == 2
    assert route.refused_reasons.total() == route.messages_refused == 1_001


def test_uptime_is_whole_seconds():
    """Of the monotonic clock, since the counters were made."""
    stats = make(shop={})
    stats.seconds.seconds += 61.9
    assert stats.snapshot()["totals"]["uptime"] == 61


def test_memory_is_in_bytes():
    """Of this process: what is resident, and of the heap what is held and what is in use."""
    totals = make(shop={}).snapshot()["totals"]
    assert 1 << 20 < totals["memory_rss"] < 1 << 40
    assert 0 < totals["memory_heapUsed"] <= totals["memory_heapTotal"]


def test_as_text():
    """Totals first, then each route under its name; booleans in small letters."""
    text = as_text(make(shop={}, news={}).snapshot())
    assert text[0] == "uptime: 0 seconds"
    assert text[3] == "backing_off: false"
    assert "version: 1.2" in text
    assert "shop.logged_in_to_c2dm: true" in text
    assert "news.window: 8" in text
    assert all(": " in line and "\n" not in line for line in text)


def test_every_push_ends_in_one_of_the_endings():
    """They are counters, each once."""
    assert set(TERMINAL_COUNTERS) < set(COUNTERS)
    assert len(set(TERMINAL_COUNTERS)) == len(TERMINAL_COUNTERS)
