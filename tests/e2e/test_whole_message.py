"""Every field of FCM's Message passes unchanged, whichever way a push comes to the gateway."""

import csv
import inspect
import json
import re
import shlex
import urllib.request
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from node2dm_tw.cli.push import main
from node2dm_tw.client import OBJECTS, Push, PushClient
from node2dm_tw.client_http import HTTPPushClient
from node2dm_tw.emulator.google import fcm_fields
from node2dm_tw.emulator.testing import PushEmulator
from tests.support.fcm_message import SYNC, WHOLE
from tests.support.gateway import GatewayProcess
from tests.support.ports import free_port
from tests.support.waiting import wait_until

ROOT = Path(__file__).parents[2]
TOKEN = "the-token-of-this-test"
NOT_SENT = {"message.name", "message.fid", "message.topic", "message.condition"}
"""The name is the answer's, and these are other targets."""


def paths(read: Callable[..., Any], prefix: str = "") -> Iterator[str]:
    """List the path of each field that a reader of the emulator knows."""
    inner = inspect.getclosurevars(read).nonlocals
    if "read" in inner:  # of each item of a list
        yield from paths(inner["read"], prefix)
    for name, reader in inner.get("readers", {}).items():
        yield prefix + name
        yield from paths(reader, f"{prefix}{name}.")


def find(body: Any, path: str) -> bool:
    """Whether the body has a field at this path."""
    for name in path.split("."):
        if name not in body:
            return False
        body = body[name]
    return True


def body_of(fields: dict[str, Any]) -> dict[str, Any]:
    """The body of the request to FCM."""
    message = {name: value for name, value in fields.items() if name != "validate_only"}
    return {"message": message} | {k: v for k, v in fields.items() if k == "validate_only"}


def test_the_pushes_have_every_field() -> None:
    """The two together have each field that the emulator takes."""
    known = set(paths(fcm_fields.read_request))
    assert len(known) > 80
    bodies = [body_of(WHOLE), body_of(SYNC)]
    missing = {path for path in known if not any(find(body, path) for body in bodies)}
    assert missing == NOT_SENT


@pytest.fixture(name="web")
def _web() -> int:
    return free_port()


@pytest.fixture(name="gateway")
def _gateway(
    push_emulator: PushEmulator, make_gateway: Callable[..., GatewayProcess], web: int
) -> GatewayProcess:
    """A gateway that takes pushes by UDP and HTTP, and sends to the emulator."""
    return make_gateway(
        f"[fcm]\nservice_account = {push_emulator.service_account}\n"
        f"url = {push_emulator.base_url}\nca_file = {push_emulator.ca_file}\ndevice_rate =\n",
        node2dm=f"web = tcp:{web}:interface=127.0.0.1\npush_token = {TOKEN}",
    ).start()


def without_age(body: dict[str, Any]) -> dict[str, Any]:
    """A body as at the moment when the push came: what is left of its ttl is less later."""
    for name in ("android", "android_v2"):
        if block := body["message"].get(name):
            assert 3_540 < int(block["ttl"].removesuffix("s")) <= 3_600
            block["ttl"] = "3600s"
    return body


def text_of(fields: dict[str, Any]) -> dict[str, Any]:
    """The same push, with its data as a text."""
    return fields | ({"data": fields["data"]["data"]} if "data" in fields else {})


def write_csv(file: Path, fields: dict[str, Any]) -> None:
    """Write one row; what is no text is JSON."""
    with file.open("w", encoding="utf-8", newline="") as opened:
        writer = csv.DictWriter(opened, fields)
        writer.writeheader()
        cells = {k: v if isinstance(v, str) else json.dumps(v) for k, v in fields.items()}
        writer.writerow(cells)


def as_options(fields: dict[str, Any]) -> list[str]:
    """The arguments of node2dm-push for one push."""
    options = [fields["token"], *([fields["data"]] if "data" in fields else [])]
    for name in OBJECTS:
        if name in fields:
            options += [f"--{name.replace('_', '-')}", json.dumps(fields[name])]
    return options + ["--validate-only"] * ("validate_only" in fields)


@pytest.mark.parametrize("whole", [WHOLE, SYNC], ids=["whole", "sync"])
def test_each_way_sends_the_same(
    push_emulator: PushEmulator, gateway: GatewayProcess, web: int, tmp_path: Path, whole: Any
) -> None:
    """By datagram, request, both clients and the command: FCM gets what was given."""
    phone = push_emulator.register(push_emulator.project)
    fields = whole | {"token": phone.registration_id}
    rows, cells = tmp_path / "rows.jsonl", tmp_path / "rows.csv"
    rows.write_text(json.dumps(fields), encoding="utf-8")
    write_csv(cells, text_of(fields))
    port, url = ["--port", str(gateway.udp)], f"http://127.0.0.1:{web}"
    (tmp_path / "push-token").write_text(TOKEN, encoding="utf-8")
    by_http = ["--http", url, "--token-file", str(tmp_path / "push-token")]

    def post() -> None:
        headers = {"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json"}
        request = urllib.request.Request(f"{url}/v1/push", json.dumps(fields).encode(), headers)
        with urllib.request.urlopen(request) as answer:
            assert answer.status == 202

    def push_by_client() -> None:
        with PushClient(port=gateway.udp, strict=True) as client:
            assert client.push(**fields)

    def push_by_http_client() -> None:
        with HTTPPushClient(url, TOKEN) as client:
            assert client.push_many([Push.from_fields(fields)])

    ways: list[Callable[[], object]] = [
        lambda: gateway.push(json.dumps(fields).encode()),
        post,
        push_by_client,
        push_by_http_client,
        lambda: main(["--from", str(rows), *port]),
        lambda: main(["--from", str(rows), *by_http]),
        lambda: main(["--from", str(cells), *port]),
        lambda: main(as_options(text_of(fields)) + port),
    ]
    seen = 0
    for way in ways:
        way()
        find_next = partial(push_emulator.log, "fcm", seen)
        (entry,) = wait_until(find_next, "the next message")
        seen = entry["number"]
        assert entry["status"] == 200, entry["answer"]
        assert without_age(json.loads(entry["body"])) == body_of(fields)
    stats = gateway.wait_for(messages_sent=len(ways))
    assert stats["messages_invalid"] == 0


def test_the_documented_command(push_emulator: PushEmulator, gateway: GatewayProcess) -> None:
    """The command of docs/fcm.md, to a device of the emulator."""
    page = (ROOT / "docs" / "fcm.md").read_text(encoding="utf-8")
    (command,) = re.findall("^node2dm-push .*--validate-only$", page, re.MULTILINE)
    phone = push_emulator.register(push_emulator.project).registration_id
    arguments = shlex.split(command.replace("demo-fcm-phone", phone))[1:]
    assert main([*arguments, "--port", str(gateway.udp)]) == 0
    gateway.wait_for(messages_sent=1)
    (entry,) = push_emulator.log("fcm")
    body = json.loads(entry["body"])
    assert body["validate_only"] is True
    assert body["message"]["android"] == {"priority": "HIGH"}
    assert body["message"]["apns"] == {"headers": {"apns-priority": "10"}}
