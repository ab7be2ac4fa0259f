"""The counters and histograms."""

from node2dm_tw.core.stats import COUNTERS, TERMINAL_COUNTERS, Histogram, RouteStats


def test_every_counter_begins_at_zero():
    """And is an attribute, to which whoever counts adds."""
    route = RouteStats()
    assert route.counters() == dict.fromkeys(COUNTERS, 0)
    for number, name in enumerate(COUNTERS):
        setattr(route, name, number)
    assert route.counters() == {name: number for number, name in enumerate(COUNTERS)}


def test_an_upstream_cannot_fill_the_memory_with_reasons():
    """The hundredth and later words are `other`; nothing is lost from the sum."""
    route = RouteStats()
    for number in range(1_000):
        route.count_unsent("refused", f"reason{number}")
    route.count_unsent("refused", "reason5")
    assert len(route.refused_reasons) == 100
    assert route.refused_reasons["other"] == 901
    assert route.refused_reasons["reason5"] == 2
    assert route.refused_reasons.total() == route.messages_refused == 1_001


def test_a_histogram_counts_each_value_once():
    """Below each bound and above the one before; a snapshot does not move with later values."""
    histogram = Histogram((1.0, 5.0))
    before = histogram.snapshot()
    for number in range(1_001):
        histogram.observe(number / 100)
    histogram.observe(-3.0)
    after = histogram.snapshot()
    assert (before.bounds, before.counts, before.total) == ((1.0, 5.0), (0, 0, 0), 0.0)
    assert after.counts == (102, 400, 500)
    assert round(after.total, 2) == 5_005.0
    assert histogram.snapshot() == after


def test_every_push_ends_in_one_of_the_endings():
    """They are counters, each once."""
    assert set(TERMINAL_COUNTERS) < set(COUNTERS)
    assert len(set(TERMINAL_COUNTERS)) == len(TERMINAL_COUNTERS)
