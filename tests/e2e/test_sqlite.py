"""`queue = sqlite`: what was received is stored, and survives any end of the process."""

import shutil
import signal
import sqlite3
from contextlib import closing

import pytest

from benchmarks.pushes import send
from tests.e2e.test_outage import IN_FLIGHT, push_many
from tests.support.gateway import GatewayProcess
from tests.support.upstream import Answer, upstream
from tests.support.waiting import wait_until

SQLITE = "queue = sqlite\ndrain = 0"


def sleeping(gateway: GatewayProcess) -> list[int]:
    """Read the attempts of the pushes that sleep from a copy of the database, which is locked."""
    copy = gateway.folder / "copy"
    shutil.rmtree(copy, ignore_errors=True)
    copy.mkdir()
    for file in (gateway.folder / "state").glob("queue.sqlite*"):
        shutil.copy(file, copy)
    with closing(sqlite3.connect(copy / "queue.sqlite")) as connection:
        rows = connection.execute("SELECT attempts FROM push WHERE not_before > received")
        return [attempts for (attempts,) in rows]


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_what_was_left_is_sent_once_by_the_next_process(make_gateway, how):
    """Of those in flight, and of those that had just ended, some may come twice."""
    total, slow = 3_000, {"delay": 0.2}
    with upstream(lambda sent: Answer(delay=slow["delay"])) as google:
        gateway = make_gateway(google.section(), node2dm=SQLITE).start()
        push_many(gateway, range(total))
        wait_until(lambda: google.in_flight == IN_FLIGHT, "the window is full")
        gateway.wait_for(messages_received=total)
        gateway.stop(how)
        slow["delay"] = 0.0
        gateway.start()
        wait_until(lambda: gateway.stats()["messages_taken_over"], "the queue is open")
        stats = gateway.wait_for(messages_in_queue=0)
        assert stats["messages_taken_over"] == stats["messages_sent"]
        delivered = google.delivered()
        assert len(delivered) == total
        assert sum(delivered.values()) - total <= 2 * IN_FLIGHT
        assert set(delivered.values()) <= {1, 2}
        gateway.stop()
        gateway.start()
        gateway.push(b"d:key:last")
        gateway.wait_for(messages_received=1, messages_taken_over=0, messages_sent=1)
        assert not (gateway.folder / "state" / "c2dm.spool").exists()


def test_two_routes_in_one_database(make_gateway):
    """Each sends its own, also after kill -9."""
    with upstream(lambda sent: Answer(b"", 503)) as away, upstream(lambda sent: Answer()) as there:
        more = away.section("prefix = m").replace("[c2dm]", "[c2dm:more]")
        gateway = make_gateway(there.section() + more, node2dm=SQLITE).start()
        gateway.push(*(b"d%d:key:1" % n for n in range(100)))
        gateway.push(*(b"m|d%d:key:2" % n for n in range(200)))
        gateway.wait_for(messages_received=300, messages_sent=100)
        stats = gateway.wait_for(messages_in_queue=200)
        assert stats["more.messages_in_queue"] == 200
        gateway.stop(signal.SIGKILL)
    with upstream(lambda sent: Answer()) as google:
        more = google.section("prefix = m").replace("[c2dm]", "[c2dm:more]")
        gateway.config = google.section() + more
        gateway.start()
        wait_until(lambda: gateway.stats()["messages_taken_over"], "the queue is open")
        stats = gateway.wait_for(messages_in_queue=0)
        assert stats["more.messages_sent"] == 200
        assert {sent.form["data.data"] for sent in google.sends()} >= {"2"}


def test_memory_is_flat(make_gateway):
    """300,000 pushes of a route that is paused take no more than 30,000."""
    with upstream(lambda sent: Answer(b"", 503, ("Retry-After: 3000",))) as google:
        gateway = make_gateway(google.section(), node2dm=SQLITE).start()
        gateway.push(b"d:key:0")
        gateway.wait_for(backing_off="true", messages_received=1)
        send(gateway.udp, 30_000, 15_000)
        gateway.wait_for(messages_received=30_001)
        before = gateway.memory()
        send(gateway.udp, 270_000, 15_000, 30_000)
        gateway.wait_for(messages_received=300_001, messages_in_queue=300_001)
        assert gateway.memory() - before < 20_000_000
        gateway.stop()


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_a_push_that_sleeps_keeps_its_moment(make_gateway, how):
    """It is not sent before the moment that the answer named, nor much later."""
    answers = iter([Answer(b"", 408, ("Retry-After: 6",))])
    with upstream(lambda sent: next(answers, Answer())) as google:
        gateway = make_gateway(google.section(), node2dm=SQLITE).start()
        gateway.push(b"phone:key:1")
        gateway.wait_for(messages_received=1, messages_waiting=1)
        wait_until(lambda: sleeping(gateway) == [1], "its moment is stored")
        gateway.stop(how)
        gateway.start()
        gateway.push(b"phone:key:2")
        gateway.wait_for(messages_received=1, messages_taken_over=1, messages_in_queue=0)
        first, *_, last = google.sends()
        assert len(google.sends()) == 3
        assert 5.9 <= last.when - first.when < 12
        wait_until(lambda: sleeping(gateway) == [], "it is removed")
