"""What a push costs a gateway: its queue is filled first, and then emptied."""

import signal
import time

import attrs

from benchmarks import load
from benchmarks.bench import Bench
from benchmarks.gateway import Gateway, Setup
from benchmarks.meters import Meter
from benchmarks.waiting import wait_for_count

FILL_RATE = 20_000.0
"""Datagrams a second while the queue is filled."""


@attrs.frozen
class Cost:
    """What one push took.

    Args:
        intake: until it was on the queue, in the meter's unit.
        send: from there to its end.
        rate: pushes a second sent.
        lost: pushes that were sent to the gateway and did not arrive at the upstream.
        peak_memory: bytes of the gateway.
    """

    intake: float
    send: float
    rate: float
    lost: int
    peak_memory: int

    @property
    def total(self) -> float:
        """Intake and sending."""
        return self.intake + self.send


@attrs.frozen
class Amount:
    """How many pushes.

    Args:
        count: in all.
        warm: sent before measuring begins: the window has opened, connections stand.
        before: queued before measuring begins at all.
    """

    count: int
    warm: int
    before: int = 0


def measure(bench: Bench, setup: Setup, meter: Meter, amount: Amount) -> Cost:
    """Fill the queue while the sign-in waits at the gate, then let all go out.

    So the one that sends costs nothing while the sending is measured. Start-up, sign-in,
    handshakes, and the first `warm` pushes are not in the costs.
    """
    bench.upstream.close_gate()
    try:
        with bench.gateway(attrs.evolve(setup, wrapper=meter.wrapper)) as gateway:
            if amount.before:
                # Slow enough for a gateway under valgrind.
                load.fill(gateway, amount.before, FILL_RATE / 2)
            meter.begin(gateway.process.pid)
            cost = _measure(bench, gateway, meter, amount)
            if amount.before:
                gateway.stop(signal.SIGKILL)  # It would go on sending.
            return cost
    finally:
        bench.upstream.open_gate()


def _measure(bench: Bench, gateway: Gateway, meter: Meter, amount: Amount) -> Cost:
    load.fill(gateway, amount.count, FILL_RATE, first=amount.before)
    intake = meter.lap()
    base = bench.upstream.requests()  # The sign-in is among them by now.

    def arrived() -> int:
        return bench.upstream.requests() - base

    bench.upstream.open_gate()
    wait_for_count(arrived, amount.warm, every=0.001)
    meter.lap()
    begun, before = time.monotonic(), arrived()
    wait_for_count(arrived, amount.count, every=0.005)
    ended, after = time.monotonic(), arrived()
    if not amount.before:
        time.sleep(0.1)  # The last answers are still to be settled.
    send = meter.lap()
    measured = arrived() - before
    return Cost(
        intake=intake / amount.count,
        send=send / measured,
        rate=(after - before) / (ended - begun),
        lost=max(0, amount.count - arrived()),
        peak_memory=gateway.peak_memory(),
    )
