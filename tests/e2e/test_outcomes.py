"""What a real gateway records of its pushes, however each of them ends."""

import json
import os
import random
import signal
import ssl
import subprocess
import urllib.request
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.support.gateway import TERMINAL_COUNTERS, GatewayProcess, telnet
from tests.support.ports import free_port
from tests.support.small_disk import SmallDisk
from tests.support.tools import tool
from tests.support.upstream import Answer, Sent, upstream
from tests.support.waiting import wait_until

TOKEN = "correct-horse"
ENDED = [name for name in TERMINAL_COUNTERS[:-1] if name != "messages_handed_over"]
EXAMPLE = Path(__file__).parents[2] / "etc/logrotate/node2dm"

FAULTS = [
    {"endpoint": "send", "device": "too-big", "error": "MessageTooBig", "times": None},
    {"endpoint": "send", "device": "over-quota", "error": "DeviceQuotaExceeded", "times": None},
    {"endpoint": "send", "device": "demo-phone", "status": 500, "after": 500, "times": 3},
    {"endpoint": "send", "device": "demo-phone", "status": 503, "after": 1_000, "times": 1},
    {"endpoint": "fcm", "device": "gone", "error": "UNREGISTERED", "times": None},
    {"endpoint": "fcm", "device": "apns", "error": "THIRD_PARTY_AUTH_ERROR", "times": None},
]
"""What the emulator does beside delivering; an unknown device has an answer of its own."""

ROUTES = """
[c2dm]

[fcm]
device_rate = 1000000/s
bad_device_alarm = 0

[c2dm:slow]
device_rate = 5/s
device_burst = 1

[c2dm:stuck]
username = sender@example.com
password = secret
{login}

[emulator]
phones = demo-phone, demo-fcm-phone
device_quota = 1000000/s
"""


def records_in(path: Path) -> list[dict[str, Any]]:
    """The records of a file, each line of which is whole; none where there is no file."""
    content = path.read_bytes() if path.exists() else b""
    assert not content or content.endswith(b"\n"), content[-300:]
    return [json.loads(line) for line in content.splitlines()]


def set_faults(gateway: GatewayProcess) -> None:
    context = ssl.create_default_context(cafile=str(gateway.folder / "state/emulator/ca.pem"))
    url = f"https://127.0.0.1:{gateway.emulator_port}/faults"
    body = json.dumps(FAULTS).encode()
    with urllib.request.urlopen(url, body, context=context) as answer:
        assert answer.status == 200


def ask(gateway: GatewayProcess, path: str, body: bytes | None = None) -> Any:
    port = gateway.node2dm.partition("web = tcp:")[2].partition(":")[0]
    headers = {"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json"}
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", body, headers)
    with urllib.request.urlopen(request) as answer:
        return json.loads(answer.read())


def make_pushes() -> list[dict[str, Any]]:
    """10,000 pushes but for those by HTTP; a third has an id."""
    rng = random.Random(5)
    devices = ["demo-phone"] * 10 + ["nobody", "too-big", "over-quota"]
    fcm_devices = ["demo-fcm-phone"] * 8 + ["nobody", "gone", "apns"]
    pushes = [{"token": rng.choice(devices), "route": "c2dm"} for _ in range(5_700)]
    pushes += [{"token": rng.choice(fcm_devices), "route": "fcm"} for _ in range(2_000)]
    pushes += [{"token": "demo-phone", "route": "slow", "ttl": 1} for _ in range(15)]
    pushes += [{"token": "demo-phone", "route": "slow"} for _ in range(485)]
    pushes += [{"token": "demo-phone", "route": "stuck"} for _ in range(1_500)]
    for number, push in enumerate(pushes):
        push["data"] = str(number)
        collapses = push["route"] == "slow" and "ttl" not in push
        push["collapse_key"] = f"k{rng.randrange(50)}" if collapses else f"own{number}"
        if rng.random() < 1 / 3:
            push["id"] = f"push-{number}"
    return pushes


def totals(gateway: GatewayProcess) -> Counter[str]:
    """How many pushes ended in each way."""
    stats = gateway.stats()
    return Counter({name.removeprefix("messages_"): stats[name] for name in ENDED})


def test_ten_thousand_pushes_that_end_in_every_way_there_is(make_gateway):
    """Exactly one record for each; they agree with the counters and with GET /v1/push/ID.

    What a stop hands over has no record until the next process ends it.
    """
    unreachable = "login_url = https://127.0.0.1:1/\nsend_url = https://127.0.0.1:1/"
    node2dm = (
        f"outcomes = outcomes.jsonl\nmax_queued = 1000\npush_token = {TOKEN}\ndrain = 0\n"
        f"web = tcp:{free_port()}:interface=127.0.0.1"
    )
    gateway = make_gateway(ROUTES.format(login=unreachable), node2dm=node2dm).start()
    file = gateway.folder / "outcomes.jsonl"
    set_faults(gateway)
    pushes = make_pushes()
    for start in range(0, len(pushes), 100):
        chunk = pushes[start : start + 100]
        gateway.push(*(json.dumps(push).encode() for push in chunk))
        received = start + len(chunk)
        wait_until(lambda: gateway.stats()["messages_received"] == received, "the pushes")  # noqa: B023
        wait_until(lambda: gateway.stats()["messages_in_queue"] <= 1_200, "room")
    by_http = []
    for _ in range(3):
        body = [{"token": "demo-phone", "collapse_key": "k", "data": "http"}] * 100
        by_http += ask(gateway, "/v1/push", json.dumps(body).encode())["ids"]
    stats = gateway.wait_for(messages_received=10_000, messages_in_queue=1_000)
    assert stats["stuck.messages_in_queue"] == 1_000
    ended = totals(gateway)
    assert sum(ended.values()) == 9_000
    assert min(ended.values()) > 0, ended
    wait_until(lambda: len(records_in(file)) == 9_000, "the records")
    records = records_in(file)
    assert Counter(record["outcome"] for record in records) == ended
    named = {record["id"]: record for record in records}
    assert len(named) == 9_000
    assert set(by_http) <= named.keys()
    own = [push["id"] for push in pushes if push["route"] != "stuck" and "id" in push]
    assert set(own) <= named.keys()
    for push_id in [*own, *by_http]:
        assert ask(gateway, f"/v1/push/{push_id}") == named[push_id]
    for route in ("c2dm", "fcm", "slow", "stuck"):
        found = Counter(record["outcome"] for record in records if record["route"] == route)
        assert found == {
            name.removeprefix("messages_"): stats[f"{route}.{name}"]
            for name in ENDED
            if stats[f"{route}.{name}"]
        }
    check_records(records)
    assert gateway.stop() in (0, -signal.SIGTERM)
    assert len(records_in(file)) == 9_000
    gateway.config = ROUTES.format(login="")
    gateway.start()
    gateway.wait_for(messages_taken_over=1_000, messages_in_queue=0)
    later = totals(gateway)
    gateway.stop()
    records = records_in(file)
    assert Counter(record["outcome"] for record in records) == ended + later
    assert len({record["id"] for record in records}) == 10_000


def check_records(records: list[dict[str, Any]]) -> None:
    """What each way to end has in its record, and what it has not."""
    reasons: dict[str, set[str]] = {}
    for record in records:
        reasons.setdefault(record["outcome"], set()).add(record["reason"])
        is_sent = record["outcome"] == "sent"
        assert is_sent == (record["message_name"] is not None) == (record["reason"] is None)
        assert record["waited_ms"] >= 0
        if record["outcome"] in ("sent", "bad_device", "refused"):
            assert record["attempts"] >= 1
            assert record["answered_ms"] >= 0
        elif record["attempts"] == 0:
            assert record["answered_ms"] is None
    assert reasons["bad_device"] == {"InvalidRegistration", "INVALID_ARGUMENT", "UNREGISTERED"}
    assert reasons["refused"] == {"MessageTooBig", "THIRD_PARTY_AUTH_ERROR"}
    assert reasons["expired"] == {"older than its ttl"}
    assert "max_queued is reached" in reasons["overflowed"]
    assert len(reasons["overflowed"]) == 2, "and too many pushes for one device"
    attempts = Counter(record["attempts"] for record in records)
    assert attempts[2] >= 3, "three had an answer of 500 at first"
    blocked = Counter(record["attempts"] for record in records if record["outcome"] == "blocked")
    assert blocked[0] > blocked[1] > 0, "most were blocked before they were sent"


def by_payload(sent: Sent) -> Answer:
    """C2DM that answers what the payload says."""
    return Answer(sent.form["data.data"].encode())


def test_a_sample_of_the_sent_and_every_other_push(make_gateway):
    """About the share that was asked for."""
    with upstream(by_payload) as google:
        node2dm = "outcomes = outcomes.jsonl\noutcomes_sample = 25\noutcomes_targets = none"
        gateway = make_gateway(google.section(), node2dm=node2dm).start()
        for _ in range(40):
            gateway.push(*[b"phone:key:id=1"] * 50, *[b"phone:key:Error=NotRegistered"] * 5)
        gateway.wait_for(messages_received=2_200, messages_in_queue=0)
        gateway.stop()
    records = records_in(gateway.folder / "outcomes.jsonl")
    outcomes = Counter(record["outcome"] for record in records)
    assert outcomes["bad_device"] == 200
    assert 380 <= outcomes["sent"] <= 620
    assert {record["target"] for record in records} == {None}


def keep_pushing(gateway: GatewayProcess, count: int) -> None:
    """Push so many, no faster than they are received."""
    before = gateway.stats()["messages_received"]
    for done in range(0, count, 100):
        gateway.push(*[b'{"token":"phone","collapse_key":"k","data":"id=1"}'] * 100)
        wait_until(
            lambda: gateway.stats()["messages_received"] == before + done + 100,  # noqa: B023
            "the pushes",
        )


def test_the_file_is_rotated_under_load(make_gateway):
    """By moving it, by removing it, and by SIGHUP: no line is torn, and none is lost."""
    with upstream(by_payload) as google:
        gateway = make_gateway(google.section(), node2dm="outcomes = outcomes.jsonl").start()
        file = gateway.folder / "outcomes.jsonl"
        for number in range(6):
            keep_pushing(gateway, 500)
            wait_until(file.exists, "a new file")
            file.rename(file.with_suffix(f".{number}"))
            if number % 2:
                os.kill(gateway.pid, signal.SIGHUP)
                wait_until(file.exists, "a new file at once")
        gateway.wait_for(messages_sent=3_000)
        gateway.stop()
    files = gateway.folder.glob("outcomes.*")
    found = [record["id"] for path in files for record in records_in(path)]
    assert len(found) == len(set(found)) == 3_000
    assert "reloaded: nothing" in gateway.log


def test_logrotate_rotates_the_outcomes(make_gateway, tmp_path):
    """As the example says, without a signal."""
    logrotate = tool("logrotate")
    with upstream(by_payload) as google:
        gateway = make_gateway(google.section(), node2dm="outcomes = outcomes.jsonl").start()
        gateway.folder.chmod(0o755)
        file = gateway.folder / "outcomes.jsonl"
        example = EXAMPLE.read_text(encoding="utf-8")
        rules = tmp_path / "rules"
        rules.write_text(example.replace("/var/lib/node2dm/outcomes.jsonl", str(file)), "utf-8")
        rules.chmod(0o600)
        rotate = [logrotate, "--force", "--state", tmp_path / "rotations", rules]
        for _ in range(2):
            keep_pushing(gateway, 100)
            wait_until(lambda: len(records_in(file)) == 100, "the records")
            done = subprocess.run(rotate, capture_output=True, text=True, timeout=30, check=False)
            assert (done.returncode, done.stderr) == (0, "")
            wait_until(lambda: not file.exists() or not file.stat().st_size, "the rotation")
        keep_pushing(gateway, 100)
        gateway.stop()
    assert len(records_in(file)) == len(records_in(file.with_suffix(".jsonl.1"))) == 100
    assert file.stat().st_mode & 0o777 == 0o600


def test_a_killed_gateway_leaves_no_half_line(make_gateway):
    """What it had not written is lost, a second's worth; what follows begins on a new line."""
    with upstream(by_payload) as google:
        gateway = make_gateway(google.section(), node2dm="outcomes = outcomes.jsonl").start()
        file = gateway.folder / "outcomes.jsonl"
        for number in range(3):
            keep_pushing(gateway, 1_000)
            gateway.stop(signal.SIGKILL)
            with file.open("ab") as torn:  # as a kill in the middle of a write leaves it
                torn.write(b'{"time":"2026-'[: 5 * number])
            gateway.start()
        keep_pushing(gateway, 100)
        gateway.stop()
    records = records_in(file)
    assert 100 <= len(records) <= 3_100
    assert len({record["id"] for record in records}) == len(records)


def test_a_full_disk_loses_records_but_no_push(make_gateway, small_disk: SmallDisk):
    """They are counted, the log has a line at the beginning and one at the end, all lines whole."""
    with upstream(by_payload) as google:
        file = small_disk.path / "outcomes.jsonl"
        gateway = make_gateway(google.section(), node2dm=f"outcomes = {file}").start()
        keep_pushing(gateway, 100)
        wait_until(lambda: len(records_in(file)) == 100, "the records")
        small_disk.fill()
        keep_pushing(gateway, 2_000)
        stats = wait_until(
            lambda: (found := gateway.stats())["outcomes_dropped"] > 1_500 and found, "the loss"
        )
        assert stats["messages_received"] == 2_100
        gateway.wait_for(messages_sent=2_100, messages_in_queue=0)
        whole = len(records_in(file))
        (small_disk.path / "ballast").unlink()
        keep_pushing(gateway, 100)
        gateway.wait_for(messages_sent=2_200)
        gateway.stop()
    records = records_in(file)
    assert len(records) >= whole + 100
    assert f"cannot write {file} (No space left on device): outcomes are lost" in gateway.log
    lost = 2_200 - len(records)
    assert f"{file} is written again: {lost} outcomes were lost" in gateway.log
    assert gateway.log.count("is written again") == 1


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("missing/outcomes.jsonl", "No such file or directory"),
        ("state", "it is a directory"),
        ("link", "it is a symbolic link"),
    ],
)
def test_a_file_that_cannot_be_opened_ends_the_start(make_gateway, path, reason):
    """With status 1, and a line that names option, file and reason."""
    gateway = make_gateway(node2dm=f"outcomes = {path}")
    (gateway.folder / "state").mkdir(mode=0o700)
    (gateway.folder / "link").symlink_to("elsewhere")
    done = gateway.run("-n")
    file = gateway.folder / path
    assert done.returncode == 1
    line = f"node2dm cannot start: outcomes: {file} cannot be used: {reason}"
    assert line in done.stdout + done.stderr


def test_without_the_option_there_is_no_file(make_gateway):
    """And the stats say that nothing was lost."""
    gateway = make_gateway().start()
    gateway.push(b"demo-phone:k:x")
    gateway.wait_for(messages_sent=1)
    assert "outcomes_dropped: 0" in telnet(gateway.stats_port)
    gateway.stop()
    assert not list(gateway.folder.glob("outcomes*"))
