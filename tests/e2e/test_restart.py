"""Stops and starts: what was not sent is sent by the next process."""

import signal
import time

import pytest

from tests.e2e.test_outage import IN_FLIGHT, push_many
from tests.support.upstream import Answer, Upstream, sign_in_or, upstream
from tests.support.waiting import wait_until


@pytest.mark.parametrize("total", [3_000, pytest.param(50_000, marks=pytest.mark.long)])
def test_sigterm_with_pushes_queued_and_64_in_flight(make_gateway, total):
    """The next start delivers every push; only what was in flight may come twice."""
    slow = {"delay": 0.2}
    with upstream(lambda sent: Answer(delay=slow["delay"])) as google:
        gateway = make_gateway(google.section(), node2dm="drain = 0").start()
        push_many(gateway, range(total))
        wait_until(lambda: google.in_flight == IN_FLIGHT, "the window is full")
        assert gateway.stop() in (0, -signal.SIGTERM)
        left = (gateway.folder / "state" / "c2dm.spool").read_bytes().count(b"\n") - 1
        assert total - left < total
        slow["delay"] = 0.0
        gateway.start()
        stats = gateway.wait_for(seconds=60 + total / 500, messages_in_queue=0)
        assert stats["messages_taken_over"] == stats["messages_sent"] == left
        delivered = google.delivered()
        assert len(delivered) == total
        assert sum(delivered.values()) - total <= IN_FLIGHT
        assert set(delivered.values()) <= {1, 2}
        assert not (gateway.folder / "state" / "c2dm.spool").exists()
        gateway.stop()
        assert not list((gateway.folder / "state").glob("*.part"))


def test_what_the_kernel_still_holds_at_sigterm_is_read(make_gateway):
    """Datagrams sent before SIGTERM are not lost with the socket."""
    with upstream(lambda sent: Answer()) as google:
        gateway = make_gateway(google.section()).start()
        assert gateway.process is not None
        gateway.process.send_signal(signal.SIGSTOP)
        gateway.push(*(b"d%d:key:%d" % (n, n) for n in range(500)))
        gateway.process.send_signal(signal.SIGTERM)
        gateway.process.send_signal(signal.SIGCONT)
        gateway.stop()
        gateway.start()
        gateway.wait_for(messages_in_queue=0)
        wait_until(lambda: len(google.delivered()) == 500, "all have arrived")


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_a_pause_that_the_upstream_named_survives_a_restart(make_gateway, how):
    """Nothing is sent before its end; it is no longer than it was."""
    answers = iter([Answer(b"", 503, ("Retry-After: 8",))])
    with upstream(lambda sent: next(answers, Answer())) as google:
        gateway = make_gateway(google.section(), node2dm="drain = 0").start()
        gateway.push(b"phone:key:1")
        gateway.wait_for(backing_off="true")
        gateway.stop(how)
        gateway.start()
        stats = gateway.stats()
        assert (stats["c2dm.state"], stats["backing_off"]) == ("paused", "true")
        gateway.push(b"phone:key:2")
        gateway.wait_for(messages_received=1, messages_in_queue=0)
        refused, *sent = google.sends()
        assert all(one.when - refused.when >= 7.9 for one in sent)
        assert len(sent) == (2 if how is signal.SIGTERM else 1)
        assert not (gateway.folder / "state" / "c2dm.pause").exists()


def test_drain_sends_what_it_can(make_gateway):
    """With time to drain, a stop sends what is queued and leaves no spool file."""
    with upstream(lambda sent: Answer(delay=0.05)) as google:
        gateway = make_gateway(google.section()).start()
        wait_until(lambda: gateway.stats()["signed_in"] == "true", "it has signed in")
        push_many(gateway, range(500))
        gateway.stop()
        assert len(google.delivered()) == 500
        assert not (gateway.folder / "state" / "c2dm.spool").exists()


def test_a_stop_does_not_wait_for_a_lane_that_cannot_send(make_gateway):
    """Signed out, or paused beyond the drain: the stop is quick and keeps every push."""
    refuse = {"now": True}

    def answer(sent):
        return Answer(b"", 503, ("Retry-After: 20",)) if refuse["now"] else Answer()

    with upstream(answer) as google:
        gateway = make_gateway(google.section(), node2dm="drain = 15").start()
        push_many(gateway, range(100))
        wait_until(lambda: gateway.stats()["backing_off"] == "true", "it backs off")
        began = time.monotonic()
        gateway.stop()
        assert time.monotonic() - began < 12
        refuse["now"] = False
        gateway.start()
        gateway.wait_for(messages_sent=100, messages_in_queue=0)


def test_sleeping_retries_survive_a_stop(make_gateway):
    """A push that sleeps after a broken connection is sent by the next process."""
    broken = {"now": True}

    def answer(sent):
        return Answer(raw=b"") if broken["now"] else Answer()

    with upstream(answer) as google:
        gateway = make_gateway(google.section(), node2dm="drain = 0").start()
        gateway.push(b"phone:key:payload")
        wait_until(lambda: gateway.stats()["messages_waiting"], "it sleeps")
        gateway.stop()
        broken["now"] = False
        gateway.start()
        gateway.wait_for(messages_taken_over=1, messages_sent=1)


def test_a_damaged_spool_is_used_as_far_as_it_can_be_read(make_gateway):
    """Damage costs the records it hit; the file is kept aside and the start goes on."""
    google = Upstream(sign_in_or(lambda sent: Answer()))
    google.start()
    google.stop()
    gateway = make_gateway(google.section(), node2dm="drain = 0").start()
    push_many(gateway, range(10))
    gateway.wait_for(messages_received=10)
    gateway.stop()
    spool = gateway.folder / "state" / "c2dm.spool"
    lines = spool.read_bytes().split(b"\n")
    assert len(lines) == 12
    lines[2] = lines[2].replace(b"key", b"yek")
    lines[5] = b"\xff\x00"
    spool.write_bytes(b"\n".join(lines)[:-20])
    google.start()
    try:
        gateway.start()
        gateway.wait_for(messages_taken_over=7, messages_sent=7)
        assert "was damaged: 3 records" in gateway.log
        assert spool.with_name("c2dm.spool.damaged").exists()
        assert not spool.exists()
    finally:
        google.stop()


def test_kill_9_leaves_files_that_the_next_start_accepts(make_gateway):
    """Without warning only what memory held is lost."""
    with upstream(lambda sent: Answer(delay=0.1)) as google:
        gateway = make_gateway(google.section()).start()
        push_many(gateway, range(1_000))
        wait_until(lambda: len(google.sends()) > 100, "sending has begun")
        gateway.stop(how=signal.SIGKILL)
        gateway.start()
        gateway.push(b"phone:key:after")
        gateway.wait_for(messages_sent=1)
        assert google.logins() == 1, "the token was kept"


def test_kill_9_while_the_spool_is_taken_up_loses_none_of_it(make_gateway):
    """The spool file goes only when all of it is queued."""
    slow = {"delay": 0.2}
    with upstream(lambda sent: Answer(delay=slow["delay"])) as google:
        gateway = make_gateway(google.section(), node2dm="drain = 0\nmax_queued = 600").start()
        push_many(gateway, range(500))
        wait_until(lambda: google.in_flight == IN_FLIGHT, "the window is full")
        gateway.stop()
        gateway.node2dm = "max_queued = 100"
        gateway.start()
        wait_until(lambda: gateway.stats()["messages_sent"] > 100, "it is being taken up")
        gateway.stop(how=signal.SIGKILL)
        slow["delay"] = 0.0
        gateway.node2dm = ""
        gateway.start()
        gateway.wait_for(messages_in_queue=0)
        wait_until(lambda: len(google.delivered()) == 500, "all have arrived")
