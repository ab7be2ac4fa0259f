"""Signals and stops, at every moment: what was queued is in the spool every time."""

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.e2e.test_outage import push_many
from tests.support import processes
from tests.support.gateway import HEEDING, TWISTD, GatewayProcess
from tests.support.upstream import Answer, Sent, Upstream, sign_in_or, upstream
from tests.support.waiting import wait_until

HERE = Path(__file__).parent
SLOW = Answer(delay=60)


def spooled(gateway: GatewayProcess) -> int:
    """Records in the spools of all routes."""
    files = (gateway.folder / "state").glob("*.spool*")
    return sum(file.read_bytes().count(b"\n") - 1 for file in files)


def end(gateway: GatewayProcess, times: int) -> None:
    """Send SIGTERM, twice in a row perhaps; wait until the process is gone."""
    assert gateway.process is not None
    for _ in range(times - 1):
        gateway.process.send_signal(signal.SIGTERM)
        wait_until(lambda: not is_pending(gateway), "it has received it")
    gateway.stop()


def is_pending(gateway: GatewayProcess) -> bool:
    """Whether the process lives and has yet to receive SIGTERM."""
    assert gateway.process is not None
    return gateway.process.poll() is None and is_in(gateway, "ShdPnd", signal.SIGTERM)


def is_in(gateway: GatewayProcess, field: str, number: int) -> bool:
    """Whether Linux says of a process that it catches a signal (SigCgt), or has yet to (ShdPnd)."""
    assert gateway.process is not None
    status = Path(f"/proc/{gateway.process.pid}/status").read_text(encoding="ascii")
    bits = int(status.partition(f"{field}:")[2].split()[0], 16)
    return bool(bits >> (number - 1) & 1)


def restart(gateway: GatewayProcess, script: dict[str, Answer], count: int) -> None:
    """Let everything through: each push is sent by the next process."""
    script["answer"] = Answer()
    gateway.node2dm = ""
    gateway.start()
    gateway.wait_for(messages_taken_over=count, messages_sent=count, messages_in_queue=0)
    assert gateway.stop() == 0
    assert "Traceback" not in gateway.log


STEPS = [
    "announce the stop",
    "close the HTTP intake",
    "drain a UDP socket",
    "close a UDP socket",
    "drain the queues",
    "stop sending for c2dm",
    "save the pushes of c2dm",
    "stop sending for more",
    "save the pushes of more",
    "close an HTTP client",
    "close an HTTP client",
    "close an HTTP client",
    "close an HTTP client",
    "close the views",
    "save what is left of c2dm",
    "save what is left of more",
    "close the queues",
    "write the outcomes",
    "unlock state_dir",
]


@pytest.mark.parametrize("number", range(len(STEPS)), ids=STEPS)
def test_a_step_of_the_stop_that_fails_loses_nothing(make_gateway, number):
    """Every other step runs, one critical line names it, and the exit status is 1."""
    script = {"answer": SLOW}
    with upstream(lambda sent: script["answer"]) as google:
        more = google.section("prefix = m").replace("[c2dm]", "[c2dm:more]")
        gateway = make_gateway(google.section() + more, node2dm="drain = 0.2")
        gateway.write_config()
        gateway.process = processes.start(
            [TWISTD, "-n", "--pidfile=", "-y", HERE / "failing_stop.tac"],
            gateway.folder / "log",
            cwd=gateway.folder,
            env={**os.environ, "FAILING_STEP": str(number)},
        )
        wait_until(lambda: gateway.log.count("signed in") == 2, "both routes have signed in")
        gateway.push(*(b"d%d:k:%d" % (n, n) for n in range(100)))
        gateway.push(*(b"more|d%d:k:%d" % (n, n) for n in range(30)))
        gateway.wait_for(messages_received=130)
        assert gateway.stop() == 1
        assert (gateway.folder / "steps").read_text(encoding="utf-8").split("\n") == STEPS
        assert gateway.log.count(f"stop: {STEPS[number]} failed") == 1
        assert gateway.log.count("Traceback") == 1
        assert spooled(gateway) == 130


def starting(gateway: GatewayProcess, google: Upstream, script: dict[str, Answer]) -> None:
    gateway.start(wait=False)
    wait_until(lambda: "started: " in gateway.log, "it has started")


def signing_in(gateway: GatewayProcess, google: Upstream, script: dict[str, Answer]) -> None:
    script["login"] = SLOW
    gateway.start()
    wait_until(lambda: google.in_flight == 1, "it signs in")


def paused(gateway: GatewayProcess, google: Upstream, script: dict[str, Answer]) -> None:
    script["answer"] = Answer(b"", 503, ("Retry-After: 10",))  # the next process keeps to it
    gateway.start()
    gateway.push(b"d:k:0")
    wait_until(lambda: gateway.stats()["c2dm.state"] == "paused", "it is paused")


def locked(gateway: GatewayProcess, google: Upstream, script: dict[str, Answer]) -> None:
    script["answer"] = Answer(b"Error=QuotaExceeded")
    gateway.config += google.section("prefix = m").replace("[c2dm]", "[c2dm:more]")
    gateway.start()
    gateway.push(b"d:k:0")
    wait_until(lambda: gateway.stats()["c2dm.state"] == "locked", "it is locked")


def restoring(gateway: GatewayProcess, google: Upstream, script: dict[str, Answer]) -> None:
    gateway.start()
    push_many(gateway, range(900))
    gateway.wait_for(messages_received=900)
    gateway.stop()
    gateway.node2dm = "drain = 0\nmax_queued = 100"
    gateway.start()
    wait_until(lambda: gateway.stats()["messages_taken_over"] >= 100, "it restores")
    gateway.node2dm = ""


STATES: list[Callable[[GatewayProcess, Upstream, dict[str, Answer]], None]] = [
    starting,
    signing_in,
    paused,
    locked,
    restoring,
]


@pytest.mark.parametrize("state", STATES, ids=lambda state: state.__name__)
@pytest.mark.parametrize("times", [1, 2], ids=["once", "twice"])
def test_a_stop_in_any_state_keeps_what_was_queued(make_gateway, state, times):
    """And the next process sends it; a second signal changes nothing of that."""
    script = {"answer": SLOW}

    def answer(sent: Sent) -> Answer:
        return script["login"] if sent.path == "/login" and "login" in script else scripted(sent)

    scripted = sign_in_or(lambda sent: script["answer"])
    google = Upstream(answer).start()
    try:
        gateway = make_gateway(google.section(), node2dm="drain = 0")
        state(gateway, google, script)
        before = sum(gateway.stats()[name] for name in ("messages_in_queue", "messages_sent"))
        if state is restoring:
            before = 900 - 100
        push_many(gateway, range(100))
        wait_until(lambda: gateway.stats()["messages_received"] >= 100, "all are received")
        began = time.monotonic()
        end(gateway, times)
        assert time.monotonic() - began < 10
        assert "Traceback" not in gateway.log
        count = spooled(gateway)
        assert count == before + 100 or (state is restoring and count >= 900)
        for lock in (gateway.folder / "state").glob("quota.lock*"):
            lock.unlink()
        script.pop("login", None)
        restart(gateway, script, count)
    finally:
        google.stop()


def test_a_stop_while_it_starts_keeps_the_spool(make_gateway):
    """Whenever the signal comes, from the first moment to the last."""
    script = {"answer": SLOW}
    with upstream(lambda sent: script["answer"]) as google:
        gateway = make_gateway(google.section(), node2dm="drain = 0").start()
        push_many(gateway, range(1_200))
        gateway.wait_for(messages_received=1_200)
        gateway.stop()
        assert spooled(gateway) == 1_200
        for step in range(12):
            gateway.start(wait=False)
            time.sleep(step * 0.15)  # the moment is what is tested
            end(gateway, 1 + step % 2)
            assert spooled(gateway) == 1_200
        restart(gateway, script, 1_200)


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_ends_the_drain(make_gateway, how):
    """At once; what was still to be sent is in the spool, and no traceback in the log."""
    script = {"answer": SLOW}
    with upstream(lambda sent: script["answer"]) as google:
        gateway = make_gateway(google.section(), node2dm="drain = 60", prefix=HEEDING).start()
        push_many(gateway, range(500))
        gateway.wait_for(messages_received=500, messages_in_flight=8)
        gateway.process.send_signal(how)
        wait_until(lambda: not is_open(gateway.udp), "it takes no more")
        assert gateway.stats()["messages_in_queue"] == 500
        began = time.monotonic()
        assert gateway.stop(how=how) == 0
        assert time.monotonic() - began < 5
        assert spooled(gateway) == 500
        restart(gateway, script, 500)


def is_open(port: int) -> bool:
    """Whether a UDP socket has this port."""
    lines = Path("/proc/net/udp").read_text(encoding="ascii").split("\n")
    return any(f":{port:04X} " in line for line in lines)


def test_sighup_while_it_starts_is_obeyed_when_it_is_ready(make_gateway):
    """However often it comes; a configuration that was changed meanwhile is read."""
    with upstream(lambda sent: Answer()) as google:
        gateway = make_gateway(google.section()).start(wait=False)
        maps = Path(f"/proc/{gateway.process.pid}/maps")
        wait_until(lambda: "cryptography" in maps.read_text(encoding="utf-8"), "it loads its parts")
        for _ in range(3):
            gateway.process.send_signal(signal.SIGHUP)
        assert is_in(gateway, "SigCgt", signal.SIGHUP)
        wait_until(lambda: "reloaded: nothing" in gateway.log, "it has reloaded")
        gateway.push(b"d:k:1")
        gateway.wait_for(messages_sent=1)
        assert gateway.log.count("reloaded: ") == 1
        gateway.node2dm = "max_queued = 500"
        gateway.write_config()
        gateway.process.send_signal(signal.SIGHUP)
        wait_until(lambda: "reloaded: [node2dm] max_queued" in gateway.log, "it has reloaded")
        assert gateway.stop() == 0


def test_sighup_while_it_stops_changes_nothing(make_gateway):
    """The stop goes on."""
    script = {"answer": SLOW}
    with upstream(lambda sent: script["answer"]) as google:
        gateway = make_gateway(google.section(), node2dm="drain = 2").start()
        gateway.push(b"d:k:1")
        gateway.wait_for(messages_received=1)
        gateway.process.send_signal(signal.SIGTERM)
        wait_until(lambda: not is_open(gateway.udp), "it takes no more")
        gateway.process.send_signal(signal.SIGHUP)
        assert gateway.process.wait(20) == 0
        assert "reloaded" not in gateway.log
        restart(gateway, script, 1)
