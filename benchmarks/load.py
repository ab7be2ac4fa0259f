"""Loads a server with pushes, from a process and a core of its own."""

import subprocess
import sys
from pathlib import Path

from benchmarks.machine import spawn
from benchmarks.server import Server
from benchmarks.waiting import wait_until

CHECKOUT = Path(__file__).parents[1]
_MOST_SECONDS = 300.0


def begin(server: Server, count: int, rate: float, first: int = 0) -> subprocess.Popen[bytes]:
    """Begin to send `count` pushes, `rate` a second; `first` is the number of the first."""
    numbers = (str(server.udp), str(count), str(rate), f"--first={first}")
    command = (sys.executable, "-m", "benchmarks.sender", *numbers)
    return spawn("load", command, cwd=CHECKOUT)


def finish(sender: subprocess.Popen[bytes]) -> None:
    """Wait until all is sent.

    Raises:
        RuntimeError: the sender failed.
    """
    try:
        status = sender.wait(_MOST_SECONDS)
    finally:
        sender.kill()
        sender.wait()
    if status:
        raise RuntimeError("pushes could not be sent")


def send(server: Server, count: int, rate: float, first: int = 0) -> None:
    """Send `count` pushes."""
    finish(begin(server, count, rate, first))


def fill(server: Server, count: int, rate: float, first: int = 0) -> None:
    """Send `count` pushes and wait until the server has read them."""
    send(server, count, rate, first)
    wait_until(server.has_read_all, "every datagram is read", _MOST_SECONDS)
