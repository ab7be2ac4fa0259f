"""No single push stops a route: one that fares badly, others that do not, in simulated time."""

import itertools
import json
import re
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import attrs
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from node2dm_tw.delivery.circuit_breaker import BreakerState
from node2dm_tw.http.interface import CertificateRefused, NoAnswer, NotSent, RequestFailed
from node2dm_tw.providers.c2dm import C2DM
from node2dm_tw.providers.fcm import FCM
from tests.support.doubles import Bench, Posted, bench

HTML = b"<!DOCTYPE html><title>Error 404 (Not Found)!!1</title>"
FCM_URL = "http://upstream/v1/projects/p/messages:send"
PROVIDERS = {"c2dm": C2DM("http://upstream/send"), "fcm": FCM(FCM_URL, lambda: 0.0)}
GOOD = {"c2dm": b"id=1", "fcm": b'{"name": "projects/p/messages/1"}'}
NO_SHRINKING = [Phase.explicit, Phase.reuse, Phase.generate]
"""An example takes a second; to make it smaller would take minutes."""

LATENCY = 0.05
"""Seconds from a request to its answer."""

Said = tuple[int, bytes, dict[str, str]] | RequestFailed


def fcm_error(status: int, name: str, details: object) -> bytes:
    error = {"code": status, "message": "No.", "status": name, "details": details}
    return json.dumps({"error": error}).encode()


@attrs.define(eq=False, repr=False)
class Traffic:
    """A lane to whose upstream `answer` says, for each request, what it answers."""

    lane: Bench
    good: bytes
    answer: Callable[[bytes], Said | None]
    sent_at: dict[bytes, float] = attrs.field(factory=dict)
    delivered_at: dict[bytes, float] = attrs.field(factory=dict)
    requests: Counter[bytes] = attrs.field(factory=Counter)
    _scheduled: int = 0

    def push(self, device: str, payload: str) -> None:
        self.sent_at[payload.encode()] = self.lane.clock.seconds()
        self.lane.push(f"{device}:k{payload}:{{n.{payload}.}}".encode())
        self.schedule()

    def schedule(self) -> None:
        """Answer each request in a moment."""
        for posted in self.lane.http.posted[self._scheduled :]:
            self.lane.clock.callLater(LATENCY, self._say, posted)
        self._scheduled = len(self.lane.http.posted)

    def _say(self, posted: Posted) -> None:
        payload = re.search(rb"n\.(\w+)\.", posted.body)
        assert payload is not None, posted.body
        self.requests[payload[1]] += 1
        said = self.answer(posted.body)
        if said is None:
            self.delivered_at.setdefault(payload[1], self.lane.clock.seconds())
            posted.say(200, self.good)
        elif isinstance(said, RequestFailed):
            posted.fail(said)
        else:
            status, body, headers = said
            posted.say(status, body, **headers)

    def run(self, seconds: float) -> None:
        for _ in range(round(seconds / 0.1)):
            self.lane.clock.advance(0.1)
            self.schedule()
        self.lane.check()

    def delays(self) -> list[float]:
        """Seconds from the receipt of each push to its delivery; infinite for one not delivered."""
        never = float("inf")
        return [self.delivered_at.get(n, never) - at for n, at in self.sent_at.items()]


def make(folder: Path, service: str, answer: Callable[[bytes], Said | None]) -> Traffic:
    lane = bench(folder, provider=PROVIDERS[service], max_queued=100_000)
    lane.lane.start()
    return Traffic(lane, GOOD[service], answer)


def healthy_every(traffic: Traffic, interval: float, seconds: float) -> None:
    """Push to healthy devices meanwhile."""
    for _ in range(round(seconds / interval)):
        number = len(traffic.sent_at)
        traffic.push(f"healthy{number % 50}", f"h{number}")
        traffic.run(interval)


BAD_ANSWERS = {
    "c2dm": [
        (500, b"", {}),
        (404, HTML, {}),
        (302, b"", {"Location": "https://portal.example/"}),
        (413, HTML, {}),
        (501, b"", {}),
        (401, b"", {}),
        (503, b"", {}),
        (429, b"", {}),
        (522, b"", {}),
        (408, b"", {}),
        (200, b"", {}),
        (200, HTML, {}),
    ],
    "fcm": [
        (404, HTML, {}),
        (403, HTML, {}),
        (404, fcm_error(404, "NOT_FOUND", None), {}),
        (403, fcm_error(403, "PERMISSION_DENIED", []), {}),
        (400, HTML, {}),
        (500, fcm_error(500, "INTERNAL", []), {}),
        (401, fcm_error(401, "UNAUTHENTICATED", []), {}),
        (503, HTML, {}),
        (425, b"", {}),
        (200, HTML, {}),
    ],
}
REASONS = {401: "unauthorized", 503: "unavailable", 429: "unavailable", 522: "unavailable"}


@pytest.mark.parametrize(
    ("service", "said"),
    [(service, said) for service, answers in BAD_ANSWERS.items() for said in answers],
)
@pytest.mark.parametrize("interval", [0.2, 2.0, 5.0])
def test_one_push_that_always_draws_an_answer(tmp_path, service, said, interval):
    """Healthy ones go on within seconds; the bad one is tried apart and rejected in the end."""
    traffic = make(tmp_path, service, lambda body: said if b"bad" in body else None)
    healthy_every(traffic, interval, 4 * interval)
    traffic.lane.push(b"bad:k:{n.bad.}")
    healthy_every(traffic, interval, 600)
    status, _, _ = said
    lane = traffic.lane
    assert max(traffic.delays()) < (25 if service == "fcm" and status in (503, 429) else 5)
    assert not lane.locked
    assert not lane.bad_devices
    assert lane.credentials.fetches <= 3
    reasons = dict(lane.stats.refused_reasons)
    if status == 200:
        assert reasons == {"unreadable": 1}
    elif status in (408, 425):
        assert reasons == {}
        assert traffic.requests[b"bad"] < 20
    else:
        assert len(reasons) == 1
        assert traffic.requests[b"bad"] <= 12
        assert REASONS.get(status, f"http_{status}") in reasons or "INTERNAL" in reasons
    lane.check()


def test_a_dip_of_two_per_cent_delays_only_what_it_hits(tmp_path):
    """300 pushes, one answer in fifty a page of HTML, gone at the next try: all within 30 s."""
    turns = itertools.count()
    unlucky = iter(lambda: next(turns) % 50 == 7, None)
    traffic = make(tmp_path, "fcm", lambda body: (404, HTML, {}) if next(unlucky) else None)
    for number in range(300):
        traffic.push(f"d{number % 40}", f"h{number}")
    traffic.run(30)
    assert max(traffic.delays()) < 30
    assert not traffic.lane.stats.refused_reasons


@pytest.mark.parametrize("bad", [2, 4, 20])
def test_several_devices_that_are_refused_whatever_the_token(tmp_path, bad):
    """They cause no storm of sign-ins, nor the end of signing in."""
    said = (401, b"", {})
    traffic = make(tmp_path, "c2dm", lambda body: said if b"bad" in body else None)
    for number in range(bad):
        traffic.lane.push(b"bad%d:k:{n.bad%d.}" % (number, number))
    healthy_every(traffic, 0.2, 120)
    assert traffic.lane.credentials.fetches <= 5
    assert not traffic.lane.locked
    on_time = [delay for delay in traffic.delays() if delay < 10]
    assert len(on_time) > 0.85 * len(traffic.sent_at)
    assert traffic.lane.stats.refused_reasons["unauthorized"] == bad


def test_where_nobody_is_accepted_signing_in_is_given_up_and_everything_kept(tmp_path):
    """Ten refused tokens in a row are the account's fault, not a push's."""
    traffic = make(tmp_path, "c2dm", lambda body: (401, b"", {}))
    for number in range(50):
        traffic.push(f"d{number}", f"h{number}")
    traffic.run(1_500)
    assert traffic.lane.locked
    assert traffic.lane.queue.depth == 50
    assert traffic.lane.credentials.fetches == 10


def test_a_push_goes_once_with_each_credential_that_refuses_it(tmp_path):
    """It sleeps while nobody knows whose fault it is, and causes a sign-in a minute at the most."""
    tokens: Counter[bytes] = Counter()
    traffic = make(tmp_path, "c2dm", lambda body: (401, b"", {}))
    traffic.answer = lambda body: None
    traffic.push("healthy", "h0")
    traffic.run(1)
    traffic.answer = lambda body: (401, b"", {})
    traffic.lane.http.posted.clear()
    traffic._scheduled = 0
    traffic.lane.push(b"lonely:k:{n.lonely.}")
    traffic.run(600)
    for posted in traffic.lane.http.posted:
        tokens[posted.auth] += 1
    assert set(tokens.values()) == {1}
    assert 2 <= traffic.lane.credentials.fetches <= 12
    assert not traffic.lane.locked
    assert traffic.lane.queue.depth == 1
    traffic.answer = lambda body: (401, b"", {}) if b"lonely" in body else None
    healthy_every(traffic, 1.0, 700)
    assert traffic.lane.stats.refused_reasons == {"unauthorized": 1}


def test_another_push_of_a_device_that_waits_goes_first(tmp_path):
    """One payload that always fails holds up the others for its device for one delay only."""
    traffic = make(tmp_path, "fcm", lambda body: (403, HTML, {}) if b"poison" in body else None)
    traffic.lane.push(b"phone:k1:{n.poison.}")
    traffic.run(60)
    assert traffic.requests[b"poison"] >= 2
    healthy = [f"h{number}" for number in range(5)]
    for payload in healthy:
        traffic.push("phone", payload)
    traffic.run(60)
    assert len(traffic.delivered_at) == 5
    traffic.push("phone", "h9")
    traffic.run(1)
    assert b"h9" in traffic.delivered_at


def answers_of(service: str) -> st.SearchStrategy[Said | None]:
    """An answer or none; a pause that is meant for the whole route is a short one."""
    return st.one_of(
        st.none(),
        st.sampled_from(BAD_ANSWERS[service]),
        st.tuples(
            st.sampled_from([503, 429, 500, 404]), st.just(b""), st.just({"Retry_After": "3"})
        ),
        st.sampled_from([NotSent("refused"), NoAnswer("cut"), NoAnswer("slow", timed_out=True)]),
        st.sampled_from([CertificateRefused("forged"), NoAnswer("x", retry_at_once=True)]),
        st.just((200, b"Error=NotRegistered", {})),
    )


@pytest.mark.parametrize("service", ["c2dm", "fcm"])
@given(data=st.data(), pushes=st.integers(1, 12), interval=st.sampled_from([0.5, 2.0]))
@settings(max_examples=40, deadline=None, derandomize=True, phases=NO_SHRINKING)
def test_one_target_draws_whatever_it_likes(service, data, pushes, interval):
    """Pushes to others are all delivered soon, however the answers to one target go on for ever."""
    with tempfile.TemporaryDirectory() as folder:
        answers = data.draw(st.lists(answers_of(service), min_size=1, max_size=12))
        said = itertools.cycle(answers)
        traffic = make(Path(folder), service, lambda body: next(said) if b"bad" in body else None)
        healthy_every(traffic, interval, 2)
        for number in range(pushes):
            traffic.lane.push(b"bad:k%d:{n.bad%d.}" % (number, number))
        healthy_every(traffic, interval, 90)
        traffic.run(90)
        healthy = [at for payload, at in traffic.delivered_at.items() if payload[:1] == b"h"]
        assert len(healthy) == len(traffic.sent_at)
        assert max(traffic.delays()) < 65  # one pause where the probe could be no other push
        assert not traffic.lane.locked
        assert traffic.lane.stats.messages_overflowed == 0


TARGETS = {
    "5 devices": [b"d%d" % number for number in range(5)],
    "1 device": [b"d"],
    "2 topics": [b"news", b"sport"],
}
MIX = st.lists(
    st.tuples(
        st.integers(1, 512),
        answers_of("c2dm") | answers_of("fcm"),
        st.sampled_from([0.0, 0.5, 5.0, 30.0]),
    ),
    min_size=1,
    max_size=12,
)


@pytest.mark.parametrize("targets", TARGETS)
@given(mix=MIX)
@settings(max_examples=25, deadline=None, derandomize=True)
def test_512_in_flight_to_few_targets(targets, mix):
    """No answer makes a push overflow; nothing goes while the lane is paused, then one probe."""
    with tempfile.TemporaryDirectory() as folder:
        lane = bench(Path(folder), provider=PROVIDERS["fcm"], maximum=512, max_queued=100_000)
        lane.lane.start()
        names = itertools.cycle(TARGETS[targets])
        kind = "topic" if "topics" in targets else "token"
        lane.push_json(
            *(
                json.dumps({kind: next(names).decode(), "data": str(number)}).encode()
                for number in range(1_450)
            )
        )
        while lane.lane.window.size < 512:
            for posted in lane.http.waiting():
                posted.say(200, GOOD["fcm"])
        for count, said, seconds in mix:
            waiting = lane.http.waiting()[:count]
            for posted in waiting:
                if isinstance(said, RequestFailed):
                    posted.fail(said)
                else:
                    status, body, headers = said or (200, GOOD["fcm"], {})
                    posted.say(status, body, **headers)
                check_rule(lane)
            lane.advance(seconds, step=0.25 if seconds < 1 else 5.0)
        assert lane.stats.messages_overflowed == 0
        lane.check()


def check_rule(lane: Bench) -> None:
    """What the upstream may see in each state of the circuit breaker."""
    breaker, in_flight = lane.lane.session.breaker, lane.lane._in_flight
    assert len(in_flight) <= 512
    if breaker.state is not BreakerState.CLOSED:
        ours = sum(lease.epoch == breaker.epoch for lease in in_flight)
        assert ours <= (breaker.state is BreakerState.HALF_OPEN)
