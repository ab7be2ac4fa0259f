"""What a push costs a gateway, from datagram to settled."""

import time
from collections.abc import Callable
from signal import SIGCONT, SIGSTOP
from typing import Any

import attrs

from benchmarks.bench import Bench
from benchmarks.gateway import BenchmarkGateway
from benchmarks.meters import CPU, Callgrind
from benchmarks.pushes import send
from tests.support.waiting import wait_for_count, wait_until

FAST, GENTLE = 20_000.0, 2_000.0
"""Datagrams a second; gently enough for a gateway under valgrind."""

WARM = 2_000
"""Pushes sent before measuring begins: the window has opened, connections stand."""

_CHARGED, _SETTLING = 1_280, 0.1
"""Bytes that the kernel takes of the receive buffer for a datagram of ours; seconds after the last
request in which its answer is settled."""


@attrs.frozen
class Cost:
    """What one push used, pushes a second, pushes lost, and bytes of the gateway at the peak."""

    used: float
    rate: float
    lost: int = 0
    peak_memory: int = 0


def measure(bench: Bench, subject: dict[str, Any], meter: CPU | Callgrind, count: int) -> Cost:
    """Let the gateway work off datagrams that the kernel holds for it.

    They are sent while the gateway is stopped (SIGSTOP). So the sender costs nothing while the
    gateway works, and start-up, sign-in and handshakes are not in the costs.
    """
    with bench.gateway(**subject, wrapper=meter.wrapper) as gateway:
        arrived = warm_up(bench, gateway, WARM)
        most = int(gateway.stats()["rcvbuf"]) // _CHARGED
        meter.begin(gateway.pid)
        used = seconds = 0.0
        for sent in range(0, count, most):
            batch = min(most, count - sent)
            time.sleep(_SETTLING)
            meter.read_delta()
            seconds += _work_off(gateway, arrived, WARM + sent, batch)
            time.sleep(_SETTLING)
            used += meter.read_delta()
        settled = count - (lost := max(0, WARM + count - arrived()))
        return Cost(used / settled, settled / seconds, lost, gateway.memory("VmHWM"))


def _work_off(
    gateway: BenchmarkGateway, arrived: Callable[[], int], before: int, count: int
) -> float:
    """Send `count` pushes while the gateway is stopped; give the seconds that it then takes."""
    assert gateway.process is not None
    gateway.process.send_signal(SIGSTOP)
    send(gateway.udp, count, FAST, before)
    begun = time.monotonic()
    gateway.process.send_signal(SIGCONT)
    wait_for_count(arrived, before + count, every=0.005)
    return time.monotonic() - begun


def warm_up(bench: Bench, gateway: BenchmarkGateway, count: int) -> Callable[[], int]:
    """Send `count` pushes and wait for them; give a function that counts those that arrived."""
    wait_until(lambda: gateway.stats()["signed_in"] == "true", "it signs in", 300)
    base = bench.upstream.requests()

    def arrived() -> int:
        return bench.upstream.requests() - base

    fill(gateway, count, GENTLE)
    wait_for_count(arrived, count)
    return arrived


def fill(gateway: BenchmarkGateway, count: int, rate: float, first: int = 0) -> None:
    """Send `count` pushes and wait until the gateway has read them."""
    send(gateway.udp, count, rate, first)
    wait_until(gateway.has_read_all, "every datagram is read", 300)
