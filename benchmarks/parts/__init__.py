"""The parts of the benchmark, by the names under which one chooses them."""

from collections.abc import Callable, Mapping, Sequence

from benchmarks.bench import Bench, Outcome
from benchmarks.parts.burst import burst
from benchmarks.parts.cpu import cpu
from benchmarks.parts.depth import depth
from benchmarks.parts.idle import idle
from benchmarks.parts.instructions import instructions
from benchmarks.parts.latency import latency
from benchmarks.parts.outage import outage
from benchmarks.parts.pauses import pauses
from benchmarks.parts.start import start
from benchmarks.parts.steps import steps

Part = Callable[[Bench], Outcome]

PARTS: Mapping[str, Part] = {
    "cpu": cpu,
    "instructions": instructions,
    "latency": latency,
    "burst": burst,
    "outage": outage,
    "pauses": pauses,
    "start": start,
    "idle": idle,
    "depth": depth,
    "steps": steps,
}
"""In the order in which they run."""

_STEPS = {
    "instructions": 6,
    "latency": 3,
    "burst": 2,
    "outage": 3,
    "pauses": 2,
    "start": 1,
    "idle": 1,
    "depth": 2,
    "steps": 3,
}


def steps_in(parts: Sequence[str], rounds: int, contenders: int) -> int:
    """Count the steps that the progress bar will be told of."""
    return sum(rounds * contenders if part == "cpu" else _STEPS[part] for part in parts)


DEFAULT = tuple(name for name in PARTS if name != "steps")
QUICK = ("cpu", "instructions", "latency", "burst", "outage", "pauses", "start", "idle")
