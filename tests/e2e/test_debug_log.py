"""With `log_level = debug` the log says what became of each push; without it does not."""

import json
import signal

import pytest

from tests.support.gateway import GatewayProcess
from tests.support.upstream import Answer, Sent, upstream
from tests.support.waiting import wait_until

TOKEN = b"APA91bHun4MxP5egoKMwt2KZFBaFUH-1RYqx"
LINES = [
    "c2dm: push to APA91bHun4... queued",
    "c2dm: push to APA91bHun4... sent: 0:1234",
    "c2dm: push to gone queued",
    "c2dm: push to gone ended: bad_device: NotRegistered",
]


def answer(sent: Sent) -> Answer:
    is_gone = sent.form["registration_id"] == "gone"
    return Answer(b"Error=NotRegistered" if is_gone else b"id=0:1234")


def traced(gateway: GatewayProcess) -> list[str]:
    """The lines on single pushes that are logged at level debug."""
    return [line for line in messages(gateway) if line in LINES]


def messages(gateway: GatewayProcess) -> list[str]:
    if "log_format = json" in gateway.node2dm:
        return [json.loads(line)["message"] for line in gateway.log.splitlines()]
    return [line.partition("] ")[2] for line in gateway.log.splitlines()]


def push(gateway: GatewayProcess, times: int) -> None:
    for device, outcome in ((TOKEN, "messages_sent"), (b"gone", "messages_bad_device")):
        gateway.push(device + b":key:payload")
        gateway.wait_for(**{outcome: times})


def reload(gateway: GatewayProcess, level: str) -> None:
    before = gateway.log.count("reloaded: [node2dm] log_level")
    gateway.node2dm = gateway.node2dm.partition("log_level")[0] + f"log_level = {level}"
    gateway.write_config()
    assert gateway.process is not None
    gateway.process.send_signal(signal.SIGHUP)
    wait_until(
        lambda: gateway.log.count("reloaded: [node2dm] log_level") > before, "it is reloaded"
    )


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_each_push_from_its_intake_to_its_end(make_gateway, log_format):
    """From SIGHUP to SIGHUP, for the part that is asked for; tokens are shortened."""
    with upstream(answer) as google:
        node2dm = f"log_format = {log_format}\nlog_level = info"
        gateway = make_gateway(google.section(), node2dm=node2dm).start()
        push(gateway, 1)
        assert traced(gateway) == []
        reload(gateway, "debug")
        push(gateway, 2)
        assert traced(gateway) == LINES
        reload(gateway, "info, delivery=debug")
        push(gateway, 3)
        assert traced(gateway) == [*LINES, LINES[1], LINES[3]]
        reload(gateway, "info")
        push(gateway, 4)
        assert traced(gateway) == [*LINES, LINES[1], LINES[3]]
        assert TOKEN.decode() not in gateway.log


def test_the_values_of_a_line_can_be_counted_by(make_gateway):
    """As JSON each is there by its name, from the start on."""
    with upstream(answer) as google:
        node2dm = "log_format = json\nlog_level = debug"
        gateway = make_gateway(google.section(), node2dm=node2dm).start()
        push(gateway, 1)
        found = [json.loads(line) for line in gateway.log.splitlines()]
    (sent,) = [line for line in found if line["message"] == LINES[1]]
    assert sent["event"] == "{route}: push to {target} sent: {name}"
    assert sent["level"] == "debug"
    assert {name: sent[name] for name in ("route", "target", "name")} == {
        "route": "c2dm",
        "target": "APA91bHun4...",
        "name": "0:1234",
    }
    (ended,) = [line for line in found if line["message"] == LINES[3]]
    assert (ended["outcome"], ended["reason"]) == ("bad_device", "NotRegistered")


def test_a_push_that_the_queue_drops(make_gateway):
    """Ends in the log like any other."""
    with upstream(lambda sent: Answer(b"", 503, ("Retry-After: 50",))) as google:
        node2dm = "log_level = debug\nmax_queued = 2"
        gateway = make_gateway(google.section(), node2dm=node2dm).start()
        gateway.push(b"phone:key:1", b"phone:key:2", b"phone:key:3", b"phone:key:4")
        gateway.wait_for(messages_received=4, messages_overflowed=2)
        ended = [line for line in messages(gateway) if " ended: " in line]
        assert ended == ["c2dm: push to phone ended: overflowed: max_queued is reached"] * 2
