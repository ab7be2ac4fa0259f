"""Rates of devices and of a project, in simulated time."""

from bisect import bisect_left

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from node2dm_tw.delivery.rates import CROWDED, RAMP, DeviceRates, Pace, stretched

FCM = ((240, 60.0), (5_000, 3_600.0))


@attrs.define
class Now:
    seconds: float = 0.0

    def __call__(self) -> float:
        return self.seconds


def most_in_any(moments: list[float], window: float) -> int:
    """The most moments that any window, closed on its left, holds."""
    return max(
        (bisect_left(moments, moment + window) - index for index, moment in enumerate(moments)),
        default=0,
    )


@given(
    st.lists(st.sampled_from([0.0, 0.01, 0.3, 1.0, 20.0, 59.9, 600.0]), max_size=1_500),
    st.sampled_from([1, 6, 24]),
)
def test_no_window_of_a_limit_ever_holds_more_than_it_says(gaps, burst):
    """However pushes come: at most 24 in a sliding minute, 50 in a sliding hour."""
    now = Now()
    limits = ((24, 60.0), (50, 3_600.0))
    rates = DeviceRates(limits, burst, now)
    sent = []
    for gap in gaps:
        now.seconds += gap
        if rates.take(b"phone") == 0.0:
            sent.append(now.seconds)
    for count, window in limits:
        assert most_in_any(sent, window) <= count


def test_a_burst_goes_at_once_and_then_an_even_flow():
    """Sixty pushes at once, then one each time the slower bucket has earned one."""
    now = Now()
    rates = DeviceRates(FCM, 60, now)
    assert [rates.take(b"phone") for _ in range(60)] == [0.0] * 60
    wait = rates.take(b"phone")
    assert wait == pytest.approx(3_601 / (5_000 - 60 + 1))
    now.seconds += wait
    assert rates.take(b"phone") == 0.0
    assert rates.take(b"other") == 0.0


def test_waiting_as_long_as_told_is_enough():
    """Whoever asks again after the wait is let through."""
    now = Now()
    rates = DeviceRates(FCM, 60, now)
    for _ in range(500):
        wait = rates.take(b"phone")
        if wait:
            now.seconds += wait + 1e-9
            assert rates.take(b"phone") == 0.0


@given(st.lists(st.floats(0.0, 0.9), min_size=1))
def test_requests_may_travel_a_second_longer_than_others(delays):
    """What left at different times and arrives together is within the limits all the same."""
    now = Now()
    rates = DeviceRates(FCM, 60, now)
    arrived = []
    for number in range(600):
        now.seconds += rates.take(b"phone")
        if rates.take(b"phone") == 0.0:
            arrived.append(now.seconds + delays[number % len(delays)])
    arrived.sort()
    for count, window in FCM:
        assert most_in_any(arrived, window) <= count


@given(st.floats(0.0, 1e9))
def test_a_wait_always_leads_to_a_later_moment(begun):
    """However late it is by the clock, the wait is not lost in the rounding of the sum."""
    now = Now(begun)
    rates = DeviceRates(FCM, 60, now)
    for _ in range(200):
        wait = rates.take(b"phone")
        assert wait == 0.0 or now.seconds + wait > now.seconds
        now.seconds += wait


def test_one_a_second():
    """The least burst is enough for the least rate."""
    now = Now()
    rates = DeviceRates(((1, 1.0),), 1, now)
    assert rates.take(b"phone") == 0.0
    assert rates.take(b"phone") == pytest.approx(stretched(1.0))
    now.seconds += stretched(1.0)
    assert rates.take(b"phone") == 0.0


def test_without_a_limit_nothing_waits():
    """An empty option is no limit, and costs no memory."""
    rates = DeviceRates((), 60, Now())
    assert rates.take(b"phone") == 0.0
    assert len(rates) == 0


def test_devices_whose_buckets_are_full_are_forgotten():
    """Memory is for those who were sent to lately."""
    now = Now()
    rates = DeviceRates(FCM, 60, now)
    for number in range(10_000):
        now.seconds += 1
        rates.take(b"%d" % number)
    assert len(rates) <= 2_000


def test_a_crowd_beyond_capacity_waits_rather_than_breaks_a_limit():
    """Where no device can be forgotten, pushes to new ones wait."""
    now = Now()
    rates = DeviceRates(FCM, 60, now, capacity=100)
    assert [rates.take(b"%d" % number) for number in range(100)] == [0.0] * 100
    assert rates.take(b"one more") == CROWDED
    now.seconds += 60
    assert rates.take(b"one more") == 0.0


@pytest.mark.parametrize("limit", [(600, 60.0), (60_000, 60.0), (20, 60.0), (5, 60.0)])
def test_a_pace_grows_from_nothing_and_never_exceeds_its_limit(limit):
    """No sliding window holds more than the limit; after the ramp the flow is close to it."""
    now = Now()
    pace = Pace(limit, now)
    sent = []
    end = 200.0 if limit[0] > 100 else 2_000.0
    while now.seconds < end:
        wait = pace.wait()
        if wait:
            now.seconds += wait + 1e-9
        else:
            pace.spend()
            sent.append(now.seconds)
    count, window = limit
    assert most_in_any(sent, window) <= count
    late = [moment for moment in sent if moment >= end - 100]
    assert len(late) >= 0.7 * count / window * 100 - 2
    first, second = (sum(a <= m < a + RAMP / 2 for m in sent) for a in (0, RAMP / 2))
    assert first < second or count < 10


def test_a_pace_begins_again_after_a_pause():
    """After a restart it grows from nothing."""
    now = Now()
    pace = Pace((6_000, 60.0), now)
    now.seconds = 300.0
    assert pace.wait() == 0.0
    pace.restart()
    assert pace.wait() > 0.5


@pytest.mark.parametrize(
    ("before", "after"), [((60_000, 60.0), (60, 60.0)), ((60, 60.0), (60_000, 60.0))]
)
def test_another_limit_holds_from_then_on(before, after):
    """Nothing is held back for what went before, and no more goes at once than the limit saves."""
    now = Now()
    pace = Pace(before, now)
    end = 500.0
    sent = []
    while now.seconds < end:
        if pace.limit == before and now.seconds >= 200.0:
            pace.change(after)
        wait = pace.wait()
        if wait:
            now.seconds += min(wait + 1e-9, 200.0 - now.seconds if now.seconds < 200.0 else wait)
        else:
            pace.spend()
            sent.append(now.seconds)
    late = [moment for moment in sent if moment >= 200.0]
    count, window = after
    assert most_in_any(late, window) <= count
    assert len(late) >= 0.9 * count / window * 300.0 - 2
