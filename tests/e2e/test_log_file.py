"""The log file of a real daemon while others move it, truncate it and delete it."""

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.gateway import GatewayProcess
from tests.support.tools import tool
from tests.support.upstream import Answer, Upstream
from tests.support.waiting import wait_until

EXAMPLE = Path(__file__).parents[2] / "etc/logrotate/node2dm"
FORMATS = ("text", "json")


@contextmanager
def daemon(gateway: GatewayProcess) -> Iterator[int]:
    """A gateway in the background, by its process ID."""
    done = gateway.run()
    assert (done.returncode, done.stderr) == (0, "")
    pid = int(gateway.pid_file.read_text(encoding="utf-8"))
    try:
        yield pid
    finally:
        os.kill(pid, signal.SIGTERM)
        wait_until(lambda: not gateway.pid_file.exists(), "the pid file is gone")


def text(path: Path) -> str:
    return path.read_text(encoding="utf-8") if path.exists() else ""


def lines_of(path: Path) -> list[str]:
    """The lines of a log file, each of which is whole."""
    raw = path.read_bytes()
    assert b"\x00" not in raw
    assert not raw or raw.endswith(b"\n")
    return raw.decode().splitlines()


def wait_for_word(gateway: GatewayProcess, word: str) -> None:
    """Push until a line with `word` is in the file that has the name now."""

    def is_logged() -> bool:
        gateway.push(f"demo-phone:{word}:x".encode())  # the emulator logs its collapse key
        return word in text(gateway.folder / "log")

    wait_until(is_logged, f"a line with {word}")


@pytest.mark.parametrize("log_format", FORMATS)
def test_a_log_that_was_renamed_is_opened_again_at_sigusr1(make_gateway, log_format):
    """At once, before anything is logged; lines are whole in both files."""
    gateway = make_gateway(node2dm=f"log_format = {log_format}")
    log = gateway.folder / "log"
    with daemon(gateway) as pid:
        wait_for_word(gateway, "before")
        log.rename(gateway.folder / "log.1")
        os.kill(pid, signal.SIGUSR1)
        wait_until(log.exists, "a new file")
        moved = lines_of(gateway.folder / "log.1")
        wait_for_word(gateway, "after")
        assert lines_of(gateway.folder / "log.1") == moved
    for line in lines_of(log):
        assert json.loads(line) if log_format == "json" else line[:2] == "20"


@pytest.mark.parametrize("log_format", FORMATS)
def test_a_log_that_was_deleted_or_replaced_is_opened_again(make_gateway, log_format):
    """Without a signal, within a second or at the next line."""
    gateway = make_gateway(node2dm=f"log_format = {log_format}")
    log = gateway.folder / "log"
    with daemon(gateway):
        wait_for_word(gateway, "one")
        log.unlink()
        wait_for_word(gateway, "two")
        (gateway.folder / "other").write_text("other\n", encoding="utf-8")
        (gateway.folder / "other").replace(log)
        wait_for_word(gateway, "three")
        assert lines_of(log)[0] == "other"


@pytest.mark.parametrize("log_format", FORMATS)
@pytest.mark.parametrize("how", ["create", "copytruncate", "example"])
def test_logrotate_rotates_the_log(make_gateway, tmp_path, log_format, how):
    """By its own means and by the example's: no line is torn, and none goes to the old file."""
    logrotate = tool("logrotate")
    gateway = make_gateway(node2dm=f"log_format = {log_format}")
    log, rotated = gateway.folder / "log", gateway.folder / "log.1"
    rules = tmp_path / "rules"
    if how == "example":
        example = EXAMPLE.read_text(encoding="utf-8")
        example = example.replace("/var/log/node2dm/node2dm.log", str(log))
        rules.write_text(
            example.replace("/run/node2dm/node2dm.pid", str(gateway.pid_file)), "utf-8"
        )
    else:
        rules.write_text(f"{log} {{\n{how}\nrotate 3\n}}\n", encoding="utf-8")
    rules.chmod(0o600)
    with daemon(gateway):
        gateway.folder.chmod(0o755)
        wait_for_word(gateway, "before")
        rotate = [logrotate, "--force", "--state", tmp_path / "rotations", rules]
        done = subprocess.run(rotate, capture_output=True, text=True, timeout=30, check=False)
        assert (done.returncode, done.stderr) == (0, "")
        wait_for_word(gateway, "after")
        assert any("before" in line for line in lines_of(rotated))
        old = lines_of(rotated)
        wait_for_word(gateway, "later")
        assert lines_of(rotated) == old
        assert any("later" in line for line in lines_of(log))


@pytest.mark.parametrize("log_format", FORMATS)
def test_what_an_upstream_wrote_acts_on_no_terminal(make_gateway, log_format):
    """Escape sequences, bidirectional overrides and separators in an answer are made visible."""
    evil = "\x1b]0;owned\x07\u202e\x9b31m\u2028"
    shown = r"\x1b]0;owned\x07\u202e\x9b31m\u2028"
    google = Upstream(lambda sent: Answer(f"Error={evil}.".encode(), 403)).start()
    try:
        gateway = make_gateway(google.section(), node2dm=f"log_format = {log_format}").start()
        wait_until(lambda: shown in gateway.log.replace("\\\\", "\\"), "the refused sign-in")
        assert not (set(evil) - set(shown)) & set(gateway.log)
    finally:
        google.stop()
    if log_format == "json":
        for line in gateway.log.splitlines():
            assert json.loads(line)["message"].isprintable()


def test_a_log_that_cannot_be_opened_is_named_in_one_line(make_gateway):
    """And the start ends there, with status 1."""
    gateway = make_gateway()
    done = gateway.run("-n", "--logfile=missing/log")
    path = gateway.folder / "missing/log"
    assert done.stderr == f"cannot open the log file {path}: No such file or directory\n"
    assert done.returncode == 1
