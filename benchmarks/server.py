"""A server that takes pushes by UDP and is measured: a process of its own, on a core of its own."""

import os
import signal
import socket
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import attrs

from benchmarks.machine import spawn
from benchmarks.meters import cpu_clock
from benchmarks.udp_socket import udp_socket
from benchmarks.waiting import wait_until


def free_port(kind: int) -> int:
    """Find a port that nobody has now, below the range from which the kernel gives ports out."""
    while True:
        port = 10_000 + int.from_bytes(os.urandom(2)) % 20_000
        with socket.socket(socket.AF_INET, kind) as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port


@attrs.define(eq=False)
class Server:
    """Runs while the context lasts.

    Args:
        folder: for its files; it is made.

    Attributes:
        udp: the port for pushes.
        stats_port: the port for statistics.
        started: the moment of the start, on the monotonic clock.
    """

    folder: Path
    udp: int = attrs.field(factory=lambda: free_port(socket.SOCK_DGRAM), init=False)
    stats_port: int = attrs.field(factory=lambda: free_port(socket.SOCK_STREAM), init=False)
    started: float = attrs.field(default=0.0, init=False)
    process: subprocess.Popen[bytes] = attrs.field(init=False)

    def prepare(self) -> Sequence[str | Path]:
        """Write the configuration; give the command."""
        raise NotImplementedError

    def environment(self) -> Mapping[str, str]:
        """Give the variables it needs beside ours."""
        return {}

    def is_up(self) -> bool:
        """Tell whether it takes pushes."""
        return udp_socket(self.udp) is not None

    def start(self) -> None:
        """Start it, without waiting for it."""
        self.folder.mkdir()
        command = self.prepare()
        self.started = time.monotonic()
        with (self.folder / "log").open("ab") as log:
            self.process = spawn(
                "measured",
                command,
                self.environment(),
                cwd=self.folder,
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    def stop(self, how: int = signal.SIGTERM, seconds: float = 120) -> None:
        """End it."""
        if self.process.poll() is None:
            self.process.send_signal(how)
        try:
            self.process.wait(seconds)
        finally:
            self.process.kill()
            self.process.wait()

    def __enter__(self) -> Self:
        self.start()
        try:
            wait_until(self._is_up, "the server is up", 120)
        except BaseException:
            self.stop(signal.SIGKILL)
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        where: TracebackType | None,
    ) -> None:
        self.stop(signal.SIGKILL if kind else signal.SIGTERM)

    def _is_up(self) -> bool:
        if self.process.poll() is not None:
            raise RuntimeError(f"it has ended:\n{self.log()}")
        return self.is_up()

    def log(self) -> str:
        """Read what it has logged."""
        return (self.folder / "log").read_text(encoding="utf-8", errors="replace")

    def cpu(self) -> float:
        """Seconds of CPU so far, user and system."""
        return time.clock_gettime(cpu_clock(self.process.pid))

    def memory(self) -> int:
        """Bytes that are resident now."""
        return self._status("VmRSS")

    def peak_memory(self) -> int:
        """The most bytes that were ever resident."""
        return self._status("VmHWM")

    def dropped(self) -> int:
        """Datagrams that the kernel dropped since its buffer was full."""
        found = udp_socket(self.udp)
        return found.dropped if found else 0

    def has_read_all(self) -> bool:
        """Tell whether no datagram waits in the kernel."""
        found = udp_socket(self.udp)
        return found is not None and found.waiting == 0

    def _status(self, name: str) -> int:
        lines = Path(f"/proc/{self.process.pid}/status").read_text(encoding="ascii").splitlines()
        line = next(line for line in lines if line.startswith(f"{name}:"))
        return int(line.split()[1]) * 1024
