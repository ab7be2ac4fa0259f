"""The gateway: `twistd node2dm` in a process of its own."""

import socket
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs

from benchmarks.server import Server
from benchmarks.upstream import LOGIN, PATHS, Upstream

CHECKOUT = Path(__file__).parents[1]
TWISTD = Path(sys.executable).with_name("twistd")

_CONFIGURATION = """
[node2dm]
udp = 127.0.0.1:{udp}
stats = tcp:{stats}:interface=127.0.0.1
state_dir = {folder}
http_client = {client}

[{service}]
ca_file = {ca_file}
max_in_flight = {max_in_flight}
timeout = {timeout}
"""

_SERVICES = {
    "c2dm": """
username = sender@example.com
password = benchmark
login_url = {login_url}
send_url = {send_url}
""",
    # The project's rate grows over a minute from nothing: to something that is never reached.
    "fcm": """
service_account = {service_account}
url = {fcm_url}
project_rate = 1000000000/s
""",
}


@attrs.frozen(kw_only=True)
class Setup:
    """How a gateway is started.

    Args:
        service: what is sent to, `c2dm` or `fcm`.
        client: what sends, `curl` or `treq`.
        http2: whether the upstream offers HTTP/2.
        answers: how the upstream answers C2DM, a key of `PATHS`.
        max_in_flight: requests in flight at the most.
        timeout: seconds for a request, a sign-in that waits at the gate included.
        wrapper: command that runs the gateway's, such as valgrind.
    """

    service: str = "c2dm"
    client: str = "curl"
    http2: bool = False
    answers: str = ""
    max_in_flight: int = 64
    timeout: float = 600
    wrapper: Sequence[str] = ()


@attrs.define(eq=False)
class Gateway(Server):
    """A gateway of ours.

    Args:
        upstream: where it sends to.
    """

    upstream: Upstream = attrs.field(kw_only=True)
    setup: Setup = attrs.field(kw_only=True)

    def prepare(self) -> Sequence[str | Path]:
        file = self.folder / "config.ini"
        file.write_text(self._configuration(), encoding="utf-8")
        file.chmod(0o600)
        twistd = (sys.executable, TWISTD, "-n", "--pidfile=", "node2dm", "-c", file)
        return (*self.setup.wrapper, *twistd)

    def environment(self) -> Mapping[str, str]:
        return {"PYTHONPATH": str(CHECKOUT)}

    def is_up(self) -> bool:
        try:
            return "uptime" in self.stats()
        except OSError:
            return False

    def is_signed_in(self) -> bool:
        """Tell whether it has a token."""
        return bool(self.stats()["signed_in"] == "true")

    def stats(self) -> dict[str, Any]:
        """Ask for the statistics."""
        with socket.create_connection(("127.0.0.1", self.stats_port), timeout=60) as connection:
            connection.sendall(b"stats\r\nquit\r\n")
            answer = b""
            while chunk := connection.recv(65_536):
                answer += chunk
        lines = (line.split(": ", 1) for line in answer.decode().splitlines() if ": " in line)
        return {name: int(value) if value.isdigit() else value for name, value in lines}

    def _configuration(self) -> str:
        setup, upstream = self.setup, self.upstream
        return (_CONFIGURATION + _SERVICES[setup.service]).format(
            udp=self.udp,
            stats=self.stats_port,
            folder=self.folder,
            client=setup.client,
            service=setup.service,
            login_url=upstream.url(LOGIN, http2=False),
            send_url=upstream.url(PATHS[setup.answers], http2=setup.http2),
            fcm_url=upstream.url("", http2=setup.http2),
            service_account=upstream.places.service_account,
            ca_file=upstream.places.ca_file,
            max_in_flight=setup.max_in_flight,
            timeout=setup.timeout,
        )
