"""Readiness, the watchdog, and the states in words."""

import attrs
import pytest
from twisted.internet.task import Clock
from twisted.logger import capturedLogs, formatEvent

from node2dm_tw.admin.health import STALL_SECONDS, Health, Phase, describe, duration
from tests.unit.admin.support import route, snapshot


class Bench:
    """A health with its clock."""

    def __init__(self, phase=Phase.RUNNING):
        self.clock = Clock()
        self.health = Health(self.clock.seconds, phase)

    def look(self, route_name=None, **routes):
        return self.health.report(snapshot(**routes), route_name)

    def watch(self, seconds, **routes):
        for _ in range(seconds):
            self.clock.advance(1)
            self.health.watch(snapshot(**routes))


@pytest.mark.parametrize("phase", [Phase.STARTING, Phase.DRAINING])
def test_a_process_that_starts_or_drains_is_not_ready(phase):
    """And says which of the two."""
    assert Bench(phase).look(shop=route()).reasons == (phase.value,)


def test_no_route_ever_signed_in():
    """One that did is enough, also when it is signed out later."""
    bench = Bench()
    out = route(signed_in=False, state="signing in")
    assert bench.look(shop=out, news=out).reasons == ("no route has signed in yet",)
    assert bench.look(shop=out, news=route()).is_ready
    assert bench.look(shop=out, news=out).is_ready


def test_a_sign_in_between_two_questions_is_remembered():
    """The watchdog saw it."""
    bench = Bench()
    bench.watch(1, shop=route())
    assert bench.look(shop=route(signed_in=False, state="signing in")).is_ready


@pytest.mark.parametrize(("depth", "ready"), [(80, True), (81, False)])
def test_a_queue_above_four_fifths(depth, ready):
    """Says how full it is."""
    report = Bench().look(shop=route(messages_in_queue=depth), news=route())
    assert report.is_ready == ready
    assert report.reasons == (() if ready else ("shop: the queue is 81% full",))


def test_a_queue_that_cannot_be_written():
    """Its engine says so, where it has one that can fail."""
    assert Bench().look(shop=route(queue_writable=True)).is_ready
    report = Bench().look(shop=route(queue_writable=False))
    assert report.reasons == ("shop: the queue cannot be written",)


def test_a_stall_is_reported_after_a_minute_and_logged_once():
    """Pushes wait, nothing is in their way, and none ends."""
    bench, stuck = Bench(), route(messages_in_queue=3)
    with capturedLogs() as events:
        bench.watch(1 + int(STALL_SECONDS) - 1, shop=stuck)
        assert bench.look(shop=stuck).is_ready
        bench.watch(100, shop=stuck)
        assert bench.look(shop=stuck).reasons == (
            "shop: 3 pushes wait and none has ended for 60 s",
        )
        bench.watch(2, shop=route(messages_in_queue=2, messages_sent=5))
        assert bench.look(shop=attrs.evolve(stuck, messages_sent=5)).is_ready
    assert [formatEvent(event) for event in events] == [
        "shop: 3 pushes wait and none has ended for 60 s",
        "shop: sending resumed",
    ]


@pytest.mark.parametrize(
    "values",
    [
        {"messages_in_queue": 0},
        {"messages_in_queue": 3, "messages_waiting": 3},
        {"messages_in_queue": 3, "state": "paused", "pause_left": 5.0},
        {"messages_in_queue": 3, "state": "ready", "pause_left": 5.0},
        {"messages_in_queue": 3, "state": "signing in"},
        {"messages_in_queue": 3, "state": "locked"},
    ],
)
def test_what_is_no_stall(values):
    """Nothing waits, all sleep, or the upstream's outage holds them up: the gateway queues."""
    bench = Bench()
    bench.watch(300, shop=route(**values))
    assert bench.look(shop=route(**values)).is_ready


def test_tries_that_fail_are_no_stall():
    """The lane does what it can."""
    bench = Bench()
    for failures in range(5):
        bench.watch(50, shop=route(messages_in_queue=3, network_failures=failures))
    assert bench.look(shop=route(messages_in_queue=3, network_failures=4)).is_ready


def test_a_pause_whose_end_is_over_counts_for_the_watchdog():
    """A timer that was lost is a stall too."""
    bench = Bench()
    values = route(messages_in_queue=3, state="paused", pause_left=0.0)
    bench.watch(62, shop=values)
    assert not bench.look(shop=values).is_ready


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"state": "ready"}, None),
        ({"state": "paused", "pause_left": 42.0, "state_reason": "503"}, "paused 42 s more: 503"),
        ({"state": "signing in", "signed_in": False}, "signing in"),
        ({"state": "locked", "state_reason": "QuotaExceeded"}, "locked: QuotaExceeded"),
    ],
)
def test_a_route_that_is_asked_for_counts_with_its_own_state(values, reason):
    """The others, and an outage when nobody asks for the route, do not."""
    bench = Bench()
    bench.look(shop=route())
    routes = {"shop": route(**values), "news": route(state="paused", pause_left=9.0)}
    assert bench.look(**routes).is_ready
    assert bench.look("shop", **routes).reasons == ((f"shop: {reason}",) if reason else ())


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({}, "ready"),
        ({"messages_in_queue": 1}, "sending"),
        (
            {"state": "paused", "pause_left": 42.4, "state_reason": "503, Retry-After"},
            "paused 42 s more: 503, Retry-After",
        ),
        ({"state": "signed out"}, "signed out"),
        ({"state": "signing in", "state_reason": "BadAuthentication"}, "signing in: BadAuthe"),
    ],
)
def test_states_in_words(values, words):
    """As the page, telnet and /readyz say them."""
    assert describe(route(**values)).startswith(words)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"),
        (59.4, "59 s"),
        (60, "1 min"),
        (61, "1 min 1 s"),
        (3_600, "1 h"),
        (7_380, "2 h 3 min"),
        (86_400, "1 d"),
        (200_000, "2 d 7 h"),
    ],
)
def test_durations(seconds, text):
    """In one unit or two."""
    assert duration(seconds) == text


READY, PAUSED = route(), route(state="paused", pause_left=9.0)
HELD_BACK = route(bad_device_alarm=True)
FULL = route(messages_in_queue=90)
LOCKED = route(state="locked", state_reason="QuotaExceeded", state_advice="delete the file")


@pytest.mark.parametrize(
    ("routes", "condition", "text"),
    [
        ([READY, READY], "ready", "ready"),
        ([READY, route(state="signing in")], "signing in", "r1: signing in"),
        ([PAUSED, route(state="signing in")], "paused", "r0: paused"),
        ([PAUSED, HELD_BACK], "callbacks held back", "r1: callbacks held back"),
        (
            [attrs.evolve(PAUSED, bad_device_alarm=True)],
            "callbacks held back",
            "callbacks held back",
        ),
        ([HELD_BACK, FULL, READY], "not ready", "r1: not ready"),
        ([FULL, LOCKED, READY, LOCKED, LOCKED], "locked", "r1 and 2 more: locked"),
        ([LOCKED, LOCKED], "locked", "locked"),
    ],
)
def test_the_worst_route_is_named(routes, condition, text):
    """With how many others are in the same condition; without a name where all are."""
    report = Bench().look(**{f"r{number}": values for number, values in enumerate(routes)})
    assert (report.worst.condition, report.worst.text) == (condition, text)


@pytest.mark.parametrize("phase", [Phase.STARTING, Phase.DRAINING])
def test_a_process_that_starts_or_drains_comes_before_its_routes(phase):
    """They are about to change."""
    worst = Bench(phase).look(shop=LOCKED).worst
    assert (worst.condition, worst.text) == ("paused", phase.value)


@pytest.mark.parametrize(
    ("values", "notices"),
    [
        (READY, []),
        (PAUSED, []),
        (LOCKED, [("locked", "shop: locked (QuotaExceeded): delete the file")]),
        (
            HELD_BACK,
            [
                (
                    "callbacks held back",
                    "shop: most answers blame devices, so callbacks are held back:"
                    " check that project and key are the right ones, and that no move from tokens"
                    " to fids is half done",
                )
            ],
        ),
        (
            route(renewal_error="BadAuthentication", token_left=7_380),
            [
                (
                    "paused",
                    "shop: the token cannot be renewed (BadAuthentication);"
                    " the present one is good for 2 h 3 min more: check the account",
                )
            ],
        ),
        (
            route(renewal_error="no answer", token_left=0),
            [
                (
                    "paused",
                    "shop: the token cannot be renewed (no answer);"
                    " the present one has expired: check the account",
                )
            ],
        ),
    ],
)
def test_what_a_person_should_know_or_do(values, notices):
    """One sentence each; none of it alone makes the gateway unready."""
    report = Bench().look(shop=values)
    assert [(notice.condition, notice.text) for notice in report.notices] == notices
    assert report.is_ready


def test_the_worst_is_told_first():
    """Whatever the order of the routes."""
    report = Bench().look(a=route(renewal_error="x", token_left=5), b=HELD_BACK, c=LOCKED)
    assert [notice.text[0] for notice in report.notices] == ["c", "b", "a"]


def test_the_report_as_text_and_json():
    """The same things said."""
    report = Bench(Phase.DRAINING).look(shop=LOCKED)
    notice = "shop: locked (QuotaExceeded): delete the file"
    words = "locked: QuotaExceeded"
    assert report.as_text() == ["not ready: draining", f"shop: {words}", f"notice: {notice}"]
    assert report.as_json() == {
        "ready": False,
        "reasons": ["draining"],
        "routes": {"shop": words},
        "conditions": {"shop": "locked"},
        "worst": {"condition": "paused", "text": "draining"},
        "notices": [{"condition": "locked", "text": notice}],
    }
