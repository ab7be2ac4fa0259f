"""Pushes at a steady rate while something else happens to the gateway.

As a process of its own, `python -m tests.e2e.steady_load PORT RATE`, it sends until its stdin ends,
and then prints how many it sent.
"""

import select
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

import attrs

from tests.support.gateway import GatewayProcess
from tests.support.nginx import run_nginx

UPSTREAM = """
    keepalive_requests 1000000000;
    server {{
        listen 127.0.0.1:{port};
        access_log off;
        location = /login {{ return 200 "Auth=token"; }}
        location = /send {{ return 200 "id=1"; }}
    }}
"""
TICK = 0.01


@contextmanager
def quick_upstream(folder: Path) -> Iterator[str]:
    """nginx, which costs little and answers at once; gives the section that sends to it."""
    folder.mkdir()
    with run_nginx(folder, lambda port: UPSTREAM.format(port=port)) as (port,):
        url = f"http://127.0.0.1:{port}"
        yield (
            "[c2dm]\nusername = a@example.com\npassword = x\n"
            f"login_url = {url}/login\nsend_url = {url}/send\n"
        )


@attrs.define(eq=False)
class SteadyLoad:
    """Sends pushes all the while, and watches the gateway's memory."""

    gateway: GatewayProcess
    rate: int
    memory: list[int] = attrs.field(factory=list)
    _process: Any = None
    _stop: threading.Event = attrs.field(factory=threading.Event)
    _watch: Any = None

    def __enter__(self) -> "SteadyLoad":
        self.memory.append(self.gateway.memory())
        command = [sys.executable, "-m", __name__, str(self.gateway.udp), str(self.rate)]
        root = Path(__file__).parents[2]
        self._process = subprocess.Popen(
            command, cwd=root, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        self._watch = threading.Thread(target=self._measure)
        self._watch.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: Any, traceback: TracebackType | None
    ) -> None:
        self._stop.set()
        self._watch.join()
        out, _ = self._process.communicate(timeout=20)
        if kind is None:
            self._check(int(out))

    def _check(self, sent: int) -> None:
        """Every push sent has arrived and was delivered; the gateway lost and dropped nothing."""
        assert sent > 0
        stats = self.gateway.wait_for(60, messages_sent=sent)
        assert stats["messages_received"] == sent
        assert stats["udp_dropped"] == 0

    @property
    def growth(self) -> int:
        """Bytes of resident memory, at the most, beyond those of the begin."""
        return max(self.memory) - self.memory[0]

    def _measure(self) -> None:
        while not self._stop.wait(0.05):
            self.memory.append(self.gateway.memory())


def send(port: int, rate: int) -> int:
    """Send until stdin ends."""
    sent, begin = 0, time.monotonic()
    with socket.socket(type=socket.SOCK_DGRAM) as sender:
        sender.connect(("127.0.0.1", port))
        while not select.select([sys.stdin], [], [], TICK)[0]:
            while sent < (time.monotonic() - begin) * rate:
                sender.send(b"phone%d:key:hello" % (sent % 1_000))
                sent += 1
    return sent


if __name__ == "__main__":
    sys.stdout.write(str(send(int(sys.argv[1]), int(sys.argv[2]))))
