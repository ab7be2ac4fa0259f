"""The parts of the benchmark, by the names under which one chooses them."""

from collections.abc import Callable, Mapping

from benchmarks.bench import Bench
from benchmarks.parts.backlog import depth, outage, pauses
from benchmarks.parts.cost import cpu, instructions
from benchmarks.parts.engines import engines, restart
from benchmarks.parts.intake import intake
from benchmarks.parts.process import idle, start
from benchmarks.parts.rates import burst, latency
from benchmarks.parts.steps import steps

_IN_ORDER = (
    cpu,
    engines,
    instructions,
    latency,
    burst,
    intake,
    outage,
    pauses,
    start,
    restart,
    idle,
    depth,
    steps,
)
PARTS: Mapping[str, Callable[[Bench], None]] = {each.__name__: each for each in _IN_ORDER}
DEFAULT = tuple(name for name in PARTS if name != "steps")
QUICK = tuple(name for name in DEFAULT if name != "depth")
