"""What docs/callbacks.md says to type works, and what it says will come does."""

import base64
import json
import os
import re
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from standardwebhooks import Webhook

from node2dm_tw.config.load import load
from tests.e2e.test_callback_events import SECRET, by_payload, section
from tests.support.gateway import TWISTD, GatewayProcess
from tests.support.ports import free_port
from tests.support.tools import tool
from tests.support.upstream import Answer, Upstream, upstream
from tests.support.waiting import wait_until
from tests.unit.config.test_load import SIGNING_SECRET

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/callbacks.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^<!-- ([^\n]*) -->\n```(\w+)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)

Start = Callable[..., subprocess.Popen[bytes]]


def block(language: str, part: str) -> str:
    """The one block of this language that has `part` in it."""
    (found,) = [text for _, kind, text in BLOCKS if kind == language and part in text]
    return found


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts programs in one folder, each with a log; they are stopped at the end."""
    started = []

    def start(*command: str, log: str) -> subprocess.Popen[bytes]:
        with (tmp_path / log).open("wb") as output:
            process = subprocess.Popen(
                command,
                cwd=tmp_path,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        started.append(process)
        return process

    yield start
    for process in started:
        os.killpg(process.pid, 15)
        process.wait(60)


def wait_for_receiver(port: int, log: Path) -> None:
    """Wait until a receiver answers; it refuses what is not signed."""

    def refuses() -> bool:
        assert "Error" not in log.read_text(), log.read_text()
        return post(port, {}, b"{}") == 401

    wait_until(refuses, "the receiver answers")


def post(port: int, headers: dict[str, str], body: bytes) -> int:
    """Post to a receiver; return the status of its answer, 0 where there is none."""
    request = urllib.request.Request(f"http://127.0.0.1:{port}/push-failed", body, headers)
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        with error:
            return error.code
    except OSError:
        return 0


def forgeries(secret: str) -> dict[str, tuple[dict[str, str], bytes]]:
    """Requests that a receiver must refuse, by what is wrong with them."""

    def signed(secret: str, body: bytes, age: float = 0.0) -> dict[str, str]:
        moment = datetime.fromtimestamp(time.time() - age, UTC)
        signature = Webhook(secret).sign("msg_1", moment, body.decode())
        return {
            "webhook-id": "msg_1",
            "webhook-timestamp": str(int(moment.timestamp())),
            "webhook-signature": signature,
        }

    body = json.dumps({"outcome": "bad_device", "device_token": "forged", "reason": "x"}).encode()
    good = signed(secret, body)
    return {
        "another secret": (signed(SIGNING_SECRET, body), body),
        "another body": (good, body.replace(b"forged", b"others")),
        "another id": ({**good, "webhook-id": "msg_2"}, body),
        "too old": (signed(secret, body, age=600), body),
        "too new": (signed(secret, body, age=-600), body),
        "no signature": ({**good, "webhook-signature": ""}, body),
        "a signature of another kind": ({**good, "webhook-signature": "v1"}, body),
        "a signature that is not base64": ({**good, "webhook-signature": "v1,x"}, body),
        "bytes that are no text": (good, b"\xff"),
    }


def test_from_a_push_to_a_callback_that_is_verified(tmp_path, start):
    """Every block of the first part, in its order; forgeries are refused."""
    tool("nc")
    port, gateway = free_port(), GatewayProcess(tmp_path)
    ports = {"8000": port, "8120": gateway.udp, "8121": gateway.stats_port}

    def read(text: str) -> str:
        text = re.sub("8000|8120|8121", lambda match: str(ports[match[0]]), text)
        return text.replace(".venv/bin", str(TWISTD.parent))

    shell = ["bash", "-euc"]
    subprocess.run([*shell, block("sh", "whsec_")], cwd=tmp_path, check=True)
    assert (tmp_path / "signing-secret").stat().st_mode & 0o077 == 0
    (tmp_path / "receiver.py").write_text(block("python", "from flask"))
    start(*shell, "exec " + read(block("sh", "flask --app")), log="receiver.log")
    log = tmp_path / "receiver.log"
    wait_for_receiver(port, log)
    settings = block(
        "ini", "path = /push-failed\nformat = json\nsigning_secret_file = signing-secret\n"
    )
    settings = read(settings).replace(
        "[node2dm]\n",
        f"[node2dm]\nudp = 127.0.0.1:{gateway.udp}\n"
        f"stats = tcp:{gateway.stats_port}:interface=127.0.0.1\n",
    )
    listen = f"[emulator]\nlisten = tcp:{gateway.emulator_port}:interface=127.0.0.1\n"
    (tmp_path / "callback.ini").write_text(settings.replace("[emulator]\n", listen))
    gateway.process = start(*shell, "exec " + read(block("sh", "-c callback.ini")), log="log")
    wait_until(gateway._answers, "telnet answers")

    subprocess.run([*shell, read(block("sh", "printf"))], cwd=tmp_path, check=True)
    gateway.wait_for(callbacks_sent=1)
    assert block("text", "bad_device") in log.read_text()

    secret = (tmp_path / "signing-secret").read_text().strip()
    for name, (headers, body) in forgeries(secret).items():
        assert post(port, headers, body) == 401, name
    assert "forged" not in log.read_text()
    assert "Traceback" not in log.read_text()


def test_the_receiver_in_django(tmp_path, start, make_gateway):
    """In a project as startproject makes it, served by runserver."""
    django = [sys.executable, "-m", "django", "startproject", "receiver", "."]
    subprocess.run(django, cwd=tmp_path, check=True)
    (tmp_path / "signing-secret").write_text(SECRET + "\n")
    (tmp_path / "receiver/urls.py").write_text(block("python", "from django"))
    port, log = free_port(), tmp_path / "receiver.log"
    serve = ("manage.py", "runserver", "--noreload", f"127.0.0.1:{port}")
    start(sys.executable, *serve, log="receiver.log")
    wait_for_receiver(port, log)
    config = f"[c2dm]\n[emulator]\n{section(port)}path = /push-failed\n"
    gateway = make_gateway(config).start()
    gateway.push(b"nobody:greeting:{}")
    gateway.wait_for(callbacks_sent=1)
    assert block("text", "bad_device") in log.read_text()
    for name, (headers, body) in forgeries(SECRET).items():
        assert post(port, headers, body) == 401, name
    assert "forged" not in log.read_text()


@pytest.mark.parametrize("form", ["form", "json"])
def test_the_signature_without_a_library(make_gateway, form):
    """The function of the page takes what a gateway has signed, form or JSON, and nothing else."""
    names: dict[str, Callable[..., bool]] = {}
    exec(block("python", "def is_genuine"), names)
    is_genuine = names["is_genuine"]
    hook = Upstream(lambda sent: Answer(b"")).start()
    try:
        with upstream(by_payload) as google:
            webhook = section(hook.port).replace("format = json", f"format = {form}")
            gateway = make_gateway(google.section() + webhook).start()
            gateway.push(b"gone:key:Error=NotRegistered")
            gateway.wait_for(callbacks_sent=1)
    finally:
        hook.stop()
    (sent,) = hook.requests
    assert is_genuine(SECRET, sent.headers, sent.body)
    assert Webhook(SECRET).verify(sent.body, sent.headers, json_parse=False) is None
    assert not is_genuine(SIGNING_SECRET, sent.headers, sent.body)
    assert not is_genuine(SECRET, sent.headers, sent.body + b" ")
    late = {**sent.headers, "webhook-timestamp": str(int(time.time()) - 600)}
    assert not is_genuine(SECRET, late, sent.body)


def test_the_configuration_of_several_webhooks(tmp_path):
    """It loads as it stands, with the files it names; the sections share nothing."""
    for name in ("key.json", "shop.json"):
        (tmp_path / name).touch(0o600)
    for name, byte in (("signing-secret", b"a"), ("shop-signing-secret", b"b")):
        (tmp_path / name).write_text(f"whsec_{base64.b64encode(byte * 32).decode()}\n")
        (tmp_path / name).chmod(0o600)
    file = tmp_path / "config.ini"
    file.write_text(block("ini", "[callback:shop]"))
    settings = load(file, tmp_path, lambda *_: {}, lambda _: None)
    common, shop = settings.callbacks
    assert (common.signing_secret, shop.signing_secret) == (b"a" * 32, b"b" * 32)
    assert (common.url, common.format) == ("https://www.example.com/push-failed", "form")
    assert (shop.route, shop.outcomes) == ("shop", {"bad_device", "refused"})


def test_every_block_says_what_runs_it():
    """And the test that it names is one of these."""
    assert len(BLOCKS) == PAGE.count("\n```") // 2
    here = f"tests/e2e/{Path(__file__).name}"
    for note, _, _ in BLOCKS:
        kind, _, name = note.partition(": ")
        assert kind == "not run" or (kind == "run by" and name.partition("::")[0] == here)
        assert kind == "not run" or name.partition("::")[2] in globals()
