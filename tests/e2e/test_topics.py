"""Topic subscriptions through a real gateway: counted, retried, and in effect at the emulator."""

import csv
import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from node2dm_tw.emulator.testing import PushEmulator, TestPhone
from tests.support.gateway import GatewayProcess
from tests.support.upstream import Answer, Upstream

PHONES = 200
PUSH = [sys.executable, "-m", "node2dm_tw.cli.push"]


def subscription(token: str, verb: str = "subscribe", topic: str = "news") -> bytes:
    return json.dumps({verb: topic, "token": token}).encode()


@pytest.fixture(name="hook")
def _hook() -> Iterator[Upstream]:
    """The application's webhook."""
    hook = Upstream(lambda sent: Answer(b"thanks")).start()
    yield hook
    hook.stop()


@pytest.fixture(name="gateway", params=["curl", "treq"])
def _gateway(
    push_emulator: PushEmulator,
    make_gateway: Callable[..., GatewayProcess],
    hook: Upstream,
    request: pytest.FixtureRequest,
) -> GatewayProcess:
    """A gateway that sends to the emulator, with each client."""
    return make_gateway(
        f"[fcm]\nservice_account = {push_emulator.service_account}\n"
        f"url = {push_emulator.base_url}\nca_file = {push_emulator.ca_file}\n"
        f"[callback]\nprotocol = http\nhost = 127.0.0.1\nport = {hook.port}\npath = /bad\n",
        node2dm=f"http_client = {request.param}",
    ).start()


@pytest.fixture(name="phones")
def _phones(push_emulator: PushEmulator) -> list[TestPhone]:
    return [push_emulator.register(push_emulator.project) for _ in range(PHONES)]


def waiting(push_emulator: PushEmulator) -> int:
    return int(push_emulator.stats()["messages_waiting"])


def received(phone: TestPhone) -> list[Any]:
    """The data of what waits for a phone."""
    found = []
    with phone:
        while True:
            try:
                found.append(phone.receive(0.2)["data"])
            except TimeoutError:
                return found


def run_push(gateway: GatewayProcess, *options: str) -> None:
    done = subprocess.run(
        [*PUSH, "--port", str(gateway.udp), "--stats", f"127.0.0.1:{gateway.stats_port}", *options],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_two_hundred_phones(gateway, push_emulator, phones, tmp_path):
    """All subscribe and get what the topic gets; half unsubscribe and get nothing more."""
    devices = tmp_path / "devices.csv"
    with devices.open("w", newline="") as file:
        csv.writer(file).writerows([["token"], *([phone.registration_id] for phone in phones)])
    run_push(gateway, "--subscribe", "news", "--from", str(devices))
    gateway.wait_for(messages_received=PHONES, messages_sent=PHONES)
    gateway.push(b'{"topic": "news", "data": {"n": "1"}}')
    gateway.wait_for(messages_sent=PHONES + 1)
    assert waiting(push_emulator) == PHONES

    # A second time each is told that it is subscribed already, which is as good.
    run_push(gateway, "--subscribe", "news", "--from", str(devices), "--rate", "2000")
    gateway.wait_for(messages_sent=2 * PHONES + 1, messages_in_queue=0)
    assert push_emulator.stats()["answers"]["topics"] == {"200": PHONES, "ALREADY_EXISTS": PHONES}

    devices.write_text("token\n" + "".join(f"{p.registration_id}\n" for p in phones[::2]))
    for _ in range(2):
        run_push(gateway, "--unsubscribe", "news", "--from", str(devices))
    gateway.wait_for(messages_sent=3 * PHONES + 1, messages_in_queue=0)
    gateway.push(b'{"condition": "\'news\' in topics", "data": {"n": "2"}}')
    gateway.wait_for(messages_sent=3 * PHONES + 2)
    assert waiting(push_emulator) == PHONES + PHONES // 2
    with ThreadPoolExecutor(16) as pool:
        for number, data in enumerate(pool.map(received, phones)):
            expected = [{"n": "1"}, {"n": "2"}] if number % 2 else [{"n": "1"}]
            assert data == expected, number
    stats = gateway.stats()
    assert stats["messages_bad_device"] == stats["messages_refused"] == 0
    assert stats["client_error_answers"] == 0
    # Each of the 600 requests has an address of its own, but no connection of its own.
    assert stats["handshakes"] < 2 * PHONES


def test_a_dead_token(gateway, push_emulator, phones, hook):
    """It is a bad device, with a callback, whether it is to be subscribed or unsubscribed."""
    gone, alive = phones[:2]
    gone.unregister()
    gateway.push(subscription(alive.registration_id), subscription(gone.registration_id))
    gateway.push(subscription(gone.registration_id, "unsubscribe"))
    stats = gateway.wait_for(messages_sent=1, messages_bad_device=2, callbacks_sent=2, seconds=40)
    assert stats["client_error_answers"] == 2
    for sent in hook.requests:
        assert sent.form["device_token"] == gone.registration_id
        assert sent.form["reason"] == "UNREGISTERED"


def test_an_outage_in_between(gateway, push_emulator, phones):
    """Subscriptions of one object wait for its end, over a restart too, and none is lost."""
    push_emulator.fault(
        endpoint="topics", error="UNAVAILABLE", headers={"Retry-After": "2"}, times=None
    )
    tokens = [phone.registration_id for phone in phones[:20]]
    gateway.push(json.dumps({"subscribe": "news", "tokens": tokens}).encode())
    gateway.wait_for(messages_received=20, backing_off="true", messages_in_queue=20)
    gateway.stop()
    push_emulator.client.ask("DELETE", "/faults")
    push_emulator.fault(endpoint="topics", cut="answer", times=2)
    gateway.start()
    gateway.wait_for(messages_taken_over=20, messages_sent=20, seconds=60)
    gateway.push(b'{"topic": "news", "data": "x"}')
    gateway.wait_for(messages_sent=21)
    assert waiting(push_emulator) == 20


def test_a_project_over_its_quota_waits(gateway, push_emulator, phones):
    """The pause is the route's, and nothing ends because of it."""
    push_emulator.fault(endpoint="topics", error="QUOTA_EXCEEDED", headers={"Retry-After": "1"})
    for phone in phones[:5]:
        gateway.push(subscription(phone.registration_id))
    stats = gateway.wait_for(messages_sent=5, messages_in_queue=0)
    assert stats["quota_answers"] >= 1


def test_the_documented_lines(make_gateway):
    """Both lines of docs/fcm.md, sent to a route of the emulator, are done."""
    page = (Path(__file__).parents[2] / "docs/fcm.md").read_text(encoding="utf-8")
    (block,) = re.findall(r'```json\n(\{"route": "fcm", "subscribe".*?)```', page, re.DOTALL)
    config = "[fcm]\n[emulator]\nphones = demo-fcm-phone\n"
    gateway = make_gateway(config).start()
    lines = block.encode().splitlines()
    gateway.push(*lines)
    gateway.wait_for(messages_sent=len(lines))


def test_other_fields_and_other_services(gateway, make_gateway):
    """What a subscription cannot have is named in the log; a C2DM route names the field."""
    gateway.push(b'{"subscribe": "news", "token": "x", "ttl": 5}')
    gateway.wait_for(**{"messages_invalid.field": 1})
    assert "field: ttl must be left out beside subscribe" in gateway.log
    c2dm = make_gateway().start()
    c2dm.push(subscription("x", "unsubscribe"))
    c2dm.wait_for(**{"messages_invalid.unsupported": 1})
    assert "unsubscribe must be left out: C2DM cannot carry it" in c2dm.log
