"""Medians, ratios of pairs, percentiles: pure functions of what was measured."""

from collections.abc import Sequence
from statistics import median

import attrs


@attrs.frozen
class Spread:
    """A median, and the least and the greatest of what it was taken from."""

    median: float
    least: float
    greatest: float

    def __str__(self) -> str:
        return f"{self.median:.1f} ({self.least:.1f} to {self.greatest:.1f})"


def spread(values: Sequence[float]) -> Spread:
    """Sum up values, of which there must be one at least."""
    return Spread(median(values), min(values), max(values))


def ratios(values: Sequence[float], bases: Sequence[float]) -> Spread:
    """Sum up how many times its base each value is: pairs measured one after the other."""
    return spread([value / base for value, base in zip(values, bases, strict=True)])


def percentile(values: Sequence[float], percent: float) -> float:
    """Find the value that `percent` of all do not exceed (nearest rank)."""
    ordered = sorted(values)
    rank = -(-len(ordered) * percent // 100)
    return ordered[max(0, int(rank) - 1)]
