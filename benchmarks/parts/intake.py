"""Pushes that come by HTTP while nothing is sent: how many a second, and how soon the receipt."""

import json
import subprocess
import sys
from signal import SIGKILL
from typing import Any

from benchmarks.bench import Bench
from benchmarks.gateway import TOKEN, BenchmarkGateway
from benchmarks.meters import CPU
from tests.support.waiting import wait_until

ENGINES = ("memory", "sqlite")
LOADS = {"single POSTs": (1, 1_000), "pushes in batches of 500": (500, 20_000)}
"""Pushes a request, and pushes a second."""

MAX_P99_MS = 25.0


def intake(bench: Bench) -> None:
    """Post at full and at half rate while the upstream answers 503, to each queue engine."""
    for engine in ENGINES:
        for name, (pushes, rate) in LOADS.items():
            bench.step(f"by HTTP, queue = {engine}: {rate:,} {name} a second, then half")
            _load(bench, f"{rate:,} {name} a second, queue = {engine}", engine, pushes, rate)


def _load(bench: Bench, what: str, engine: str, pushes: int, rate: int) -> None:
    bench.upstream.begin_outage()
    with bench.gateway(answers="/outage", queue=engine, by_http=True) as gateway:
        gateway.push(b"device:key:opens the breaker")
        wait_until(lambda: gateway.stats()["backing_off"] == "true", "sending is paused")
        seconds = bench.scaled(10, 3)
        post(gateway, pushes, rate / 4, 1)
        meter = CPU()
        meter.begin(gateway.pid)
        full = post(gateway, pushes, rate, seconds)
        busy = meter.read_delta() / seconds
        half = post(gateway, pushes, rate / 2, seconds)
        gateway.stop(SIGKILL)  # What waits is of no use.
    bench.upstream.end_outage()
    refused = {status: count for status, count in full["statuses"].items() if status != "202"}
    bench.check(
        f"by HTTP: {what}",
        f"{full['rate']:,.0f} at {busy:.0%} CPU, receipt p50 {full['p50']:.1f} ms,"
        f" p99 {full['p99']:.1f} ms{f', refused {refused}' if refused else ''}",
        f"{rate:,}",
        full["rate"] >= 0.99 * rate,
    )
    bench.below(
        f"by HTTP: p99 of the receipt at half of {what} (p50 {half['p50']:.1f} ms)",
        half["p99"],
        MAX_P99_MS,
        "{:.1f} ms",
    )


def post(gateway: BenchmarkGateway, pushes: int, rate: float, seconds: int) -> dict[str, Any]:
    """Let another process post `rate` pushes a second; give what it found."""
    command = [sys.executable, "-m", "benchmarks.http_load", str(gateway.web), TOKEN]
    command += [str(pushes), str(rate / pushes), str(seconds)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    found: dict[str, Any] = json.loads(done.stdout)
    return found
