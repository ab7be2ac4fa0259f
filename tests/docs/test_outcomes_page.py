"""docs/outcomes.md: the record, the commands with jq, and the configuration of rsyslog."""

import json
import os
import signal
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from socketserver import StreamRequestHandler, TCPServer

import pytest

from tests.docs.pages import ROOT, Page
from tests.support import processes
from tests.support.gateway import GatewayProcess
from tests.support.tools import tool
from tests.support.waiting import wait_until

PAGE = Page("docs/outcomes.md", (ROOT / "docs/outcomes.md").read_text(encoding="utf-8"))


def blocks(language: str, part: str = "") -> list[str]:
    return [each.text for each in PAGE.blocks if each.language == language and part in each.text]


@pytest.fixture
def gateway(make_gateway) -> GatewayProcess:
    """A gateway that has recorded what the page shows: three pushes that were sent, two not."""
    made = make_gateway(node2dm="outcomes = outcomes.jsonl").start()
    first = {"token": "demo-phone", "id": "order-7", "collapse_key": "k", "data": "x"}
    made.push(json.dumps(first).encode(), *[b"demo-phone:k:x"] * 2, *[b"nobody:k:x"] * 2)
    made.wait_for(messages_received=5, messages_in_queue=0)
    return made


def records(gateway: GatewayProcess) -> list[dict[str, object]]:
    path = gateway.folder / "outcomes.jsonl"
    wait_until(lambda: path.read_bytes().count(b"\n") == 5, "the records")
    return [json.loads(line) for line in path.read_bytes().splitlines()]


def run(command: str, folder: Path) -> str:
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", command],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def test_the_commands_of_the_page(gateway, tmp_path):
    """Each prints what the page says; the record has the fields and the kinds of values shown."""
    tool("jq")
    by_id, by_outcome, slowest, follow = blocks("sh")
    found = records(gateway)
    (shown,) = map(json.loads, blocks("json"))
    record = json.loads(run(by_id, gateway.folder))
    assert list(record) == list(shown)
    assert [type(value) for value in record.values()] == [type(v) for v in shown.values()]
    same = ("id", "route", "target", "outcome", "reason", "attempts")
    assert [record[name] for name in same] == [shown[name] for name in same]
    (counts,) = blocks("text", "c2dm sent")
    assert [line.split() for line in run(by_outcome, gateway.folder).splitlines()] == [
        line.split() for line in counts.splitlines()
    ]
    answers = [json.loads(line) for line in run(slowest, gateway.folder).splitlines()]
    times = [each["answered_ms"] for each in answers]
    assert times == sorted(times, reverse=True)
    assert len(times) == sum(each["answered_ms"] > 0 for each in found if each["answered_ms"])
    output = tmp_path / "followed"
    following = processes.start(
        ["bash", "-c", follow], output, cwd=gateway.folder, start_new_session=True
    )
    try:
        wait_until(lambda: output.read_bytes().count(b"\n") == 2, "the pushes that were not sent")
        gateway.push(b"nobody:k:x")
        wait_until(lambda: output.read_bytes().count(b"\n") == 3, "another one")
    finally:
        os.killpg(following.pid, signal.SIGTERM)
        following.wait()


class Lines(StreamRequestHandler):
    """Collects the lines that a server receives."""

    def handle(self) -> None:
        for line in self.rfile:
            self.server.lines.append(json.loads(line))  # type: ignore[attr-defined]


@pytest.fixture
def receiver() -> Iterator[TCPServer]:
    with TCPServer(("127.0.0.1", 0), Lines) as server:
        server.lines = []  # type: ignore[attr-defined]
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield server
        server.shutdown()


def test_rsyslog_sends_every_record(gateway, receiver, tmp_path):
    """As they are in the file, over a rotation as well."""
    rsyslogd = tool("rsyslogd")
    file = gateway.folder / "outcomes.jsonl"
    records(gateway)
    (page,) = blocks("text", "imfile")
    text = page.replace("/var/spool/rsyslog", str(tmp_path))
    text = text.replace("/var/lib/node2dm/outcomes.jsonl", str(file))
    text = text.replace("logs.example.com", "127.0.0.1")
    configuration = tmp_path / "rsyslog.conf"
    configuration.write_text(text.replace("5140", str(receiver.server_address[1])), "utf-8")
    checked = subprocess.run(
        [rsyslogd, "-N1", "-f", configuration], capture_output=True, text=True, check=False
    )
    assert checked.returncode == 0, checked.stderr
    command = [rsyslogd, "-n", "-f", configuration, "-i", tmp_path / "rsyslogd.pid"]
    running = processes.start(command, tmp_path / "rsyslogd.log")
    try:
        wait_until(lambda: len(receiver.lines) == 5, "the records")
        old = file.with_suffix(".jsonl.1")
        file.rename(old)
        gateway.push(b"demo-phone:k:x")
        wait_until(lambda: len(receiver.lines) == 6, "the record after the rotation")
    finally:
        processes.stop(running, signal.SIGTERM, 20)
    content = old.read_bytes() + file.read_bytes()
    assert receiver.lines == [json.loads(line) for line in content.splitlines()]
