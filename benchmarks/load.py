"""Loads a server with pushes, from a process and a core of its own."""

import subprocess
import sys
from pathlib import Path

from benchmarks.machine import spawn
from benchmarks.server import Server
from benchmarks.waiting import wait_until

CHECKOUT = Path(__file__).parents[1]


def begin(server: Server, count: int, rate: float, first: int = 0) -> subprocess.Popen[bytes]:
    """Begin to send `count` pushes, `rate` a second; `first` is the number of the first."""
    numbers = (str(server.udp), str(count), str(rate), f"--first={first}")
    command = (sys.executable, "-m", "benchmarks.sender", *numbers)
    return spawn("load", command, cwd=CHECKOUT)


def finish(server: Server, sender: subprocess.Popen[bytes], seconds: float = 300) -> None:
    """Wait until all is sent and the server has read it.

    Raises:
        RuntimeError: the sender failed.
    """
    try:
        status = sender.wait(seconds)
    finally:
        sender.kill()
        sender.wait()
    if status:
        raise RuntimeError("pushes could not be sent")
    wait_until(server.has_read_all, "every datagram is read", seconds)


def fill(server: Server, count: int, rate: float, first: int = 0) -> None:
    """Send `count` pushes and wait until the server has read them."""
    finish(server, begin(server, count, rate, first))
