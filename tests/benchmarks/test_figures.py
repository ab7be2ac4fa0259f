"""Medians, ratios and percentiles."""

import pytest

from benchmarks.figures import Spread, percentile, ratios, spread


def test_a_spread_is_the_median_between_the_extremes() -> None:
    """The median of an even number of values is between the two in the middle."""
    assert spread([4.0, 1.0, 2.0, 3.0]) == Spread(2.5, 1.0, 4.0)


def test_ratios_are_taken_pair_by_pair() -> None:
    """A machine that halves its speed from one pair to the next changes no ratio."""
    assert ratios([10.0, 20.0], [2.0, 4.0]) == Spread(5.0, 5.0, 5.0)


def test_pairs_that_do_not_match_are_refused() -> None:
    """A value without its base cannot be compared."""
    with pytest.raises(ValueError, match="shorter"):
        ratios([1.0, 2.0], [1.0])


@pytest.mark.parametrize(("percent", "expected"), [(50, 50), (99, 99), (100, 100), (0, 1)])
def test_a_percentile_is_a_value_that_was_measured(percent: float, expected: int) -> None:
    """So many in a hundred are no greater (nearest rank)."""
    assert percentile(list(range(100, 0, -1)), percent) == expected


def test_percentiles_of_few_values_are_the_greatest() -> None:
    """99 in a hundred of three values are all three."""
    assert percentile([1.0, 3.0, 2.0], 99) == 3.0
