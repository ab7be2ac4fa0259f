"""What each step of a push costs, alone, and which libraries the whole is spent in."""

import subprocess
import sys

from benchmarks.bench import Bench
from benchmarks.gateway import CHECKOUT, CURL1, CURL2, SUBJECTS
from benchmarks.machine import MEASURED
from benchmarks.measure import measure
from benchmarks.meters import Callgrind, by_library, callgrind, total
from benchmarks.steps import STEPS, TIMES

COUNT = 5_000
MIN_INSTRUCTIONS = 100
"""A push, of the libraries that are named."""


def steps(bench: Bench) -> None:
    """Count each step, and the instructions of each library."""
    bench.step("the steps of a push, one by one")
    bench.tables["steps"] = _alone(bench)
    for name in (CURL1, CURL2):
        bench.step(f"the libraries of {name}")
        meter = Callgrind(bench.folder)
        measure(bench, SUBJECTS[name], meter, COUNT)
        costs = {library: count / COUNT for library, count in by_library(meter.last).most_common()}
        named = {library: cost for library, cost in costs.items() if cost >= MIN_INSTRUCTIONS}
        bench.tables[f"libraries, {name}"] = named


def _alone(bench: Bench) -> dict[str, float]:
    file = bench.folder / "steps"
    counted = (*callgrind(file), "--dump-before=getppid")
    command = (*MEASURED, *counted, sys.executable, "-m", "benchmarks.steps")
    subprocess.run(command, cwd=CHECKOUT, check=True, stderr=subprocess.DEVNULL)
    # Two files a step: what came before it, and the step.
    files = (file.with_name(f"steps.{2 * number}") for number in range(1, len(STEPS) + 1))
    costs = {name: total(each) / TIMES for name, each in zip(STEPS, files, strict=True)}
    empty = costs.pop("nothing")
    return {name: cost - empty for name, cost in costs.items()}
