"""The lane, with FCM's answers: how long it waits, and what a second 401 means."""

import json

import pytest

from node2dm_tw.core.json_form import read_json
from node2dm_tw.http.interface import NotSent
from node2dm_tw.providers.fcm import FCM
from tests.support.doubles import Bench, bench

SERVICE = FCM("http://upstream/v1/projects/p/messages:send", lambda: 0.0)
GOOD = b'{"name": "projects/p/messages/1"}'


def fcm_bench(folder, **more) -> Bench:
    """A lane that sends to FCM, started."""
    made = bench(folder, provider=SERVICE, **more)
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
def test_a_push_that_failed_alone_waits_ten_seconds_or_more(tmp_path, jitter):
    """10 s doubling, jitter upward; fresh pushes pass it."""
    lane = fcm_bench(tmp_path, random=lambda: jitter)
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
    lane.push_many(1)
    for pause in (20, 40, 80):
        lane.answer_all(503, b"")
        assert round(lane.lane.session.breaker.pause_left) == pause
        lane.advance(pause)
    lane.answer_all(503, b"", Retry_After="3")
    assert lane.lane.session.breaker.pause_left == 3


def test_over_quota_pauses_for_a_minute(lane):
    """Where no time is named, and without a lock: a rate is no stop."""
    lane.push_many(1)
    lane.answer_all(429, b"")
    assert lane.lane.session.breaker.pause_left == 60
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


@pytest.mark.parametrize("status", [403, 404])
def test_a_misconfigured_route_keeps_every_push(lane, status):
    """It pauses at the fifth push, probes once a minute until it is right, and blames no device."""
    lane.push_many(20)
    for _ in range(5):
        assert lane.lane.session.breaker.pause_left == 0
        lane.http.waiting()[0].say(status, b"<html>")
    while lane.http.waiting():
        lane.answer_all(status, b"<html>")
    for _ in range(10):
        assert lane.lane.session.breaker.pause_left == 60
        lane.advance(59.75)
        assert not lane.http.waiting()
        lane.advance(0.25)
        assert lane.answer_all(status, b"<html>") == 1
    assert not lane.bad_devices
    assert lane.queue.depth == 20
    lane.advance(60)
    while lane.queue.depth:
        if not lane.answer_all(200, GOOD):
            lane.advance(10)
    assert lane.stats.messages_sent == 20


def test_a_topic_over_its_quota_waits_alone(lane):
    """Other targets are sent to meanwhile; then one push to the topic goes ahead of the others."""
    topic = [b'{"topic": "news", "data": "%d"}' % number for number in range(20)]
    lane.push_json(*topic)
    for posted in lane.http.waiting():
        posted.say(429, b'{"error": {"message": "Topic quota exceeded."}}')
    while lane.http.waiting():
        lane.answer_all(429, b"")
    assert lane.lane.session.breaker.pause_left == 0
    lane.push_many(30)
    while lane.http.waiting():
        lane.answer_all(200, GOOD)
    assert lane.stats.messages_sent == 30
    lane.http.posted.clear()
    lane.advance(59.75)
    assert not lane.http.posted
    lane.advance(0.5)
    assert len(lane.http.waiting()) == 1
    while lane.queue.depth:
        lane.answer_all(200, GOOD)
    assert lane.stats.messages_sent == 50


def test_the_ttl_sent_is_what_is_left_when_it_is_sent(lane):
    """A push that slept says so."""
    _, push = read_json(b'{"token": "t", "ttl": 60}', lane.clock.seconds())
    lane.stats.messages_received += 1
    lane.queue.put([push])
    lane.http.waiting()[0].say(500, b"")
    waited = first_try_after(lane, 20)
    ttls = [json.loads(p.body)["message"]["android"]["ttl"] for p in lane.http.posted]
    assert ttls == ["60s", f"{60 - waited:.0f}s"]


def subscription(number: int, verb: str = "subscribe") -> bytes:
    return json.dumps({verb: "news", "token": f"device{number}"}).encode()


def test_subscriptions_are_counted_and_settled_as_pushes(lane):
    """Done is sent; a gone device is reported; what fails is sent again."""
    lane.push_json(subscription(1), subscription(2, "unsubscribe"), subscription(3))
    first, second, third = lane.http.waiting()
    assert first.url.startswith("http://upstream/v1/projects/p/registrations/device1/")
    assert (first.body, second.body) == (b"{}", None)
    first.say(409, b'{"error": {"code": 409, "status": "ALREADY_EXISTS"}}')
    second.say(200, b"{}")
    gone = {
        "@type": "x/google.firebase.fcm.v1.FcmError",
        "errorCode": "UNREGISTERED",
    }
    third.say(404, json.dumps({"error": {"status": "NOT_FOUND", "details": [gone]}}).encode())
    assert (lane.stats.messages_sent, lane.stats.messages_bad_device) == (2, 1)
    assert lane.bad_devices == [(b"device3", "UNREGISTERED")]
    lane.push_json(subscription(4))
    lane.http.waiting()[0].say(503, b"")
    assert lane.lane.session.state.value == "paused"
    lane.advance(21)
    lane.http.waiting()[0].say(200, b'{"name": "x/topicSubscriptions/news"}')
    assert lane.stats.messages_sent == 3
    assert lane.queue.depth == 0
    lane.check()


def test_limits_of_a_device_do_not_hold_for_its_subscriptions(tmp_path):
    """Neither its rate, which they do not use up either, nor a block because of its quota."""
    lane = fcm_bench(tmp_path, device_rate=((2, 60.0),))
    lane.push_json(*[subscription(1)] * 8)
    assert len(lane.http.waiting()) == 8
    lane.answer_all(200, GOOD)
    lane.push(*[b"device1:k%d:{}" % number for number in range(3)])
    messages = lane.http.waiting()
    assert len(messages) < 3
    violation = {"subject": "device:device1"}
    failure = {"@type": "x/google.rpc.QuotaFailure", "violations": [violation]}
    messages[0].say(429, json.dumps({"error": {"details": [failure]}}).encode())
    assert lane.stats.messages_blocked == 1
    before = len(lane.http.waiting())
    lane.push(b"device1:k4:{}")
    lane.push_json(subscription(1, "unsubscribe"))
    assert lane.stats.messages_blocked == 2
    assert [posted.body for posted in lane.http.waiting()[before:]] == [None]


def test_the_rate_of_the_project_holds_for_subscriptions(tmp_path):
    """They share it with messages."""
    lane = fcm_bench(tmp_path, project_rate=(60, 60.0))
    lane.advance(120)
    lane.push_json(*map(subscription, range(40)))
    sent = len(lane.http.posted)
    assert sent < 8
    lane.answer_all(200, GOOD)
    lane.advance(3)
    assert sent < len(lane.http.posted) <= sent + 4
