"""Urgent pushes: they stand before whatever waits, and leave a tenth to the others."""

import json
import signal
import time

import pytest

from benchmarks.pushes import send
from tests.support.upstream import Answer, upstream
from tests.support.waiting import wait_until

BACKLOGS = [100_000, pytest.param(1_000_000, marks=pytest.mark.long)]


def urgent(number: int) -> bytes:
    fields = {"token": f"u{number}", "collapse_key": "k", "data": f"urgent {number}"}
    return json.dumps(fields | {"urgent": True}).encode()


@pytest.mark.parametrize("total", BACKLOGS)
@pytest.mark.parametrize("how", [None, signal.SIGTERM], ids=["same", "next"])
@pytest.mark.parametrize("engine", ["memory", "sqlite"])
def test_the_backlog_of_an_outage_does_not_stand_before_it(make_gateway, engine, how, total):
    """It is among the first two that are sent once the upstream is back; also after a restart."""
    away = [True]

    def answer(_: object) -> Answer:
        return Answer(b"", 503, ("Retry-After: 3",)) if away else Answer()

    with upstream(answer) as google:
        gateway = make_gateway(
            google.section(),
            node2dm=f"queue = {engine}\nmax_queued = 2000000\ndrain = 0",
        ).start()
        send(gateway.udp, total, 12_000)
        gateway.wait_for(seconds=60, messages_received=total, messages_in_queue=total)
        gateway.push(urgent(0))
        stats = gateway.wait_for(messages_received=total + 1, messages_urgent_in_queue=1)
        assert stats["oldest_urgent_age"] <= stats["oldest_age"]
        if how is not None:
            gateway.stop(how)
            gateway.start()
            wait_until(lambda: gateway.stats()["messages_urgent_in_queue"] == 1, "it is restored")
        came = len(google.sends())
        away.clear()
        wait_until(lambda: len(google.sends()) >= came + 500, "the upstream is back")
        first = {sent.form["data.data"]: sent.form for sent in google.sends()[came : came + 2]}
        assert "urgent 0" in first
        assert first["urgent 0"].keys() == {"registration_id", "collapse_key", "data.data"}
        gateway.stop()


@pytest.mark.parametrize("engine", ["memory", "sqlite"])
def test_a_tenth_is_left_for_the_others(make_gateway, engine):
    """While urgent pushes come at twice the rate at which the gateway can send."""
    rate, seconds = 100, 5
    with upstream(lambda sent: Answer(delay=0.1)) as google:
        gateway = make_gateway(
            google.section(f"max_in_flight = {rate // 10}"),
            node2dm=f"queue = {engine}\ndrain = 0",
        ).start()
        gateway.push(urgent(0))
        gateway.wait_for(messages_sent=1)
        gateway.push(*(urgent(n) for n in range(1, 2 * rate)))
        send(gateway.udp, 1_000, 10_000)
        gateway.wait_for(messages_received=1_000 + 2 * rate)
        came, start = len(google.sends()), time.monotonic()
        number = 2 * rate
        while (passed := time.monotonic() - start) < seconds:
            due = 2 * rate + int(2 * rate * passed)
            gateway.push(*(urgent(n) for n in range(number, due)))
            number = due
            time.sleep(0.02)
        sent = [sent.form["data.data"].startswith("urgent") for sent in google.sends()[came:]]
        assert len(sent) > rate * seconds / 2
        others = sent.count(False) / len(sent)
        assert 0.09 <= others <= 0.12, (others, len(sent))
        gateway.stop()
