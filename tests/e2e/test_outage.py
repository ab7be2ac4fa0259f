"""Outages of the upstream: nothing is lost, nothing is sent twice, nobody is hammered."""

import threading
import time
from email.utils import formatdate
from itertools import pairwise

import pytest

from tests.support.gateway import GatewayProcess
from tests.support.upstream import Answer, Sent, Upstream, sign_in_or, upstream
from tests.support.waiting import wait_until

PUSHES = 2_000
IN_FLIGHT = 64


def push_many(gateway: GatewayProcess, numbers: range) -> None:
    """Send numbered pushes, each to a device of its own."""
    for first in range(numbers.start, numbers.stop, 500):
        gateway.push(
            *(b"d%d:key:%d" % (n, n) for n in range(first, min(first + 500, numbers.stop)))
        )
        time.sleep(0.01)


def in_seconds() -> str:
    return "3"


def as_a_date() -> str:
    return formatdate(time.time() + 3.999, usegmt=True)


@pytest.mark.parametrize("retry_after", [in_seconds, as_a_date])
def test_retry_after_in_the_middle_of_2000_pushes(make_gateway, retry_after):
    """While the upstream asks for quiet no request comes; then one, then more; all arrive once."""
    lock = threading.Lock()
    refused: list[float] = []

    def answer(sent: Sent) -> Answer:
        with lock:
            now = time.monotonic()
            if len(accepted) >= PUSHES // 2 and (not refused or now < refused[0] + 0.1):
                refused.append(now)
                return Answer(b"", 503, (f"Retry-After: {retry_after()}",), delay=0.05)
            accepted.append(sent.form["data.data"])
            return Answer(delay=0.05)

    accepted: list[str] = []
    with upstream(answer) as google:
        gateway = make_gateway(google.section()).start()
        push_many(gateway, range(PUSHES))
        wait_until(lambda: refused, "the upstream asks for quiet")
        stats = wait_until(
            lambda: (s := gateway.stats())["backing_off"] == "true" and s, "the lane pauses"
        )
        assert stats["messages_sent"] < PUSHES
        gateway.wait_for(seconds=60, messages_sent=PUSHES)
        assert sorted(map(int, accepted)) == list(range(PUSHES))
        assert google.most_in_flight == IN_FLIGHT
        came = [sent.when for sent in google.sends() if sent.when > refused[0]]
        gap, quiet_from = max((later - earlier, earlier) for earlier, later in pairwise(came))
        assert gap > 2
        assert came.index(quiet_from) < IN_FLIGHT, "only what was in flight still came"
        after = [when for when in came if when > quiet_from]
        assert after[0] - refused[0] >= 2.9
        assert after[1] - after[0] >= 0.05, "the probe goes alone until it is answered"
        in_a_row = sum(1 for when in after if when < after[1] + 0.04)
        assert in_a_row <= 1 + 2, "the window reopens slowly"


# On a busy machine a connection of the test's own server may outlive its loop.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("total", [4_000, pytest.param(100_000, marks=pytest.mark.long)])
def test_a_closed_port_for_10_s_while_pushes_arrive(make_gateway, total):
    """The listening socket goes away in the middle; every push arrives, none twice."""
    google = Upstream(sign_in_or(lambda sent: Answer())).start()
    try:
        gateway = make_gateway(google.section()).start()
        push_many(gateway, range(500))
        wait_until(lambda: len(google.sends()) >= 100, "sending has begun")
        google.stop()
        outage = time.monotonic() + 10
        push_many(gateway, range(500, total))
        gateway.wait_for(messages_received=total)
        time.sleep(max(0.0, outage - time.monotonic()))
        google.start()
        stats = gateway.wait_for(seconds=60 + total / 500, messages_in_queue=0)
        assert stats["messages_sent"] == total
        # What the upstream took when it was cut off, and could not answer, is sent again.
        extra = sum(google.delivered().values()) - total
        assert len(google.delivered()) == total
        assert extra <= stats["messages_ambiguous"] <= IN_FLIGHT
    finally:
        google.stop()


def test_401_for_64_requests_in_flight_is_one_sign_in(make_gateway):
    """Sixty-four refusals of one token: one ClientLogin, sixty-four pushes sent again once."""
    revoked = threading.Event()

    def answer(sent: Sent) -> Answer:
        if revoked.is_set() and sent.auth.endswith("token-1"):
            return Answer(b"", 401, delay=0.3)
        if not revoked.is_set() and google.in_flight >= IN_FLIGHT:
            revoked.set()
        return Answer(b"id=1", delay=0.3)

    with upstream(answer) as google:
        gateway = make_gateway(google.section()).start()
        push_many(gateway, range(1_000))
        stats = gateway.wait_for(messages_sent=1_000)
        refused = [s for s in google.sends() if s.auth.endswith("token-1")]
        assert google.logins() == 2
        assert set(google.delivered().values()) <= {1, 2}
        again = sum(count == 2 for count in google.delivered().values())
        assert 1 <= again <= IN_FLIGHT
        assert len(google.sends()) == 1_000 + again
        assert len(refused) < 1_000
        assert stats["messages_ambiguous"] == 0


BROKEN = {
    "drip": Answer(raw=b"HTTP/1.1 200 OK\r\n", pieces=(b"X",) * 40, pause=0.2),
    "broken-chunk": Answer(
        raw=b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nid=1\r\n"
    ),
    "cut": Answer(raw=b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nid"),
}
NO_ANSWER = {
    "no-http": Answer(raw=b"\x16\x03\x01 what?\r\n\r\n"),
    "nothing": Answer(raw=b""),
    "silent": Answer(delay=8),
}


def test_hostile_answers_cost_bounded_time_and_end_in_a_counter(make_gateway):
    """A 200 that breaks is never sent again; a push without any answer is, and is delivered."""
    seen: set[str] = set()
    hostile = BROKEN | NO_ANSWER

    def answer(sent: Sent) -> Answer:
        device = sent.form["registration_id"]
        first_time = device not in seen
        seen.add(device)
        return hostile[device] if first_time and device in hostile else Answer()

    with upstream(answer) as google:
        gateway = make_gateway(google.section("timeout = 2")).start()
        for device in hostile:
            gateway.push(f"{device}:key:{device}".encode())
            gateway.push(b"healthy:key:" + device.encode())
        sent = len(hostile) + len(NO_ANSWER)
        stats = gateway.wait_for(seconds=30, messages_sent=sent, messages_refused=len(BROKEN))
        # libcurl repeats a request by itself when a kept-alive connection closes without a word.
        assert stats["messages_ambiguous"] + stats["reconnects"] == len(NO_ANSWER)
        assert "Traceback" not in gateway.log


def test_a_header_bomb_is_bounded(make_gateway):
    """A hundred megabytes of header neither fill the memory nor hang the lane."""
    line = b"X-Filler: " + b"x" * 8_000 + b"\r\n"
    bomb = Answer(raw=b"HTTP/1.1 200 OK\r\n", pieces=(line * 125,) * 100)

    def answer(sent: Sent) -> Answer:
        return bomb if sent.form["registration_id"] == "bomb" else Answer()

    with upstream(answer) as google:
        gateway = make_gateway(google.section()).start()
        before = gateway.stats()["memory_rss"]
        gateway.push(b"bomb:key:payload", b"healthy:key:payload")
        stats = gateway.wait_for(messages_sent=1, messages_refused=1)
        assert stats["messages_refused.too_large"] == 1
        assert stats["memory_rss"] - before < 20_000_000
