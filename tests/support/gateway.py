"""A real gateway, `twistd node2dm` in a process of its own, for tests."""

import json
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Self

import attrs

from tests.support import processes
from tests.support.ports import free_port
from tests.support.waiting import PATIENCE, wait_until

HEEDING = ("env", "--default-signal=INT")
"""Starts a command that heeds SIGINT, though a suite that runs in the background ignores it."""

TWISTD = Path(sys.executable).with_name("twistd")
TERMINAL_COUNTERS = (
    "messages_sent",
    "messages_refused",
    "messages_bad_device",
    "messages_blocked",
    "messages_expired",
    "messages_collapsed",
    "messages_overflowed",
    "messages_handed_over",
    "messages_in_queue",
)
NODE2DM_LINES = [
    "uptime",
    "messages_sent",
    "messages_in_queue",
    "backing_off",
    "total_errors",
    "rate_limited_tokens",
    "logged_in_to_c2dm",
    "token_age",
    "memory_rss",
    "memory_heapTotal",
    "memory_heapUsed",
]
"""What node2dm answers to `stats`, in its order and spelling."""


def telnet(port: int, line: bytes = b"stats\r\nquit\r\n") -> str:
    """Ask the telnet port; the connection must be closed by the other side."""
    with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE) as connection:
        connection.sendall(line)
        answer = b""
        while chunk := connection.recv(65_536):
            answer += chunk
    return answer.decode()


def as_numbers(text: str) -> dict[str, Any]:
    """Read `name: value` lines."""
    pairs = (line.split(": ", 1) for line in text.splitlines() if ": " in line)
    values = {name: value.removesuffix(" seconds") for name, value in pairs}
    return {
        name: int(value) if value.removeprefix("-").isdigit() else value
        for name, value in values.items()
    }


@attrs.define(eq=False)
class GatewayProcess:
    """A gateway under `folder`; `config` is its file's text but for ports and state_dir.

    Args:
        prefix: a command that runs the gateway's, with its arguments.
        patience: seconds that its start may take.
    """

    DAEMON: ClassVar = ("--pidfile=pid", "--logfile=log")

    folder: Path
    config: str = "[c2dm]\n[emulator]\n"
    node2dm: str = ""
    more_udp: str = ""
    mode: int = 0o600
    twistd: Path = TWISTD
    prefix: tuple[str, ...] = ()
    state_dir: str = "state"
    environment: Mapping[str, str] | None = None
    udp: int = attrs.field(factory=lambda: free_port(socket.SOCK_DGRAM))
    stats_port: int = attrs.field(factory=free_port)
    emulator_port: int = attrs.field(factory=free_port)
    patience: float = PATIENCE
    process: subprocess.Popen[bytes] | None = None

    @property
    def file(self) -> Path:
        return self.folder / "config.ini"

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    @property
    def log(self) -> str:
        return (self.folder / "log").read_text(encoding="utf-8")

    def write_config(self) -> None:
        text = (
            f"[node2dm]\nudp = 127.0.0.1:{self.udp}{self.more_udp}\n"
            f"stats = tcp:{self.stats_port}:interface=127.0.0.1\nstate_dir = {self.state_dir}\n"
            f"{self.node2dm}\n{self.config}"
        )
        listen = f"[emulator]\nlisten = tcp:{self.emulator_port}:interface=127.0.0.1\n"
        self.file.write_text(text.replace("[emulator]\n", listen), encoding="utf-8")
        self.file.chmod(self.mode)

    def start(self, *, wait: bool = True) -> Self:
        self.write_config()
        self.process = processes.start(
            [*self.prefix, self.twistd, "-n", "--pidfile=", "node2dm", "-c", self.file],
            self.folder / "log",
            cwd=self.folder,
            env=self.environment,
        )
        if wait:
            wait_until(self._answers, "telnet answers", self.patience)
        return self

    def run(self, *options: str, config: str | None = None) -> subprocess.CompletedProcess[str]:
        """Run twistd until it returns by itself; without options it goes to the background.

        Args:
            options: of twistd, as `-n`.
            config: the whole text of the configuration, in place of the one it would have.
        """
        self.write_config()
        if config is not None:
            self.file.write_text(config, encoding="utf-8")
        files = ("--pidfile=", *options) if "-n" in options else (*options, *self.DAEMON)
        return self.run_twistd(*files, "node2dm", "-c", str(self.file))

    def run_twistd(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run twistd in the gateway's folder until it returns."""
        return subprocess.run(
            [self.twistd, *arguments],
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )

    @property
    def pid_file(self) -> Path:
        return self.folder / "pid"

    def _answers(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, f"it ended: {self.log}"
        try:
            return "uptime" in telnet(self.stats_port)
        except OSError:
            return False

    def memory(self, name: str = "VmRSS") -> int:
        """Read the bytes that are resident; with "VmHWM", the most that ever were."""
        status = Path(f"/proc/{self.pid}/status").read_text(encoding="ascii")
        return int(re.findall(rf"{name}:\s*(\d+)", status)[0]) * 1024

    def push(self, *lines: bytes) -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            for line in lines:
                sender.sendto(line, ("127.0.0.1", self.udp))

    def stats(self) -> dict[str, Any]:
        """The counters now; the accounting identity of the design is checked at each look."""
        values = as_numbers(telnet(self.stats_port))
        came = values["messages_received"] + values["messages_taken_over"]
        assert came == sum(values[name] for name in TERMINAL_COUNTERS), values
        return values

    def wait_for(self, seconds: float = PATIENCE, **wanted: int) -> dict[str, Any]:
        """Wait until counters have these values."""

        def reached() -> dict[str, Any] | None:
            values = self.stats()
            return values if all(values.get(k, 0) == n for k, n in wanted.items()) else None

        try:
            found: dict[str, Any] = wait_until(reached, str(wanted), seconds)
        except AssertionError as error:
            raise AssertionError(f"{error}; now {json.dumps(self.stats())}\n{self.log}") from None
        return found

    def stop(self, how: int = signal.SIGTERM, seconds: float = PATIENCE) -> int:
        """Stop it; return its exit status, negative for a signal."""
        assert self.process is not None
        return processes.stop(self.process, how, seconds)
