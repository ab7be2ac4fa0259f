"""The process by itself: how soon it takes pushes, and what it uses when there are none."""

import socket
import time
from statistics import median

from benchmarks.bench import Bench, spread
from benchmarks.gateway import BenchmarkGateway
from benchmarks.measure import warm_up
from benchmarks.meters import CPU
from benchmarks.pushes import datagram
from tests.support.waiting import wait_until


def start(bench: Bench) -> None:
    """Send datagrams from the start on, until one is counted as received."""
    bench.step("start to first datagram")
    found = [_start(bench) for _ in range(bench.scaled(5, 3))]
    what, passed = "seconds from start to first datagram accepted", median(found) < 1
    bench.check(what, spread(found, ".2f"), "below 1", passed)


def _start(bench: Bench) -> float:
    gateway = bench.make_gateway()
    seconds = accept_first(gateway)
    gateway.stop()
    return seconds


def accept_first(gateway: BenchmarkGateway) -> float:
    """Start a gateway; return the seconds until a datagram is counted as received."""
    started = time.monotonic()
    gateway.start(wait=False)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.connect(("127.0.0.1", gateway.udp))

        def is_accepted() -> bool:
            try:
                sender.send(datagram(0))
                return int(gateway.stats()["messages_received"]) > 0
            except ConnectionError:
                return False  # Nobody is there yet.

        wait_until(is_accepted, "a datagram is accepted", every=0.002)
        return time.monotonic() - started


def idle(bench: Bench) -> None:
    """Look at its CPU time for a while; connections stand, for it has sent something before."""
    seconds = bench.scaled(20, 5)
    bench.step(f"idle for {seconds} s")
    with bench.gateway() as gateway:
        warm_up(bench, gateway, 1_000)
        time.sleep(1)
        meter = CPU()
        meter.begin(gateway.pid)
        time.sleep(seconds)
        used = meter.read_delta() / seconds
    bench.below("CPU when idle", used, 0.005, "{:.2%}")
