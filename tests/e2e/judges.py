"""What reached the upstream: its own log says it, whatever the gateway says."""

import re
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Protocol

import attrs

from node2dm_tw.emulator import testing
from node2dm_tw.emulator.testing import PushEmulator
from tests.support.nginx import run_nginx
from tests.support.waiting import wait_until

SECTION = """
[c2dm:{name}]
username = sender@example.com
password = x
login_url = {login}
send_url = {send}
"""


class Judge(Protocol):
    """A running upstream.

    Attributes:
        device: a target that it accepts.
    """

    device: str

    def section(self, name: str) -> str:
        """Write the section of a route that sends to it."""
        ...

    def delivered(self) -> Counter[int]:
        """Count how often each push was accepted so far; its payload begins with a number."""
        ...


@attrs.define(eq=False)
class EmulatorJudge:
    """The emulator keeps its last thousand requests: a thread reads them all the while."""

    google: PushEmulator
    device: str = attrs.field(init=False)
    _seen: int = 0
    _delivered: Counter[int] = attrs.field(factory=Counter)
    _lock: threading.Lock = attrs.field(factory=threading.Lock)
    _stop: threading.Event = attrs.field(factory=threading.Event)

    def __attrs_post_init__(self) -> None:
        self.device = self.google.register("sender@example.com").registration_id
        # Slow enough for the reading thread, so that there is a window full of requests.
        self.google.fault(endpoint="send", delay=0.1, times=None)

    def section(self, name: str) -> str:
        google = self.google
        section = SECTION.format(name=name, login=google.login_url, send=google.send_url)
        return f"{section}ca_file = {google.ca_file}\n"

    def run(self) -> None:
        while not self._stop.wait(0.2):
            self._read()

    def stop(self) -> None:
        self._stop.set()

    def delivered(self) -> Counter[int]:
        while self._read():
            pass
        return Counter(self._delivered)

    def _read(self) -> int:
        with self._lock:
            entries = self.google.log(after=self._seen)
            if entries:
                assert entries[0]["number"] == self._seen + 1, "the log was read too rarely"
                self._seen = entries[-1]["number"]
            self._delivered.update(
                int(entry["form"]["data.data"].split()[0])
                for entry in entries
                if entry["endpoint"] == "send" and entry["answer"].startswith("id=")
            )
            return len(entries)


@contextmanager
def emulator_judge(folder: Path) -> Iterator[EmulatorJudge]:
    """Run an emulator in a process of its own."""
    with testing.start(folder) as google:
        judge = EmulatorJudge(google)
        reader = threading.Thread(target=judge.run)
        reader.start()
        try:
            yield judge
        finally:
            judge.stop()
            reader.join()


DATA = re.compile(rb"data\.data=([0-9]+)(?:%20|\+)x")
BROKEN_OFF = b"-"
"""The line of a request whose client is gone before its end."""

NGINX = """
    keepalive_requests 1000000000;
    log_format pushes "$request_body";
    server {{
        listen 127.0.0.1:{0};
        access_log off;
        client_body_buffer_size 128k;
        location = /login {{ return 200 "Auth=token"; }}
        location = /send {{ access_log sends pushes; proxy_pass http://inner; }}
    }}
    upstream inner {{ server 127.0.0.1:{1}; keepalive 64; }}
    server {{
        listen 127.0.0.1:{1};
        access_log off;
        location / {{ return 200 "id=1"; }}
    }}
"""
"""Only a request that is passed on has its body in the log."""


@attrs.define(eq=False)
class NginxJudge:
    """nginx is quick enough for a million pushes, and logs them to a file."""

    log: BinaryIO
    url: str
    device: str = "device"
    _rest: bytes = b""
    _delivered: Counter[int] = attrs.field(factory=Counter)

    def section(self, name: str) -> str:
        return SECTION.format(name=name, login=f"{self.url}/login", send=f"{self.url}/send")

    def delivered(self) -> Counter[int]:
        *lines, self._rest = (self._rest + self.log.read()).split(b"\n")
        for line in lines:
            if line != BROKEN_OFF:
                self._delivered[int(DATA.findall(line)[0])] += 1
        return Counter(self._delivered)


@contextmanager
def nginx_judge(folder: Path) -> Iterator[NginxJudge]:
    """Run nginx in a process of its own."""
    folder.mkdir()
    with run_nginx(folder, NGINX.format, ports=2) as (port, _):
        wait_until((folder / "sends").exists, "nginx has opened its log")
        with (folder / "sends").open("rb") as log:
            yield NginxJudge(log, f"http://127.0.0.1:{port}")
