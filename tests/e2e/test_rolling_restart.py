"""Two gateways on one port are restarted in turn under load: nothing is lost."""

import os
import re
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import attrs

from tests.docs.pages import ROOT, RUN_BY, Page
from tests.support.gateway import TWISTD, GatewayProcess
from tests.support.nginx import run_nginx
from tests.support.tools import tool
from tests.support.waiting import wait_until

UPSTREAM = """
    log_format requests '$request_uri';
    server {{
        listen 127.0.0.1:{port};
        keepalive_requests 1000000000;
        location = /login {{ access_log off; return 200 "Auth=token"; }}
        location = /send {{ access_log {log} requests; return 200 "id=1"; }}
    }}
"""
SENDERS, RATE = 20, 500


@attrs.define(eq=False)
class Load:
    """Pushes from several sockets, as from several applications, at a steady rate."""

    port: int
    sent: int = 0
    stop: threading.Event = attrs.field(factory=threading.Event)

    def send(self) -> None:
        senders = [socket.socket(type=socket.SOCK_DGRAM) for _ in range(SENDERS)]
        begin = time.monotonic()
        while not self.stop.wait(0.01):
            while self.sent < (time.monotonic() - begin) * RATE:
                line = b"phone%d:key:x" % self.sent
                senders[self.sent % SENDERS].sendto(line, ("127.0.0.1", self.port))
                self.sent += 1
        for sender in senders:
            sender.close()


@contextmanager
def load(port: int) -> Iterator[Load]:
    made = Load(port)
    thread = threading.Thread(target=made.send)
    thread.start()
    try:
        yield made
    finally:
        made.stop.set()
        thread.join()


def commands() -> list[str]:
    """The blocks of the page that this test runs."""
    page = Page("docs/restarts.md", (ROOT / "docs/restarts.md").read_text(encoding="utf-8"))
    return [block.text for block in page.blocks if block.marker == RUN_BY]


def shell(script: str, gateways: list[GatewayProcess]) -> None:
    folder = gateways[0].folder.parent
    environment = {
        **os.environ,
        "PATH": f"{TWISTD.parent}:{os.environ['PATH']}",
        "ONE_STATS": str(gateways[0].stats_port),
        "TWO_STATS": str(gateways[1].stats_port),
    }
    done = subprocess.run(
        ["sh", "-e", "-c", script],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done


def test_the_commands_of_the_page(make_gateway, tmp_path):
    """Every datagram is delivered, though first one and then the other is away for a while."""
    tool("nc")
    stop_quickly, start, look, restart = commands()
    (tmp_path / "nginx").mkdir()
    log = tmp_path / "sends"
    with run_nginx(tmp_path / "nginx", lambda port: UPSTREAM.format(port=port, log=log)) as (port,):
        url = f"http://127.0.0.1:{port}"
        section = (
            "[c2dm]\nusername = a@example.com\npassword = x\n"
            f"login_url = {url}/login\nsend_url = {url}/send\n"
        )
        one = make_gateway(section, node2dm="reuse_port = yes")
        two = make_gateway(section, node2dm="reuse_port = yes", udp=one.udp)
        pair = [one, two]
        for gateway, name in zip(pair, ("one", "two"), strict=True):
            gateway.state_dir = f"state-{name}"
            gateway.write_config()
            gateway.file.rename(tmp_path / f"{name}.ini")
        shell(start, pair)
        shell(for_two(start), pair)
        wait_for_ready(pair)
        try:
            with load(one.udp) as sending:
                wait_until(lambda: sending.sent > RATE, "both have something to do")
                shell(look, pair)
                shell(restart, pair)
                shell(for_two(look + restart), pair)
                shell(stop_quickly, pair)
                shell(start, pair)
                wait_for_ready(pair)
        finally:
            shell(stop_quickly + for_two(stop_quickly), pair)
    assert len(log.read_text(encoding="utf-8").splitlines()) >= sending.sent > 2 * RATE


def for_two(script: str) -> str:
    """Say of the second gateway what is said of the first."""
    others = {"one.": "two.", "ONE_": "TWO_", "TWO_": "ONE_"}
    return re.sub("|".join(map(re.escape, others)), lambda found: others[found[0]], script)


def wait_for_ready(pair: list[GatewayProcess]) -> None:
    for gateway in pair:
        gateway.wait_for(**{"c2dm.state": "ready"})
