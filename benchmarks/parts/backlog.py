"""Pushes that wait during an outage: their memory, their cost, the pauses, and how they drain."""

import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from signal import SIGKILL
from statistics import median

from benchmarks.bench import Bench
from benchmarks.gateway import BenchmarkGateway
from benchmarks.measure import FAST, fill, warm_up
from benchmarks.meters import Callgrind
from benchmarks.pushes import SIZE, send
from tests.support.waiting import wait_for_count, wait_until

MAX_BYTES_A_PUSH, MAX_MEGABYTES = 400, 500
MEANWHILE_RATE, FULL_SPEED = 2_000.0, 0.8
"""The part of the speed of a short backlog that counts as full speed beside the intake."""

MAX_PAUSE_MS, MAX_DEPTH_RATIO = 20.0, 1.1
DEPTH_RATE = 12_000.0
"""Datagrams a second that a gateway under valgrind takes in."""

WINDOW, WINDOWS = 600, 5
REOPENING = 2_500
"""Requests in which the window opens again, and idle connections are replaced."""

SHALLOW = WINDOW * WINDOWS + REOPENING + 1_000


def outage(bench: Bench) -> None:
    """Queue a million pushes while the upstream answers 503, then let it work again."""
    count, little = bench.scaled(1_000_000, 50_000), bench.scaled(100_000, 20_000)
    meanwhile = count // 10
    bench.upstream.begin_outage()
    with bench.gateway(http2=True, answers="/outage") as gateway:
        bench.step(f"an outage: a backlog of {little:,}")
        fill(gateway, little, FAST)
        reference = _drain(bench, gateway, little, 0)
        bench.upstream.begin_outage()
        bench.step(f"an outage: {count:,} pushes wait")
        # The second half shows what a push takes: the first may use what was used before.
        at_half = _queue(gateway, count // 2, count // 2)
        resident = _queue(gateway, count - count // 2, count)
        bench.step("an outage: the backlog drains, with intake open")
        rate = _drain(bench, gateway, count, meanwhile)
        lost = little + count + meanwhile - gateway.sent()
    a_push = (resident - at_half) / (count - count // 2)
    bench.below(f"bytes of memory a queued push of {SIZE} bytes", a_push, MAX_BYTES_A_PUSH)
    bench.below(f"resident, {count:,} queued", resident / 1e6, MAX_MEGABYTES, "{:.0f} MB")
    bench.check(
        f"the backlog drains, with {MEANWHILE_RATE:,.0f} a second coming in",
        f"{rate:,.0f} a second; {reference:,.0f} with a backlog of {little:,}; {lost} lost",
        f"none lost, at least {FULL_SPEED:.0%} of the speed",
        lost == 0 and rate >= FULL_SPEED * reference,
    )


def _queue(gateway: BenchmarkGateway, count: int, in_all: int) -> int:
    """Queue `count` pushes more; give the resident bytes when `in_all` wait."""
    fill(gateway, count, FAST)
    wait_until(lambda: gateway.stats()["messages_in_queue"] == in_all, "all wait")
    return gateway.memory()


def _drain(bench: Bench, gateway: BenchmarkGateway, count: int, meanwhile: int) -> float:
    """End the outage and wait until `count` and those of `meanwhile` are sent; give the rate."""
    bench.upstream.end_outage()
    base = gateway.sent()
    wait_for_count(gateway.sent, base + count // 20, every=0.05)
    with ThreadPoolExecutor() as pool:
        begun, before = time.monotonic(), gateway.sent()
        sending = pool.submit(send, gateway.udp, meanwhile, MEANWHILE_RATE, 10 * count)
        wait_for_count(gateway.sent, base + count, every=0.05)
        rate = (gateway.sent() - before) / (time.monotonic() - begun)
        sending.result()
    wait_for_count(gateway.sent, base + count + meanwhile, every=0.05)
    return rate


def pauses(bench: Bench) -> None:
    """Fill the queue during an outage; then let pushes come in and go out at the same time."""
    count, file = bench.scaled(1_000_000, 100_000), bench.folder / "pauses"
    probe = (sys.executable, "-m", "benchmarks.pause_probe", str(file))
    with bench.gateway(http2=True, answers="/outage", wrapper=probe) as gateway:
        warm_up(bench, gateway, 2_000)
        bench.upstream.begin_outage()
        bench.step(f"pauses: {count:,} pushes come in")
        filling = _longest(gateway, file, count, count // 10)
        queued = int(gateway.stats()["messages_in_queue"])
        bench.upstream.end_outage()
        bench.step("pauses: pushes come in and go out")
        working = _longest(gateway, file, count // 2, 2 * count)
        gateway.stop(SIGKILL)
    what = f"with {queued:,} queued, {FAST:,.0f} a second coming in: longest"
    names = {"turn": "turn of the reactor", "collection": "garbage collection"}
    for cause, name in names.items():
        longest = max(filling[cause], working[cause])
        bench.below(f"{what} {name}", longest, MAX_PAUSE_MS, "{:.1f} ms")


def _longest(gateway: BenchmarkGateway, file: Path, count: int, first: int) -> dict[str, float]:
    """Send `count` pushes; give the longest pauses meanwhile, in milliseconds, by their cause."""
    before = file.stat().st_size
    fill(gateway, count, FAST, first)
    longest = {"turn": 0.0, "collection": 0.0}
    for line in file.read_text(encoding="utf-8")[before:].splitlines():
        cause, milliseconds = line.split(": ")
        longest[cause] = max(longest[cause], float(milliseconds))
    return longest


def depth(bench: Bench) -> None:
    """Count the instructions of intake and of sending, with few and with a million queued.

    Medians of windows: a full pass of Python's garbage collector takes as much as hundreds of
    pushes do, and comes once in hundreds of thousands, for two windows at most.
    """
    deep = bench.scaled(1_000_000, 100_000)
    windows = {queued: _count(bench, queued) for queued in (SHALLOW, deep)}
    shallow, deeper = (sum(map(median, each)) for each in windows.values())
    what = f"instructions a push with {deep:,} queued, times those with 1,000"
    bench.below(what, deeper / shallow, MAX_DEPTH_RATIO, "{:.3f}")


def _count(bench: Bench, queued: int) -> tuple[list[float], list[float]]:
    """Fill the queue during an outage; measure its last pushes in, and its first ones out."""
    bench.step(f"instructions with {queued:,} queued")
    meter, upstream = Callgrind(bench.folder), bench.upstream

    def window_in() -> float:
        fill(gateway, WINDOW, DEPTH_RATE, 2_000_000)
        return meter.read_delta() / WINDOW

    def window_out() -> float:
        before = upstream.requests()
        wait_for_count(upstream.requests, before + WINDOW, every=0.001)
        used = meter.read_delta()
        return used / (upstream.requests() - before)

    with bench.gateway(answers="/outage", wrapper=meter.wrapper) as gateway:
        warm_up(bench, gateway, 2_000)
        upstream.begin_outage()
        fill(gateway, queued - WINDOW * WINDOWS, DEPTH_RATE, 10_000)
        meter.begin(gateway.pid)
        intake = [window_in() for _ in range(WINDOWS)]
        base = upstream.requests()
        upstream.end_outage()
        wait_for_count(upstream.requests, base + REOPENING, every=0.001)
        meter.read_delta()
        sending = [window_out() for _ in range(WINDOWS)]
        gateway.stop(SIGKILL)  # It would go on sending.
    return intake, sending
