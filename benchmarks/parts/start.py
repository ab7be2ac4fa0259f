"""How soon after its start the gateway has accepted a datagram."""

import socket
import time

from benchmarks.bench import Bench, Check, Outcome
from benchmarks.figures import spread
from benchmarks.gateway import Setup
from benchmarks.pushes import datagram

MOST = 1.0
_EVERY = 0.002


def start(bench: Bench) -> Outcome:
    """Send datagrams from the start on, until one is counted as received."""
    bench.progress.step("start to first datagram")
    found = spread([_start(bench) for _ in range(bench.scaled(5, 3))])
    return Outcome(
        checks=[
            Check(
                "seconds from start to first datagram accepted",
                f"{found.median:.2f} ({found.least:.2f} to {found.greatest:.2f})",
                f"below {MOST:g}",
                found.median < MOST,
            )
        ]
    )


def _start(bench: Bench) -> float:
    gateway = bench.gateway(Setup())
    gateway.start()
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            sender.connect(("127.0.0.1", gateway.udp))
            deadline = gateway.started + 60
            while time.monotonic() < deadline:
                try:
                    sender.send(datagram(0))
                    if gateway.is_up() and int(gateway.stats()["messages_received"]) > 0:
                        return time.monotonic() - gateway.started
                except ConnectionRefusedError:
                    pass  # The kernel says that nobody is there yet.
                time.sleep(_EVERY)
        raise RuntimeError(f"no datagram was accepted:\n{gateway.log()}")
    finally:
        gateway.stop()
