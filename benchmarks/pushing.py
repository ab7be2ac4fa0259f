"""What a push costs a gateway, from datagram to settled."""

import signal
import time
from collections.abc import Callable

import attrs

from benchmarks import load
from benchmarks.bench import Bench
from benchmarks.gateway import Gateway, Setup
from benchmarks.meters import Meter
from benchmarks.waiting import wait_for_count, wait_until

FAST, GENTLE = 20_000.0, 2_000.0
"""Datagrams a second; gently enough for a gateway under valgrind."""

_CHARGED = 1_280
"""Bytes that the kernel takes of the receive buffer for a datagram of ours."""

_SETTLING = 0.1
"""Seconds after the last request in which its answer is settled."""


@attrs.frozen
class Amount:
    """How many pushes.

    Args:
        warm: sent before measuring begins: the window has opened, connections stand.
        measured: sent while measuring.
    """

    warm: int
    measured: int


@attrs.frozen
class Cost:
    """What one push took.

    Args:
        used: in the meter's unit.
        rate: pushes a second.
        lost: pushes that did not arrive at the upstream.
        peak_memory: bytes of the gateway.
    """

    used: float
    rate: float
    lost: int
    peak_memory: int


def measure(bench: Bench, setup: Setup, meter: Meter, amount: Amount) -> Cost:
    """Let the gateway work off datagrams that the kernel holds for it.

    They are sent while the gateway is stopped (SIGSTOP). So the one that sends costs nothing while
    the gateway works, and start-up, sign-in and handshakes are not in the costs.
    """
    with bench.gateway(attrs.evolve(setup, wrapper=meter.wrapper)) as gateway:
        arrived = warm_up(bench, gateway, amount.warm)
        most = int(gateway.stats()["rcvbuf"]) // _CHARGED
        meter.begin(gateway.process.pid)
        used = seconds = 0.0
        sent = 0
        while sent < amount.measured:
            batch = min(most, amount.measured - sent)
            sent += batch
            used_now, seconds_now = _batch(gateway, meter, arrived, amount.warm + sent, batch)
            used, seconds = used + used_now, seconds + seconds_now
        lost = amount.warm + sent - arrived()
        count = amount.measured - lost
        return Cost(used / count, count / seconds, max(0, lost), gateway.peak_memory())


def warm_up(bench: Bench, gateway: Gateway, count: int) -> Callable[[], int]:
    """Send `count` pushes and wait for them; give a function that counts those that arrived."""
    wait_until(gateway.is_signed_in, "it signs in", 60)
    base = bench.upstream.requests()

    def arrived() -> int:
        return bench.upstream.requests() - base

    load.fill(gateway, count, GENTLE)
    wait_for_count(arrived, count)
    return arrived


def _batch(
    gateway: Gateway, meter: Meter, arrived: Callable[[], int], wanted: int, count: int
) -> tuple[float, float]:
    """Let `count` pushes be worked off; give what was used, and seconds."""
    time.sleep(_SETTLING)
    meter.lap()
    gateway.process.send_signal(signal.SIGSTOP)
    try:
        load.send(gateway, count, FAST, wanted - count)
    finally:
        begun = time.monotonic()
        gateway.process.send_signal(signal.SIGCONT)
    wait_for_count(arrived, wanted, every=0.005)
    seconds = time.monotonic() - begun
    time.sleep(_SETTLING)
    return meter.lap(), seconds
