"""No process that a test starts outlives the run, however the run ends."""

import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from tests.support.waiting import wait_until

ROOT = Path(__file__).parents[2]
DAEMON = """
import os, pathlib, time
if os.fork() == 0:
    os.setsid()
    pathlib.Path("daemon").write_text(f"{os.getpid()}\\n")
    time.sleep(600)
"""
TEST = f"""
import os, pathlib, subprocess, sys, time

def test_that_leaves_processes():
    child = subprocess.Popen(["sleep", "600"])
    subprocess.run([sys.executable, "-c", {DAEMON!r}])
    pathlib.Path("child").write_text(f"{{child.pid}}\\n")
"""


def pids(folder: Path) -> list[int]:
    """The child and the daemon of the test, once both are known."""
    texts = [file.read_text() for name in ("child", "daemon") if (file := folder / name).exists()]
    return [int(text) for text in texts if text.endswith("\n")]


@pytest.mark.parametrize(
    ("then", "options", "send", "status"),
    [
        ("pass", [], None, 1),
        ("assert False", [], None, 1),
        ("time.sleep(600)", [], signal.SIGINT, 2),
        ("time.sleep(600)", [], signal.SIGTERM, 2),
        ("time.sleep(600)", ["--numprocesses=1"], signal.SIGTERM, 2),
        ("os.kill(os.getpid(), 9)", ["--numprocesses=1"], None, 1),
    ],
    ids=["passes", "fails", "interrupted", "terminated", "workers terminated", "worker killed"],
)
def test_what_a_test_left_is_gone(tmp_path, then, options, send, status):
    """A child, and a daemon that has left its session and its parent."""
    (tmp_path / "test_it.py").write_text(f"{TEST}    {then}\n", encoding="utf-8")
    # A run in the background ignores SIGINT, and so would one that it starts.
    how = ["env", "--default-signal=INT" if send == signal.SIGINT else "--ignore-signal=INT"]
    with (tmp_path / "output").open("wb") as output:
        run = subprocess.Popen(
            [*how, sys.executable, "-m", "pytest", "-p", "tests.conftest", *options],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        started = wait_until(lambda: len(found := pids(tmp_path)) == 2 and found, "both run")
        if send:
            os.killpg(run.pid, send)
        assert run.wait(60) == status, (tmp_path / "output").read_text()
        assert [pid for pid in started if Path(f"/proc/{pid}").exists()] == []
    finally:
        with suppress(ProcessLookupError):
            os.killpg(run.pid, signal.SIGKILL)
        run.wait()
