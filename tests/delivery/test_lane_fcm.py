"""The lane, with FCM's answers: how long it waits, and what a second 401 means."""

import json

import pytest

from node2dm_tw.http.interface import NotSent
from node2dm_tw.providers.fcm import FCM
from node2dm_tw.push import read_json
from tests.doubles import Bench, bench

SERVICE = FCM("http://upstream/v1/projects/p/messages:send")
GOOD = b'{"name": "projects/p/messages/1"}'


def fcm_bench(folder, **more) -> Bench:
    """A lane that sends to FCM, started."""
    made = bench(folder, **more)
    made.lane.provider = SERVICE
    made.lane.start()
    return made


@pytest.fixture
def lane(tmp_path) -> Bench:
    return fcm_bench(tmp_path)


def first_try_after(lane: Bench, longest: float) -> float:
    """Let time pass until something is sent; say how long that took."""
    begun, sent = lane.clock.seconds(), len(lane.http.posted)
    while len(lane.http.posted) == sent:
        lane.advance(0.25)
        assert lane.clock.seconds() - begun <= longest
    return lane.clock.seconds() - begun


@pytest.mark.parametrize("jitter", [0.0, 0.5, 1.0 - 2**-53])
def test_a_push_that_failed_alone_waits_ten_seconds_or_more(lane, jitter):
    """10 s doubling, jitter upward; fresh pushes pass it."""
    lane.lane.random = lambda: jitter
    lane.push(b"sleeper:k:{}")
    for whole in (20.0, 40.0, 80.0):
        lane.http.waiting()[0].say(500, b"")
        lane.push(b"fresh:k:{}")
        lane.http.waiting()[0].say(200, GOOD)
        waited = first_try_after(lane, whole)
        assert whole / 2 <= waited <= whole
        assert waited == pytest.approx(whole * (0.5 + jitter / 2), abs=0.25)
    assert lane.stats.messages_sent == 3


def test_a_push_without_an_answer_waits_as_long(lane):
    """What FCM asks for holds for connections that fail, too."""
    lane.push(b"sleeper:k:{}")
    lane.http.waiting()[0].fail(NotSent("refused"))
    assert first_try_after(lane, 20) >= 10


def test_unavailable_pauses_for_ten_seconds_doubling(lane):
    """Unless the answer names its own time."""
    lane.push_many(8)
    for pause in (20, 40, 80):
        lane.answer_all(503, b"")
        assert round(lane.lane.session.pause_left) == pause
        lane.advance(pause)
    lane.answer_all(503, b"", Retry_After="3")
    assert lane.lane.session.pause_left == 3


def test_over_quota_pauses_for_a_minute(lane):
    """Where no time is named, and without a lock: a rate is no stop."""
    lane.push_many(1)
    lane.answer_all(429, b"")
    assert lane.lane.session.pause_left == 60
    assert not lane.locked


def test_a_token_that_has_ended_is_one_sign_in(lane):
    """However many pushes met it; each goes again and none is lost."""
    lane.push_many(1)
    lane.answer_all(200, GOOD)
    lane.push_many(9)
    lane.answer_all(401, b"")
    lane.advance(1)
    assert lane.credentials.fetches == 2
    while lane.queue.depth:
        lane.answer_all(200, GOOD)
    assert lane.stats.messages_sent == 10


def test_a_push_that_is_refused_with_a_new_token_too_pauses_the_lane(lane):
    """One probe a minute, no further sign-in, the push kept, and the reason told."""
    lane.push_many(1)
    lane.answer_all(401, b"")
    lane.advance(1)
    assert lane.credentials.fetches == 2
    for _ in range(30):
        assert lane.answer_all(401, b"") == 1
        assert lane.lane.session.pause_left == 60
        assert lane.lane.session.reason.startswith("401")
        lane.advance(60)
    assert lane.credentials.fetches == 2
    assert not lane.locked
    lane.answer_all(200, GOOD)
    assert lane.stats.messages_sent == 1


def test_refusals_never_give_up_signing_in(tmp_path):
    """A day of 401 for every push: no storm, no lock, and each push ends by its age."""
    lane = fcm_bench(tmp_path, max_age=3_600)
    for _ in range(24 * 60):
        lane.push_many(1)
        lane.answer_all(401, b"")
        lane.advance(60, step=5)
    assert not lane.locked
    assert lane.credentials.fetches == 2
    assert lane.stats.messages_expired >= 23 * 60


def test_a_push_that_alone_is_refused_brings_one_sign_in(lane):
    """Others are sent with both tokens; the second refusal pauses the lane and says why."""
    lane.push_many(1)
    lane.answer_all(200, GOOD)
    lane.push(b"poison:k:{}", b"good:k:{}")
    for _ in range(5):
        for posted in lane.http.waiting():
            is_poison = b"poison" in posted.body
            posted.say(*((401, b"") if is_poison else (200, GOOD)))
        lane.advance(60)
    assert lane.credentials.fetches == 2
    assert lane.stats.messages_sent == 2
    assert lane.lane.session.reason.startswith("401")


@pytest.mark.parametrize("status", [403, 404])
def test_our_configuration_keeps_every_push(lane, status):
    """One probe a minute until it is right; no device is reported."""
    lane.push_many(20)
    for _ in range(10):
        lane.answer_all(status, b"<html>")
        lane.advance(60)
        assert len(lane.http.waiting()) == 1
    assert not lane.bad_devices
    assert lane.queue.depth == 20
    while lane.queue.depth:
        lane.answer_all(200, GOOD)
    assert lane.stats.messages_sent == 20


def test_the_ttl_sent_is_what_is_left_when_it_is_sent(lane):
    """A push that slept says so."""
    _, push = read_json(b'{"token": "t", "ttl": 60}', lane.clock.seconds())
    lane.stats.messages_received += 1
    lane.queue.put([push])
    lane.http.waiting()[0].say(500, b"")
    waited = first_try_after(lane, 20)
    ttls = [json.loads(p.body)["message"]["android"]["ttl"] for p in lane.http.posted]
    assert ttls == ["60s", f"{60 - waited:.0f}s"]
