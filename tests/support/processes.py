"""Processes that tests start: none outlives the test, or the run."""

import ctypes
import os
import signal
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.support.waiting import PATIENCE

PR_SET_CHILD_SUBREAPER = 36


def start(command: Sequence[str | Path], log: Path, **options: Any) -> subprocess.Popen[bytes]:
    """Start a program; what it prints is appended to `log`."""
    with log.open("ab") as output:
        return subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, **options)


def stop(
    process: subprocess.Popen[Any], how: int = signal.SIGTERM, seconds: float = PATIENCE
) -> int:
    """End a program, at the latest after `seconds`; return its exit status."""
    process.send_signal(how)
    try:
        return process.wait(seconds)
    finally:
        process.kill()
        process.wait()


def adopt_orphans() -> None:
    """Become the parent of every descendant that loses its own, such as a daemon."""
    if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_CHILD_SUBREAPER)")


def children() -> set[int]:
    """Return this process's children, those too that have ended but were not waited for."""
    found: set[int] = set()
    for thread in Path("/proc/self/task").iterdir():
        try:
            found.update(map(int, (thread / "children").read_text().split()))
        except FileNotFoundError:
            continue  # The thread has ended.
    return found


def end(processes: set[int], seconds: float) -> list[str]:
    """Wait for children, and kill those left after `seconds`; return their command lines."""
    deadline = time.monotonic() + seconds
    while running := {process for process in processes if not _has_ended(process)}:
        if time.monotonic() > deadline:
            return [_kill(process) for process in running]
        time.sleep(0.01)
    return []


def kill_all() -> None:
    """Kill every descendant."""
    while found := children():
        end(found, 0.0)


def _has_ended(process: int) -> bool:
    try:
        return os.waitpid(process, os.WNOHANG) != (0, 0)
    except ChildProcessError:
        return True  # Its `Popen` waited for it.


def _kill(process: int) -> str:
    command = Path(f"/proc/{process}/cmdline").read_text(errors="replace")
    os.kill(process, signal.SIGKILL)
    os.waitpid(process, 0)
    return command.replace("\0", " ").strip()
