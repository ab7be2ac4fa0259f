"""Windows that slide."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from node2dm_tw.emulator.google.quotas import Quotas, SlidingWindow

LIMITS = [(3, 10.0), (5, 60.0)]


@settings(deadline=None)
@given(st.lists(st.floats(0, 20), max_size=60))
def test_no_window_holds_more_than_its_limit(gaps):
    """An event that has to wait is allowed once the wait is over, whenever it comes."""
    window, passed, now = SlidingWindow(LIMITS), [], 0.0
    for gap in gaps:
        now += gap
        wait = window.consume(now)
        if wait:
            assert 0 < wait <= 60
            now += wait + 1e-6
            assert window.consume(now) == 0
        passed.append(now)
        for count, per in LIMITS:
            assert sum(each > now - per for each in passed) <= count


def test_a_clock_that_is_put_back():
    """Nobody waits for longer than the window is."""
    window = SlidingWindow([(1, 10.0)])
    assert window.consume(1000.0) == 0
    assert window.consume(0.0) == 10.0


@pytest.mark.parametrize("later", [0.0, 11.0])
def test_windows_are_forgotten(later):
    """Those that are empty first, then the oldest, so that memory is bounded."""
    quotas = Quotas([(1, 10.0)], max_windows=3)
    for name in "abc":
        quotas.consume(name, 0.0)
    assert quotas.consume("d", later) == 0
    assert quotas.consume("d", later) == 10.0
    assert len(quotas._windows) == (3 if later == 0 else 1)


def test_no_limit():
    """Without limits nobody waits."""
    assert Quotas([]).consume("a", 0.0) == 0
