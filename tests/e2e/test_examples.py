"""The examples against a real gateway, the emulator and phones, every one a process."""

import json
import re
import signal
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import attrs
import pytest

from examples.jumpnote.server import JumpNote, Notes, serve
from node2dm_tw.client import PushClient
from node2dm_tw.emulator.phone.client import EmulatorClient
from tests.support.gateway import HEEDING, GatewayProcess
from tests.support.ports import free_port
from tests.support.waiting import wait_until

ROOT = Path(__file__).parents[2]


@attrs.define(eq=False)
class Program:
    """A running example: what it printed, and a way to type at it."""

    process: subprocess.Popen[str]
    lines: list[str] = attrs.field(factory=list)

    def listen(self) -> None:
        """Collect what it prints; meant for a thread."""
        assert self.process.stdout
        for line in self.process.stdout:
            self.lines.append(line.rstrip("\n"))

    def type(self, line: str) -> None:
        """Type a line."""
        assert self.process.stdin
        self.process.stdin.write(f"{line}\n")
        self.process.stdin.flush()

    def wait_for(self, begin: str) -> str:
        """Wait for a line that begins so; return the rest of it."""

        def found() -> list[str]:
            return [line for line in self.lines if line.startswith(begin)]

        rest: str = wait_until(found, f"{begin!r}; printed: {self.lines}")[0]
        return rest.removeprefix(begin)

    def stop(self, how: int = signal.SIGINT) -> None:
        """End it, and wait until all it printed is read."""
        self.process.send_signal(how)
        self.process.wait(60)


Start = Callable[..., Program]


@pytest.fixture
def start() -> Iterator[Start]:
    """Start an example by its module's name; each is gone at the end of the test."""
    running: list[tuple[Program, threading.Thread]] = []

    def begin(module: str, *arguments: object) -> Program:
        command = [*HEEDING, sys.executable, "-m", f"examples.{module}", *map(str, arguments)]
        process = subprocess.Popen(
            command, cwd=ROOT, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )  # fmt: skip
        program = Program(process)
        thread = threading.Thread(target=program.listen)
        thread.start()
        running.append((program, thread))
        return program

    yield begin
    for program, thread in running:
        program.process.kill()
        program.process.wait()
        thread.join()
        for pipe in (program.process.stdin, program.process.stdout):
            assert pipe
            pipe.close()


@pytest.fixture
def gateway(make_gateway: Callable[[str], GatewayProcess]) -> GatewayProcess:
    """A gateway that reports phones that are gone to the port in its configuration."""
    callback = (
        f"[callback]\nprotocol = http\nhost = 127.0.0.1\nport = {free_port()}\n"
        "path = /callback\nshared_secret = open sesame\n"
    )
    return make_gateway(f"[c2dm]\n[emulator]\n{callback}").start()


def callback_port(gateway: GatewayProcess) -> str:
    return gateway.config.partition("\nport = ")[2].partition("\n")[0]


def phone_of(gateway: GatewayProcess) -> EmulatorClient:
    """Return what can do to a phone of the gateway's emulator whatever happens to real ones."""
    ca_file = gateway.folder / "state" / "emulator" / "ca.pem"
    return EmulatorClient(f"https://127.0.0.1:{gateway.emulator_port}", ca_file)


def emulator(gateway: GatewayProcess) -> list[object]:
    """Return the options by which a phone finds the gateway's emulator."""
    client = phone_of(gateway)
    return ["--emulator", client.base_url, "--ca-file", client.ca_file]


def test_a_link_sent_to_the_phone_opens_there(gateway: GatewayProcess, start: Start) -> None:
    """A phone that is on opens a link at once; one that was off opens all it missed, each once."""
    phone = start("chrome_to_phone.phone", *emulator(gateway))
    name = phone.wait_for("registered ")

    def send(url: str, *more: str) -> None:
        to = ["--port", gateway.udp, name, url]
        assert start("chrome_to_phone.send_link", *to, *more).process.wait(60) == 0

    send("https://example.com/a?b=c", "--title", "An example: größer")
    phone.wait_for("open https://example.com/a?b=c An example: größer")
    send("file:///etc/passwd")
    phone.wait_for("ignored: 'file:///etc/passwd'")
    phone.stop()
    for url in ("https://example.com/1", "https://example.com/2", "https://example.com/1"):
        send(url)
    gateway.wait_for(messages_sent=5)
    phone = start("chrome_to_phone.phone", *emulator(gateway), "--opener", "echo opened: now")
    assert phone.wait_for("registered ") == name
    phone.wait_for("opened: now https://example.com/1")
    phone.wait_for("opened: now https://example.com/2")
    assert sum(line.startswith("opened") for line in phone.lines) == 2


def test_a_link_without_a_gateway(start: Start) -> None:
    """The sender says so, and its status is 1."""
    sender = start("chrome_to_phone.send_link", "--port", free_port(), "T", "https://example.com/")
    sender.wait_for("the link could not be sent")
    assert sender.process.wait(60) == 1


@pytest.fixture
def jumpnote(gateway: GatewayProcess, start: Start, tmp_path: Path) -> Callable[..., Program]:
    """Start phones of a JumpNote server."""
    secret = tmp_path / "secret"
    secret.write_text("open sesame\n")
    files = ["--database", tmp_path / "notes.db", "--secret-file", secret]
    ports = ["--port", callback_port(gateway), "--gateway-port", gateway.udp]
    url = start("jumpnote.server", *files, *ports).wait_for("serving at ")

    def phone(device: str, account: str = "user@example.com") -> Program:
        options = ["--device", device, "--account", account, "--server", url]
        program = start("jumpnote.phone", *emulator(gateway), *options)
        program.wait_for("ready ")
        return program

    return phone


def test_notes_follow_the_user(jumpnote: Callable[..., Program], gateway: GatewayProcess) -> None:
    """A note written on one phone shows on the user's others, both ways, and on nobody else's."""
    tablet, telephone = jumpnote("tablet"), jumpnote("telephone")
    stranger = jumpnote("strange", "stranger@example.com")
    tablet.type("add milk and bread")
    note = telephone.wait_for("note ").partition(":")[0]
    telephone.wait_for(f"note {note}: milk and bread")
    telephone.type(f"edit {note} milk, bread and caf\u00e9")
    tablet.wait_for(f"note {note}: milk, bread and caf\u00e9")
    tablet.type(f"delete {note}")
    telephone.wait_for(f"deleted {note}")
    gateway.wait_for(messages_sent=3, messages_received=3)
    assert (tablet.lines.count("ping"), telephone.lines.count("ping")) == (1, 2)
    assert len(stranger.lines) == 1


def test_a_phone_that_was_away_is_pinged_once(
    jumpnote: Callable[..., Program], gateway: GatewayProcess
) -> None:
    """Five changes while it was off: its notes are right, and one ping waited for it."""
    tablet, telephone = jumpnote("tablet"), jumpnote("telephone")
    telephone.stop()
    for number in range(5):
        tablet.type(f"edit list {number}")
    gateway.wait_for(messages_sent=5)
    telephone = jumpnote("telephone")
    telephone.wait_for("note list: 4")
    telephone.wait_for("ping")
    tablet.type("edit list last")
    telephone.wait_for("note list: last")
    assert telephone.lines.count("ping") == 2


def test_a_phone_whose_id_is_refreshed_is_still_pinged(
    jumpnote: Callable[..., Program], gateway: GatewayProcess
) -> None:
    """When Google gives the phone another ID, the pings follow; once forgotten they end."""
    tablet, telephone = jumpnote("tablet"), jumpnote("telephone")
    phone_of(gateway).refresh(telephone.wait_for("ready "))
    telephone.wait_for("registered anew")
    tablet.type("edit list after")
    telephone.wait_for("note list: after")
    telephone.type("forget")
    assert telephone.process.wait(60) == 0
    tablet.type("edit list 2")
    jumpnote("third").wait_for("note list: 2")
    assert gateway.wait_for(messages_sent=1)["messages_received"] == 1


def test_a_phone_that_vanished_is_forgotten(
    jumpnote: Callable[..., Program], gateway: GatewayProcess
) -> None:
    """The gateway's callback takes it out of the account: the second change pings nobody."""
    tablet, telephone = jumpnote("tablet"), jumpnote("telephone")
    phone_of(gateway).unregister(telephone.wait_for("ready "))
    tablet.type("edit list 1")
    gateway.wait_for(messages_bad_device=1, callbacks_sent=1)
    tablet.type("edit list 2")
    jumpnote("third").wait_for("note list: 2")
    assert gateway.stats()["messages_received"] == 1


def test_callbacks_want_the_secret(tmp_path: Path) -> None:
    """A stranger cannot have a phone forgotten; without a secret of its own nobody can."""
    notes = Notes(str(tmp_path / "notes.db"))
    notes.add_device("me", "A")
    with PushClient(port=free_port()) as client:
        for own, shown in (("right", "wrong"), ("right", ""), ("", ""), ("right", "f\u00e4lsch")):
            content = {"device_token": "A", "shared_secret": shown}
            status, _ = JumpNote(notes, client, own).answer("POST", ["callback"], content)
            assert status == 403
        assert notes.devices("me") == ["A"]
    notes.close()


def test_notes_are_kept_without_a_gateway(tmp_path: Path) -> None:
    """The application server answers as ever when there is no gateway to ping through."""
    with PushClient(port=free_port()) as client:
        notes = Notes(str(tmp_path / "notes.db"))
        jumpnote = JumpNote(notes, client)
        for phone in ("A", "B"):
            wanted = {"registration_id": phone}
            assert jumpnote.answer("POST", ["me", "devices"], wanted) == (200, {})
        for number in range(1, 4):
            change = {"registration_id": "A", "since": 0, "changes": {"n": str(number)}}
            answer = (200, {"revision": number, "notes": {"n": str(number)}})
            assert jumpnote.answer("POST", ["me", "sync"], change) == answer
        client.check(wait=5)
        assert client.counters.refused == 3
        notes.close()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    """A JumpNote server in this process; its URL."""
    notes = Notes(str(tmp_path / "notes.db"))
    with PushClient(port=free_port()) as client, serve(JumpNote(notes, client), 0) as http:
        thread = threading.Thread(target=http.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{http.server_port}"
        http.shutdown()
        thread.join()
    notes.close()


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("/me/sync", b"{", 400),
        ("/me/sync", b"[" * 60_000, 400),
        ("/me/sync", b"null", 400),
        ("/me/sync", b"\xff", 400),
        ("/me/sync", b'{"since": 0, "changes": []}', 400),
        ("/me/sync", b'{"since": 0, "changes": {"n": 5}}', 400),
        ("/me/sync", b'{"since": 0, "changes": {"n": "\\ud800"}}', 400),
        ("/me/sync", b'{"since": 99999999999999999999, "changes": {}}', 400),
        ("/me/sync", b" " * 70_000, 413),
        ("/me/devices", b'{"registration_id": 5}', 400),
        ("/me/else", b"{}", 400),
        ("/", b"{}", 400),
        ("/callback", b"device_token=A&shared_secret=", 403),
        ("/callback", b"device_token=A", 400),
        ("/callback", b"device_token=\xff", 400),
        ("/m%ff/sync", b'{"since": 0, "changes": {"n": "x", "m": null}}', 200),
    ],
)
def test_bad_requests_are_answered(server: str, path: str, body: bytes, status: int) -> None:
    """Whatever is sent to the application server, it answers with JSON, and goes on."""
    request = urllib.request.Request(server + path, body)
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            found = answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        with error:
            found = error.code, json.load(error)
    assert found[0] == status
    assert ("error" in found[1]) == (status != 200)


@pytest.mark.parametrize("name", ["chrome_to_phone", "jumpnote"])
def test_the_commands_of_the_readme_exist(name: str, start: Start) -> None:
    """Each example's README runs programs that exist, with options that they have."""
    readme = (ROOT / "examples" / name / "README.md").read_text(encoding="utf-8")
    commands = re.findall(r"^    .venv/bin/python -m examples\.(\S+)(.*)$", readme, re.MULTILINE)
    assert len(commands) >= 2
    for module, arguments in commands:
        program = start(module, *arguments.split(), "--help")
        assert program.process.wait(60) == 0
        program.wait_for("usage:")
        for option in re.findall(r"--[a-z-]+", arguments):
            assert option in " ".join(program.lines)
