"""The parts of the benchmark, by the names under which one chooses them."""

from collections.abc import Callable, Mapping

from benchmarks.bench import Bench, Outcome
from benchmarks.parts.burst import burst
from benchmarks.parts.cpu import cpu
from benchmarks.parts.depth import depth
from benchmarks.parts.idle import idle
from benchmarks.parts.instructions import instructions
from benchmarks.parts.latency import latency
from benchmarks.parts.outage import outage
from benchmarks.parts.start import start
from benchmarks.parts.steps import steps

Part = Callable[[Bench], Outcome]

PARTS: Mapping[str, Part] = {
    "cpu": cpu,
    "instructions": instructions,
    "latency": latency,
    "burst": burst,
    "outage": outage,
    "start": start,
    "idle": idle,
    "depth": depth,
    "steps": steps,
}
"""In the order in which they run."""

DEFAULT = tuple(name for name in PARTS if name != "steps")
QUICK = ("cpu", "instructions", "latency", "burst", "outage", "start", "idle")
