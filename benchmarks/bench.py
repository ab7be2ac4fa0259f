"""What every part of the benchmark is given, and where it leaves what it found."""

import sys
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

import attrs

from benchmarks.gateway import BenchmarkGateway, make_gateway
from benchmarks.upstream import Upstream


def spread(values: Sequence[float], form: str = ".1f") -> str:
    """Write the median, and the least and the greatest value."""
    return f"{median(values):{form}} ({min(values):{form}} to {max(values):{form}})"


@attrs.define(eq=False)
class Bench:
    """What a part works with, and what was found.

    Attributes:
        rows: cells of the table, by subject and column.
        checks: what must hold, as lines of a table; `passed` is whether all does.
        tables: further tables, by their title.
    """

    folder: Path
    upstream: Upstream
    quick: bool = False
    rounds: int = 1
    rows: dict[str, dict[str, str]] = attrs.field(factory=lambda: defaultdict(dict))
    checks: list[tuple[str, str, str, str]] = attrs.field(factory=list)
    passed: bool = True
    tables: dict[str, dict[str, float]] = attrs.field(factory=dict)
    _started: float = attrs.field(factory=time.monotonic)
    _gateways: int = 0

    def check(self, what: str, measured: str, wanted: str, passed: bool) -> None:
        """Note something that must hold."""
        self.checks.append(("holds" if passed else "FAILS", what, wanted, measured))
        self.passed = self.passed and passed

    def below(self, what: str, value: float, limit: float, form: str = "{:,.0f}") -> None:
        """Note that a value must be below its limit; `form` writes both."""
        self.check(what, form.format(value), f"below {form.format(limit)}", value < limit)

    def make_gateway(self, **arguments: Any) -> BenchmarkGateway:
        """Make a gateway in a folder of its own, with the arguments of `make_gateway`."""
        self._gateways += 1
        folder = self.folder / f"gateway{self._gateways}"
        folder.mkdir()
        return make_gateway(folder, self.upstream, **arguments)

    @contextmanager
    def gateway(self, **arguments: Any) -> Iterator[BenchmarkGateway]:
        """Run a gateway until the context ends; after an error, the end of the run ends it."""
        made = self.make_gateway(**arguments)
        yield made.start()
        made.stop(seconds=300)

    def step(self, what: str) -> None:
        """Say what begins now."""
        print(f"{time.monotonic() - self._started:4.0f} s  {what}", file=sys.stderr)

    def scaled(self, full: int, quick: int) -> int:
        """Choose a number: of a full run, or of a quick one."""
        return quick if self.quick else full
