"""What every part of the benchmark is given, and what it gives back."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs

from benchmarks.figures import Spread
from benchmarks.gateway import Gateway, Setup
from benchmarks.progress import Progress
from benchmarks.upstream import Upstream

Value = float | Spread


@attrs.frozen
class Check:
    """Something that must hold.

    Args:
        what: must hold.
        measured: what was found.
        wanted: its bound.
        holds: whether it does.
    """

    what: str
    measured: str
    wanted: str
    holds: bool


@attrs.frozen
class Outcome:
    """What a part found.

    Args:
        rows: of the table: contender to column to value.
        checks: what must hold.
        details: anything else, for the JSON output and for the reader.
    """

    rows: Mapping[str, Mapping[str, Value]] = attrs.field(factory=dict)
    checks: Sequence[Check] = ()
    details: Mapping[str, Any] = attrs.field(factory=dict)


@attrs.define(eq=False)
class Bench:
    """What a part works with.

    Args:
        folder: for files; it is gone at the end.
        upstream: the push service.
        progress: told of each step.
        quick: a minute is all there is.
        rounds: pairs of which medians are taken.
        node2dm: a checkout of node2dm to measure as well.
    """

    folder: Path
    upstream: Upstream
    progress: Progress
    quick: bool
    rounds: int
    node2dm: Path | None
    _folders: int = attrs.field(default=0, init=False)

    def gateway(self, setup: Setup) -> Gateway:
        """Make a gateway; it starts with its context."""
        return Gateway(self.new_folder(), upstream=self.upstream, setup=setup)

    def new_folder(self) -> Path:
        """Name a folder that is not there yet."""
        self._folders += 1
        return self.folder / f"server{self._folders}"

    def scaled(self, full: int, quick: int) -> int:
        """Choose a number: of a full run, or of a quick one."""
        return quick if self.quick else full
