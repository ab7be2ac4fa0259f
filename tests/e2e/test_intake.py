"""What a real gateway takes for a push, what it says of the rest, and how much of it it keeps."""

import re
import signal
import socket
from collections import Counter

import pytest

from node2dm_tw.queues.budget import PUSH_OVERHEAD_BYTES
from tests.support.gateway import GatewayProcess
from tests.support.grammar import LINES, OBJECTS
from tests.support.ports import free_port
from tests.support.waiting import wait_until

SIZE = 1_000


@pytest.mark.parametrize("service", ["c2dm", "fcm"])
def test_every_line_of_the_grammar_by_udp(make_gateway, service):
    """A datagram each: it is received, or counted as invalid under its reason."""
    cases = [case for case in (*OBJECTS, *LINES) if case.service == service]
    reasons = Counter(case.fault[0] for case in cases if case.fault)
    gateway = make_gateway(f"[{service}]\n[emulator]\n").start()
    gateway.push(*(case.line for case in cases))
    expected = {f"messages_invalid.{reason}": count for reason, count in reasons.items()}
    gateway.wait_for(messages_received=len(cases) - reasons.total(), **expected)
    assert gateway.stats()["messages_invalid"] == reasons.total()
    assert "Traceback" not in gateway.log


def test_another_protocol_is_one_invalid_datagram(make_gateway):
    """A browser, or a health check, that was given the wrong port makes no push."""
    gateway = make_gateway().start()
    gateway.push(
        b"GET / HTTP/1.1\r\nHost: localhost:8120\r\nReferer: http://localhost:80/\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"demo-phone:key:GET / HTTP/1.1",
    )
    stats = gateway.wait_for(messages_invalid=2, messages_sent=1)
    assert stats["messages_invalid.http"] == 2
    assert stats["messages_received"] == 1


FAULTS = {
    '{"token":"t","collapse_key":"k","colour":"hush"}': "field: colour",
    '{"token":"hush hush","collapse_key":"k"}': "token: token",
    '{"token":"t","fid":"hush"}': "target: fid",
    '{"token":"t","collapse_key":"k","priority":"high","data":"hush"}': "unsupported: priority",
    '{"route":"hush","token":"t"}': "unknown_route: route",
    "hush": "colons: ",
    '["hush"]': "json: ",
    "GET /hush HTTP/1.1": "http: ",
}


def test_each_fault_is_named_with_where_it_came_from(make_gateway):
    """By field, never by value; a flood of one reason hides no other."""
    gateway = make_gateway().start()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.connect(("127.0.0.1", gateway.udp))
        port = sender.getsockname()[1]
        for line in FAULTS:
            for _ in range(40):
                sender.send(line.encode())
        gateway.wait_for(messages_invalid=40 * len(FAULTS))
    for line, said in FAULTS.items():
        logged = f"invalid push from 127.0.0.1:{port} ({len(line)} bytes): {said}"
        assert logged in gateway.log, gateway.log
    assert "hush" not in gateway.log
    assert gateway.log.count("invalid push") < 3 * len(FAULTS)


def away(make_gateway, maximum: int) -> GatewayProcess:
    """A gateway whose upstream cannot be reached, with a bound on its bytes."""
    url = f"https://127.0.0.1:{free_port()}"
    node2dm = f"max_queued_bytes = {maximum}"
    return make_gateway(f"[fcm]\nurl = {url}\n[emulator]\n", node2dm=node2dm).start()


def fill(gateway: GatewayProcess, count: int) -> None:
    """Push so many pushes of `SIZE` bytes, no faster than they are read."""
    for first in range(0, count, 4_000):
        lines = (b"d%d:k:{%d" % (n % 5_000, n) for n in range(first, min(count, first + 4_000)))
        gateway.push(*(line.ljust(SIZE, b"x") for line in lines))
        gateway.wait_for(60, messages_received=min(count, first + 4_000))


@pytest.mark.parametrize(
    ("count", "maximum", "growth"),
    [
        (30_000, 10_000_000, 40 << 20),
        pytest.param(200_000, 100_000_000, 160 << 20, marks=pytest.mark.long),
    ],
)
def test_the_bytes_of_a_queue_are_bounded(make_gateway, count, maximum, growth):
    """While the upstream is away the oldest overflow, counted, and the memory stays small."""
    gateway = away(make_gateway, maximum)
    before = gateway.stats()["memory_rss"]
    fill(gateway, count)
    stats = gateway.stats()
    kept = maximum // (SIZE + PUSH_OVERHEAD_BYTES)
    assert stats["messages_in_queue"] == kept
    assert stats["fcm.messages_overflowed"] == count - kept
    assert (
        stats["queued_bytes"] == stats["fcm.queued_bytes"] <= stats["max_queued_bytes"] == maximum
    )
    assert stats["memory_rss"] - before < growth


def kept_in_spool(gateway: GatewayProcess) -> list[int]:
    spool = (gateway.folder / "state" / "fcm.spool").read_bytes()
    return sorted(map(int, re.findall(rb":\{(\d+)x", spool)))


def test_a_start_takes_up_no_more_bytes_than_may_be_kept(make_gateway):
    """The rest stays in the spool; nothing of it overflows, and the next stop keeps it all."""
    gateway = away(make_gateway, 10_000_000)
    fill(gateway, 7_000)
    gateway.stop()
    assert kept_in_spool(gateway) == list(range(7_000))
    gateway.node2dm = "max_queued_bytes = 5000000"
    gateway.start()
    room = 5_000_000 // (SIZE + PUSH_OVERHEAD_BYTES)
    wait_until(lambda: gateway.stats()["messages_taken_over"] > room - 60, "it is taken up")
    stats = gateway.stats()
    assert stats["messages_taken_over"] <= room
    assert stats["messages_overflowed"] == 0
    gateway.stop()
    assert kept_in_spool(gateway) == list(range(7_000))


def test_the_bound_is_reloaded(make_gateway):
    """SIGHUP changes it; newcomers then take the place of the oldest."""
    gateway = away(make_gateway, 10_000_000)
    fill(gateway, 2_000)
    gateway.node2dm = "max_queued_bytes = 1000000"
    gateway.write_config()
    gateway.process.send_signal(signal.SIGHUP)
    gateway.wait_for(max_queued_bytes=1_000_000)
    gateway.push(*(b"d:k:{%d" % n for n in range(10)))
    stats = gateway.wait_for(messages_received=2_010)
    assert 1 <= stats["messages_overflowed"] <= 10
    assert "reloaded: [node2dm] max_queued_bytes" in gateway.log
