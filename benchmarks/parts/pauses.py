"""The longest pause of the gateway while a million pushes wait."""

import signal
import sys
from pathlib import Path

from benchmarks import load
from benchmarks.bench import Bench, Check, Outcome
from benchmarks.gateway import Gateway, Setup
from benchmarks.pushing import FAST, warm_up

MOST = 20.0
"""Milliseconds of CPU."""


def pauses(bench: Bench) -> Outcome:
    """Fill the queue during an outage; then let pushes come in and go out at the same time."""
    count = bench.scaled(1_000_000, 100_000)
    file = bench.folder / "pauses"
    wrapper = (sys.executable, "-m", "benchmarks.pause_probe", str(file))
    with bench.gateway(Setup(http2=True, answers="outage", wrapper=wrapper)) as gateway:
        warm_up(bench, gateway, 2_000)
        bench.upstream.begin_outage()
        bench.progress.step(f"pauses: {count:,} pushes come in")
        filling = _longest(gateway, file, count, count // 10)
        queued = int(gateway.stats()["messages_in_queue"])
        bench.upstream.end_outage()
        bench.progress.step("pauses: pushes come in and go out")
        working = _longest(gateway, file, count // 2, 2 * count)
        gateway.stop(signal.SIGKILL)
    found = {"queued": queued, "filling": filling, "working": working}
    turn, collection = (
        max(longest.get(cause, 0.0) for longest in (filling, working))
        for cause in ("turn", "collection")
    )
    what = f"with {queued:,} queued, {FAST:,.0f} a second coming in: longest"
    checks = [
        Check(f"{what} turn of the reactor", f"{turn:.1f} ms", f"below {MOST:g} ms", turn < MOST),
        Check(
            f"{what} garbage collection",
            f"{collection:.1f} ms",
            f"below {MOST:g} ms",
            collection < MOST,
        ),
    ]
    return Outcome(checks=checks, details=found)


def _longest(gateway: Gateway, file: Path, count: int, first: int) -> dict[str, float]:
    """Send `count` pushes; give the longest pauses meanwhile, in milliseconds, by their cause."""
    before = file.stat().st_size
    load.fill(gateway, count, FAST, first)
    with file.open(encoding="utf-8") as lines:
        lines.seek(before)
        found = [line.rstrip().split(": ") for line in lines]
    return {cause: max(float(ms) for what, ms in found if what == cause) for cause, _ in found}
