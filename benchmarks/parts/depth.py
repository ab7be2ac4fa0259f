"""Whether a push costs more when a million others wait."""

import signal
from statistics import median

from benchmarks import load
from benchmarks.bench import Bench, Check, Outcome
from benchmarks.gateway import Gateway, Setup
from benchmarks.meters import Meter, instruction_meter
from benchmarks.pushing import warm_up
from benchmarks.waiting import wait_for_count

MOST = 1.1
RATE = 12_000.0
"""Datagrams a second that a gateway under valgrind takes in."""

WINDOW, WINDOWS = 600, 5
REOPENING = 2_500
"""Requests in which the window opens again, and idle connections are replaced."""

SHALLOW = WINDOW * WINDOWS + REOPENING + 1_000


def depth(bench: Bench) -> Outcome:
    """Count the instructions of intake and of sending, at both depths.

    Medians of windows: a full pass of Python's garbage collector takes as much as hundreds of
    pushes do, and comes once in hundreds of thousands, for two windows at the most.
    """
    deep = bench.scaled(1_000_000, 100_000)
    meters = {queued: instruction_meter(bench.folder) for queued in (SHALLOW, deep)}
    counts = []
    for queued, meter in meters.items():
        bench.progress.step(f"instructions with {queued:,} queued")
        counts.append(_count(bench, queued, meter))
    ratio = sum(map(median, counts[1])) / sum(map(median, counts[0]))
    check = Check(
        f"instructions a push with {deep:,} queued, times those with 1,000",
        f"{ratio:.3f}",
        f"below {MOST:g}",
        ratio < MOST,
    )
    windows = dict(zip(("shallow", "deep"), counts, strict=True))
    return Outcome(checks=[check], details={"counter": meters[deep].name, "windows": windows})


def _count(bench: Bench, queued: int, meter: Meter) -> tuple[list[float], list[float]]:
    """Fill the queue during an outage; measure its last pushes in, and its first ones out."""
    setup = Setup(answers="outage", wrapper=meter.wrapper)
    bench.upstream.end_outage()
    with bench.gateway(setup) as gateway:
        warm_up(bench, gateway, 2_000)
        bench.upstream.begin_outage()
        load.fill(gateway, queued - WINDOW * WINDOWS, RATE, 10_000)
        meter.begin(gateway.process.pid)
        intake = [_window_in(gateway, meter) for _ in range(WINDOWS)]
        base = bench.upstream.requests()
        bench.upstream.end_outage()
        wait_for_count(bench.upstream.requests, base + REOPENING, every=0.001)
        meter.lap()
        sending = [_window_out(bench, meter) for _ in range(WINDOWS)]
        gateway.stop(signal.SIGKILL)  # It would go on sending.
    return intake, sending


def _window_in(gateway: Gateway, meter: Meter) -> float:
    load.fill(gateway, WINDOW, RATE, 2_000_000)
    return meter.lap() / WINDOW


def _window_out(bench: Bench, meter: Meter) -> float:
    before = bench.upstream.requests()
    wait_for_count(bench.upstream.requests, before + WINDOW, every=0.001)
    used = meter.lap()
    return used / (bench.upstream.requests() - before)
