"""``twistd c2dm-emulator``'s options."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from twisted.python.usage import UsageError

import node2dm_tw
from node2dm_tw.emulator.server.service import EmulatorService
from node2dm_tw.emulator.server.tap import Options, makeService
from tests.support.waiting import wait_until


def _options(*arguments):
    options = Options()
    options.parseOptions(arguments)
    return options


def test_without_a_file(tmp_path, monkeypatch):
    """The working directory is where state is kept."""
    monkeypatch.chdir(tmp_path)
    options = _options()
    assert options.settings.state_dir == tmp_path
    assert (tmp_path / "emulator" / "ca.pem").exists()
    assert isinstance(makeService(options), EmulatorService)


def test_the_gateways_file_serves(tmp_path):
    """Other sections are left alone; paths are relative to the file."""
    file = tmp_path / "config.ini"
    file.write_text(
        "[node2dm]\nstate_dir = state\nudp = x\n[c2dm]\npassword = 100%\n"
        "[emulator]\nphones = one\nlisten = tcp:9\n",
        encoding="utf-8",
    )
    settings = _options("-c", str(file)).settings
    assert settings.phones == ("one",)
    assert settings.state_dir == tmp_path / "state"


def test_all_faults_at_once(tmp_path):
    """Every error is a line: section, option, value, what is expected."""
    file = tmp_path / "config.ini"
    file.write_text("[emulator]\ncolour = red\nlisten = x\n", encoding="utf-8")
    with pytest.raises(UsageError) as raised:
        _options("--config", str(file))
    lines = str(raised.value).splitlines()
    assert [line.split(": ")[0] for line in lines] == [
        "[emulator] listen = x",
        "[emulator] colour",
    ]


def test_a_file_that_begins_with_a_byte_order_mark(tmp_path):
    """It is skipped, as by the gateway."""
    file = tmp_path / "config.ini"
    file.write_bytes(b"\xef\xbb\xbf[node2dm]\nstate_dir = state\n[emulator]\nphones = one\n")
    assert _options("-c", str(file)).settings.phones == ("one",)


def test_a_line_that_cannot_be_read_is_not_repeated(tmp_path):
    """It may be the one with the password."""
    file = tmp_path / "config.ini"
    file.write_text("[c2dm]\npassword hush\n", encoding="utf-8")
    with pytest.raises(UsageError, match="line 2: expected option = value") as raised:
        _options("-c", str(file))
    assert "hush" not in str(raised.value)


@pytest.mark.parametrize("content", [None, b"no section", b"\xff"])
def test_an_unreadable_file(tmp_path, content):
    """What cannot be read is one line too."""
    file = tmp_path / "config.ini"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(UsageError, match=r"config\.ini"):
        _options("-c", str(file))


def test_a_state_dir_that_cannot_be_made(tmp_path):
    """A file in the way is said so."""
    (tmp_path / "state").write_text("", encoding="utf-8")
    file = tmp_path / "config.ini"
    file.write_text("[node2dm]\nstate_dir = state\n", encoding="utf-8")
    with pytest.raises(UsageError, match=r"\[node2dm\] state_dir"):
        _options("-c", str(file))


PLUGIN = """
from twisted.application.service import ServiceMaker
emulator = ServiceMaker("an-emulator", "node2dm_tw.emulator.server.tap", "", "an-emulator")
"""


@pytest.fixture(name="twistd")
def _twistd(tmp_path):
    """Run twistd with a plugin of the test's own, in a folder of its own."""
    (tmp_path / "path" / "twisted" / "plugins").mkdir(parents=True)
    plugin = tmp_path / "path" / "twisted" / "plugins" / "an_emulator.py"
    plugin.write_text(PLUGIN, encoding="utf-8")
    places = [str(tmp_path / "path"), str(Path(node2dm_tw.__file__).parents[1])]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(places)}

    def run(*arguments):
        command = [sys.executable, "-c", "from twisted.scripts.twistd import run; run()"]
        return subprocess.run(
            [*command, *arguments],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            check=False,
            timeout=60,
        )

    return run


@pytest.mark.parametrize("mode", ["-n", "--logfile=log"])
def test_a_taken_port(tmp_path, twistd, mode):
    """In the foreground one line, as a daemon twistd's own; status 1, nothing left behind."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        config = f"[emulator]\nlisten = tcp:{taken.getsockname()[1]}:interface=127.0.0.1\n"
        (tmp_path / "config.ini").write_text(config, encoding="utf-8")
        done = twistd(mode, "--pidfile=pid", "an-emulator", "-c", "config.ini")
    assert done.returncode == 1
    output = (done.stdout + done.stderr).decode()
    assert "Couldn't listen" in output
    assert "Traceback" not in output
    # A daemon's parent may end a moment before the daemon has removed its PID file.
    wait_until(lambda: not (tmp_path / "pid").exists(), "the PID file is removed")


def test_faults_end_twistd(tmp_path, twistd):
    """Status 1, before anything is made."""
    (tmp_path / "config.ini").write_text("[emulator]\nlisten = x\n", encoding="utf-8")
    done = twistd("-n", "--pidfile=", "an-emulator", "-c", "config.ini")
    assert done.returncode == 1
    assert b"[emulator] listen = x: expected " in done.stdout + done.stderr
    assert not (tmp_path / "emulator").exists()
