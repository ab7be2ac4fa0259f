"""docs/install.md, typed as it stands: an installation as root, in a mount namespace of its own."""

import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import attrs
import pytest

from node2dm_tw.emulator.testing import start
from tests.packaging.test_packaging import call, copy_of_checkout, environment
from tests.support.ports import free_port
from tests.support.tools import tool
from tests.support.waiting import PATIENCE, wait_until

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs/install.md").read_text(encoding="utf-8")
BLOCKS: list[tuple[str, str]] = re.findall(r"^```(\w+)\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)
UNIT = "etc/systemd/node2dm.service"
PYTHON = "/usr/bin/python3"

pytestmark = pytest.mark.slow


def block(language: str, part: str) -> str:
    """The one block of this language that has `part` in it."""
    (found,) = [text for kind, text in BLOCKS if kind == language and part in text]
    return found


@attrs.frozen
class Machine:
    """This machine, seen through a mount namespace: what is installed here is gone at its end."""

    holder: "subprocess.Popen[bytes]"
    checkout: Path

    def command(self, script: str) -> list[str]:
        inside = ["nsenter", f"--target={self.holder.pid}", "--mount", f"--wd={self.checkout}"]
        return [*inside, "bash", "-euc", script]

    def type(self, script: str) -> str:
        """Run what a page says; what it writes, errors too."""
        done = subprocess.run(
            self.command(script),
            env=environment() | {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            timeout=600,
        )
        assert done.returncode == 0, done.stdout
        return done.stdout

    @contextmanager
    def start(self, script: str) -> Iterator[Callable[[], str]]:
        """Run a daemon; gives its output so far, and ends it."""
        log = self.checkout / "log"
        path = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}
        with (
            log.open("wb") as output,
            subprocess.Popen(
                self.command(script), env=path, stdout=output, stderr=subprocess.STDOUT
            ) as daemon,
        ):
            try:
                yield lambda: log.read_text(encoding="utf-8")
            finally:
                daemon.terminate()


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    """`/opt` is empty; what is written to `/etc` and `/var/lib` stays in the test's folder."""
    if subprocess.run([PYTHON, "-c", "import ensurepip"], check=False).returncode:
        pytest.skip("the system's Python has no venv (Debian: python3-venv)")
    layers = tmp_path / "layers"
    script = f"mkdir {layers}; mount -t tmpfs tmpfs {layers}; mkdir {layers}/opt\n"
    script += f"mount --bind {layers}/opt /opt\n"
    for name, folder in (("etc", "/etc"), ("lib", "/var/lib")):
        upper, work = f"{layers}/{name}", f"{layers}/{name}.work"
        options = f"lowerdir={folder},upperdir={upper},workdir={work}"
        script += f"mkdir {upper} {work}; mount -t overlay -o {options} overlay {folder}\n"
    script += "echo ready; exec sleep infinity"
    with subprocess.Popen(
        ["unshare", "--mount", "sh", "-euc", script],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    ) as holder:
        try:
            if holder.stdout is None or holder.stdout.readline() != b"ready\n":
                pytest.skip("needs to mount in a namespace of its own, as root may")
            yield Machine(holder, copy_of_checkout(tmp_path))
        finally:
            holder.kill()


def unit(name: str) -> str:
    """The value of a setting of the unit."""
    text = (ROOT / UNIT).read_text(encoding="utf-8")
    (value,) = re.findall(rf"^{name}=(.*)$", text, re.MULTILINE)
    return str(value)


def as_systemd_would() -> str:
    """Make the unit's state directory and replace the shell by its ExecStart, as its user."""
    user, directory = unit("User"), f"/var/lib/{unit('StateDirectory')}"
    become = f"setpriv --reuid={user} --regid={user} --init-groups --no-new-privs --inh-caps=-all"
    return (
        f"install -d -o {user} -g {user} -m {unit('StateDirectoryMode')} {directory}\n"
        f"cd {unit('WorkingDirectory')}\n"
        f"exec {become} --bounding-set=-all {unit('ExecStart')}"
    )


def files_of_the_page() -> list[tuple[str, str, str]]:
    """Path, owner and mode of each row of the table."""
    rows = re.findall(r"^\| `(/\S+)` \| (\S+), (\d+) \|", TEXT, re.MULTILINE)
    assert len(rows) == 4
    return rows


def test_the_page_from_the_top(machine: Machine, tmp_path: Path) -> None:
    """An account of the emulator stands for one of Firebase's; a phone shows the first push."""
    tool("nc")
    udp, stats, web = free_port(socket.SOCK_DGRAM), free_port(), free_port()
    config = block("sh", "/etc/node2dm/config.ini").replace("8122", str(web))
    listen = f"udp = 127.0.0.1:{udp}\nstats = tcp:{stats}:interface=127.0.0.1\n"
    config = config.replace("[node2dm]\n", f"[node2dm]\n{listen}")
    with start(tmp_path / "firebase") as firebase:
        shutil.copy(firebase.service_account, machine.checkout / "key.json")
        key = "service_account = key.json\n"
        config = config.replace(key, f"{key}url = {firebase.fcm_url}\nca_file = ca.pem\n")
        machine.type(block("sh", "useradd"))
        machine.type(f"install -D -m 0644 {firebase.ca_file} /etc/node2dm/ca.pem")
        assert machine.type(config) == "/etc/node2dm/config.ini: ok\n"
        install_unit, *_ = block("sh", "systemctl enable").splitlines()
        machine.type(install_unit)
        with machine.start(as_systemd_would()) as log:
            for line in block("log", "signed in").replace("8120", str(udp)).splitlines():
                wait_until(lambda line=line: line in log(), line)
            phone = firebase.register(firebase.project)
            push = block("sh", "THE_TOKEN").replace("THE_TOKEN_OF_A_PHONE", phone.registration_id)
            machine.type(push.replace("node2dm-push", f"node2dm-push --port {udp}"))
            with phone:
                shown = phone.receive(PATIENCE)["notification"]
            assert shown == {"title": "Hello", "body": "World"}
            ask = block("sh", "echo stats").replace("8121", str(stats))
            wait_until(lambda: "\nmessages_sent: 1\n" in machine.type(ask), "it is counted")
            for path, owner, mode in files_of_the_page():
                user, _, group = owner.partition(":")
                found = machine.type(f"stat --format='%U:%G, 0%a' {path}").strip()
                assert found == f"{user}:{group or user}, {mode}"
            assert not re.search("warn|error|critical|Traceback", log())


def test_systemd_accepts_the_unit(machine: Machine) -> None:
    """What it starts is where the page installs it."""
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd is not installed")
    machine.type("mkdir -p /opt/node2dm/bin; install /bin/true /opt/node2dm/bin/twistd")
    for name in ("node2dm.service", "node2dm@.service"):
        assert machine.type(f"systemd-analyze verify etc/systemd/{name}") == ""


def test_an_installation_from_wheels(tmp_path: Path) -> None:
    """The folder of wheels has all that is needed, without an index."""
    checkout = copy_of_checkout(tmp_path)
    python = f"{sys.executable} -m venv"
    make = block("sh", "pip wheel").replace("python3 -m venv", python)
    call("bash", "-euc", make, cwd=checkout)
    install = block("sh", "--no-index").replace("python3 -m venv", python)
    other = tmp_path / "other"
    shutil.copytree(checkout / "dist", other / "dist")
    call("bash", "-euc", install.replace("/opt/node2dm", str(tmp_path / "venv")), cwd=other)
    call(tmp_path / "venv/bin/python", "-m", "pip", "check", cwd="/")
    assert "push gateway" in call(tmp_path / "venv/bin/twistd", "node2dm", "--help", cwd="/")


def test_every_block_is_run_or_says_why_not() -> None:
    """A line before each says which."""
    mark = r"^<!-- (run by: tests/\S+::(\w+)|not run: .+) -->\n```\w"
    marks = re.findall(mark, TEXT, re.MULTILINE)
    assert len(marks) == len(BLOCKS)
    assert {name for _, name in marks if name} <= set(globals())
