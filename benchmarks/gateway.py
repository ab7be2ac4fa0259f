"""The gateway that is measured: `twistd node2dm` in a process and on a core of its own."""

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import attrs

from benchmarks.machine import MEASURED
from benchmarks.upstream import Upstream
from tests.support.gateway import GatewayProcess
from tests.support.ports import free_port

CHECKOUT = Path(__file__).parents[1]
CURL1, CURL2, FCM2 = "curl, HTTP/1.1", "curl, HTTP/2", "FCM, curl, HTTP/2"
TREQ = "treq, HTTP/1.1"
SUBJECTS: dict[str, dict[str, Any]] = {
    CURL1: {},
    CURL2: {"http2": True},
    FCM2: {"service": "fcm", "http2": True},
    TREQ: {"client": "treq"},
}
"""The gateways that are compared: the arguments of `make_gateway` for each."""

TOKEN = "benchmark-push-token-of-32-chars"
"""The bearer token of pushes by HTTP."""

_SECTIONS = {
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


@attrs.define(eq=False)
class BenchmarkGateway(GatewayProcess):
    """A gateway, and what the kernel knows of it."""

    web: int = attrs.field(factory=free_port)

    def sent(self) -> int:
        """Ask how many pushes were sent."""
        return int(self.stats()["messages_sent"])

    def has_read_all(self) -> bool:
        """Look whether the kernel holds no datagram; this costs the gateway nothing."""
        sockets = Path("/proc/net/udp").read_text(encoding="ascii")
        return bool(re.search(rf": \w+:{self.udp:04X} \S+ \S+ \w+:0+ ", sockets))


def make_gateway(
    folder: Path,
    upstream: Upstream,
    *,
    service: str = "c2dm",
    client: str = "curl",
    http2: bool = False,
    answers: str = "",
    max_in_flight: int = 64,
    wrapper: Sequence[str] = (),
    queue: str = "memory",
    by_http: bool = False,
) -> BenchmarkGateway:
    """Make a gateway with one route; nothing is started.

    Args:
        answers: how C2DM answers: "" at once, "/slow" after 50 ms, "/outage" by 503 in an outage.
        wrapper: a command that runs the gateway's, such as valgrind.
        queue: the queue engine.
        by_http: whether it takes pushes by HTTP, too.
    """
    section = _SECTIONS[service].format(
        login_url=upstream.url("/accounts/ClientLogin", http2=False),
        send_url=upstream.url(f"/c2dm/send{answers}", http2=http2),
        fcm_url=upstream.url("", http2=http2),
        service_account=upstream.places.service_account,
    )
    ca_file = upstream.places.ca_file
    made = BenchmarkGateway(
        folder,
        f"[{service}]{section}ca_file = {ca_file}\n"
        f"max_in_flight = {max_in_flight}\ntimeout = 600\n",
        node2dm=f"http_client = {client}\nqueue = {queue}",
        patience=300,
        prefix=(*MEASURED, *wrapper),
        environment={**os.environ, "PYTHONPATH": str(CHECKOUT)},
    )
    if by_http:
        web = f"tcp:{made.web}:interface=127.0.0.1"
        made.node2dm += f"\nweb = {web}\npush_token = {TOKEN}"
    return made
