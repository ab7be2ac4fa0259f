"""What each step of a push costs, alone, and which libraries the whole is spent in."""

import subprocess
import sys

from benchmarks.bench import Bench, Outcome
from benchmarks.callgrind import by_library, self_costs
from benchmarks.contenders import CURL1, CURL2, SETUPS
from benchmarks.gateway import CHECKOUT
from benchmarks.machine import spawn
from benchmarks.meters import Callgrind
from benchmarks.pushing import Amount, measure

AMOUNT = Amount(2_000, 5_000)
LEAST = 100
"""Instructions a push of the libraries that are named."""

NOTHING = "nothing"
TIMES = 1_000


def steps(bench: Bench) -> Outcome:
    """Count by callgrind, which alone can tell libraries apart."""
    bench.progress.step("the steps of a push, one by one")
    details: dict[str, dict[str, float]] = {"steps": _alone(bench)}
    for name in (CURL1, CURL2):
        bench.progress.step(f"the libraries of {name}")
        meter = Callgrind(bench.folder / f"libraries.{SETUPS[name].http2}")
        measure(bench, SETUPS[name], meter, AMOUNT)
        with meter.last.open(encoding="utf-8") as lines:
            libraries = by_library(self_costs(lines))
        details[f"libraries, {name}"] = {
            library: count / AMOUNT.measured
            for library, count in libraries.most_common()
            if count / AMOUNT.measured >= LEAST
        }
    return Outcome(details=details)


def _alone(bench: Bench) -> dict[str, float]:
    meter = Callgrind(bench.folder / "steps")
    costs: dict[str, float] = {}
    with spawn(
        "measured",
        [*meter.wrapper, sys.executable, "-m", "benchmarks.steps", str(TIMES)],
        cwd=CHECKOUT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        for line in process.stdout:
            name, what = line.split()
            if not costs and what == "begins":
                meter.begin(process.pid)
            count = meter.lap()
            if what == "ended":
                costs[name] = count / TIMES
            process.stdin.write("\n")
            process.stdin.flush()
    if process.returncode:
        raise RuntimeError("python -m benchmarks.steps has failed: run it to see why")
    empty = costs.pop(NOTHING)
    return {name: cost - empty for name, cost in costs.items()}
