"""What README.md says to type works, and what it says will come back does."""

import re
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import attrs

from node2dm_tw.config.load import load
from node2dm_tw.emulator.testing import start
from tests.support.gateway import TWISTD, GatewayProcess
from tests.support.tools import tool
from tests.support.waiting import PATIENCE, wait_until

QUICKSTART = "[c2dm]\n[fcm]\n[emulator]\nphones = demo-phone, demo-fcm-phone\n"
"""Sections of etc/quickstart.ini."""

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
BLOCKS: list[tuple[str, str]] = _BLOCK.findall(README)


def blocks(language: str) -> list[str]:
    return [text for kind, text in BLOCKS if kind == language]


def block(language: str, part: str) -> str:
    """The one block of this language that has `part` in it."""
    (found,) = [text for text in blocks(language) if part in text]
    return found


@attrs.frozen
class Reader:
    """Types what the page says, in a folder and with ports of its own."""

    gateway: GatewayProcess

    def substituted(self, text: str) -> str:
        ports = {"8120": self.gateway.udp, "8121": self.gateway.stats_port}
        text = re.sub("8120|8121", lambda match: str(ports[match[0]]), text)
        text = re.sub(r"node2dm-push(?= demo)", rf"\g<0> --port {self.gateway.udp}", text)
        return text.replace(".venv/bin", str(TWISTD.parent))

    def type(self, *command: str) -> str:
        done = subprocess.run(
            command,
            cwd=self.gateway.folder,
            check=True,
            timeout=60,
            stdout=subprocess.PIPE,
            text=True,
        )
        return done.stdout

    def shell(self, text: str) -> str:
        return self.type("bash", "-euc", self.substituted(text))

    def python(self, text: str) -> str:
        return self.type(sys.executable, "-c", self.substituted(text))


def names(text: str) -> list[str]:
    return [line.partition(":")[0] for line in text.splitlines()]


def test_the_first_page_from_the_top(make_gateway):
    """The phones get both first pushes, the stats read as shown; then an application's pushes."""
    tool("nc")
    gateway = make_gateway(QUICKSTART).start()
    reader = Reader(gateway)
    first, second = blocks("log")
    for number, (push, shown) in enumerate((("greeting:", first), ("notification", second)), 1):
        reader.shell(block("sh", push))
        gateway.wait_for(messages_sent=number)
        assert shown in gateway.log

    answer = reader.shell(block("sh", "echo stats"))
    (text,) = blocks("text")
    assert names(answer)[: len(names(text))] == names(text)
    fixed = [line for line in text.splitlines() if re.search(r": (\d|true|false)$", line)]
    assert len(fixed) == 6
    assert set(fixed) <= set(answer.splitlines())

    (program,) = blocks("python")
    reader.python(program)
    reader.shell(block("sh", "node2dm-push"))
    gateway.wait_for(messages_received=4, messages_in_queue=0, messages_sent=4)
    assert gateway.log.count(first) == 2
    assert 'notification={"title": "Hello", "body": "Python"}' in gateway.log


def test_make_run_prints_the_same_pushes():
    """As they are in the shell that `make run` is typed in."""
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8").replace("\\", "")
    makefile = makefile.replace("$$to", "nc -u -w1 127.0.0.1 8120")
    for text in blocks("sh"):
        if text.startswith("printf"):
            assert f'    {text.strip()}"' in makefile


def test_the_daemon_starts_and_stops_as_shown(make_gateway):
    """The start line returns with the gateway running; the stop line ends it and its pid file."""
    gateway = make_gateway()
    gateway.write_config()
    reader = Reader(gateway)
    reader.shell(block("sh", "--logfile"))
    pid_file, log = gateway.folder / "node2dm.pid", gateway.folder / "node2dm.log"
    try:
        wait_until(lambda: "started: pushes on" in log.read_text(encoding="utf-8"), "it runs")
    finally:
        reader.shell(block("sh", "kill"))
        wait_until(lambda: not pid_file.exists(), "the pid file is gone")
    assert "Server Shut Down" in log.read_text(encoding="utf-8")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as free:
        free.bind(("127.0.0.1", gateway.udp))


def test_a_project_of_ones_own(make_gateway, tmp_path):
    """An account of an emulator elsewhere stands for Firebase's; a phone shows the notification."""
    tool("nc")
    assert block("sh", "twistd -n") == ".venv/bin/twistd -n --pidfile= node2dm -c config.ini\n"
    text = block("ini", "state_dir = state\n")
    with start(tmp_path / "firebase") as firebase:
        route = text[text.index("[fcm]") :]
        elsewhere = f"url = {firebase.fcm_url}\nca_file = {firebase.ca_file}\n"
        gateway = make_gateway(f"{route}{elsewhere}")
        shutil.copy(firebase.service_account, gateway.folder / "key.json")
        gateway.start()
        wait_until(lambda: "fcm: signed in" in gateway.log, "it signs in")
        with firebase.register(firebase.project) as phone:
            push = block("sh", "notification").replace("demo-fcm-phone", phone.registration_id)
            Reader(gateway).shell(push)
            shown = phone.receive(PATIENCE)["notification"]
    assert shown == {"title": "Hello", "body": "World"}


def test_the_configuration_shown_is_valid(tmp_path):
    """It loads as it stands, but for the folder of the secrets."""
    for secret in ("password", "key.json", "shop.json"):
        (tmp_path / secret).write_text("x\n", encoding="utf-8")
        (tmp_path / secret).chmod(0o600)
    file = tmp_path / "config.ini"
    routes = []
    for text in blocks("ini"):
        file.write_text(text.replace("/etc/node2dm/", ""), encoding="utf-8")
        settings = load(file, tmp_path, lambda *_: {}, lambda _: None)
        assert settings.warnings == ()
        routes.append([route.name for route in settings.routes])
    assert routes == [["fcm"], ["fcm", "shop", "c2dm"]]
    assert settings.routes[-1].password == "x"


def test_every_installation_shown_takes_the_versions_that_were_tested():
    """Or a release of tomorrow could break what was installed as the page says."""
    for page in (ROOT / "README.md", *(ROOT / "docs").glob("*.md")):
        text = page.read_text(encoding="utf-8")
        for command in re.findall(r"pip install[^`\n]*", text):
            if re.search(r" '?\.(\W|$)", command):  # of the checkout, as in '.[all]'
                assert " -c constraints.txt " in command, f"{page.name}: {command}"
