"""Rates of devices and of a project, in simulated time."""

import gc
from bisect import bisect_left

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from node2dm_tw.delivery.rates import (
    FULL_WAIT,
    RAMP_UP_SECONDS,
    DeviceRates,
    ProjectRate,
    safety_window,
)

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
    rates = DeviceRates(limits, burst)
    sent = []
    for gap in gaps:
        now.seconds += gap
        if rates.take(b"phone", now.seconds) == 0.0:
            sent.append(now.seconds)
    for count, window in limits:
        assert most_in_any(sent, window) <= count


def test_a_burst_goes_at_once_and_then_an_even_flow():
    """Sixty pushes at once, then one each time the slower bucket has earned one."""
    now = Now()
    rates = DeviceRates(FCM, 60)
    assert [rates.take(b"phone", now.seconds) for _ in range(60)] == [0.0] * 60
    wait = rates.take(b"phone", now.seconds)
    assert wait == pytest.approx(3_601 / (5_000 - 60 + 1))
    now.seconds += wait
    assert rates.take(b"phone", now.seconds) == 0.0
    assert rates.take(b"other", now.seconds) == 0.0


def test_waiting_as_long_as_told_is_enough():
    """Whoever asks again after the wait is let through."""
    now = Now()
    rates = DeviceRates(FCM, 60)
    for _ in range(500):
        wait = rates.take(b"phone", now.seconds)
        if wait:
            now.seconds += wait + 1e-9
            assert rates.take(b"phone", now.seconds) == 0.0


@given(st.lists(st.floats(0.0, 0.9), min_size=1))
def test_requests_may_travel_a_second_longer_than_others(delays):
    """What left at different times and arrives together is within the limits all the same."""
    now = Now()
    rates = DeviceRates(FCM, 60)
    arrived = []
    for number in range(600):
        now.seconds += rates.take(b"phone", now.seconds)
        if rates.take(b"phone", now.seconds) == 0.0:
            arrived.append(now.seconds + delays[number % len(delays)])
    arrived.sort()
    for count, window in FCM:
        assert most_in_any(arrived, window) <= count


@given(st.floats(0.0, 1e9))
def test_a_wait_always_leads_to_a_later_moment(begun):
    """However late it is by the clock, the wait is not lost in the rounding of the sum."""
    now = Now(begun)
    rates = DeviceRates(FCM, 60)
    for _ in range(200):
        wait = rates.take(b"phone", now.seconds)
        assert wait == 0.0 or now.seconds + wait > now.seconds
        now.seconds += wait


def test_one_a_second():
    """The least burst is enough for the least rate."""
    now = Now()
    rates = DeviceRates(((1, 1.0),), 1)
    assert rates.take(b"phone", now.seconds) == 0.0
    assert rates.take(b"phone", now.seconds) == pytest.approx(safety_window(1.0))
    now.seconds += safety_window(1.0)
    assert rates.take(b"phone", now.seconds) == 0.0


def test_without_a_limit_nothing_waits():
    """An empty option is no limit, and costs no memory."""
    rates = DeviceRates((), 60)
    assert rates.take(b"phone", 0.0) == 0.0
    assert len(rates) == 0


def test_devices_whose_buckets_are_full_are_forgotten():
    """Memory is for those who were sent to lately."""
    now = Now()
    rates = DeviceRates(FCM, 60)
    for number in range(10_000):
        now.seconds += 1
        rates.take(b"%d" % number, now.seconds)
    assert len(rates) <= 2_000


def test_devices_beyond_capacity_wait():
    """Where no device can be forgotten, pushes to unknown ones wait; no limit is broken."""
    now = Now()
    rates = DeviceRates(FCM, 60, capacity=100)
    assert [rates.take(b"%d" % number, now.seconds) for number in range(100)] == [0.0] * 100
    assert rates.take(b"one more", now.seconds) == FULL_WAIT
    now.seconds += 60
    assert rates.take(b"one more", now.seconds) == 0.0


class CountingMoment(float):
    """A moment that counts how often a bucket is compared with it."""

    compared = 0

    def __lt__(self, other):
        CountingMoment.compared += 1
        return float.__lt__(self, other)


def work_of(rates, devices, now):
    """The comparisons that each push costs."""
    costs = []
    for device in devices:
        before = CountingMoment.compared
        rates.take(device, CountingMoment(now))
        costs.append(CountingMoment.compared - before)
    return costs


DAILY = ((10, 86_400.0),)


def test_a_push_costs_the_same_when_no_device_can_be_forgotten():
    """However many devices are remembered: a few steps each, and never all devices at once."""
    known = 64_000
    rates = DeviceRates(DAILY, 2, capacity=known)
    work_of(rates, (b"known %d" % number for number in range(2 * known)), 1.0)
    assert len(rates) > 0.99 * known
    costs = work_of(rates, (b"new %d" % number for number in range(1_000)), 1.0)
    assert sum(costs) < 2 * known
    assert max(costs) < known / 50
    assert not any(work_of(rates, (b"other %d" % number for number in range(1_000)), 1.0))


def test_a_device_costs_a_few_steps_while_others_are_forgotten():
    """A full memory that empties slowly is swept part by part, paid for by those that come."""
    now = Now(1.0)
    rates = DeviceRates(DAILY, 2, capacity=64_000)
    costs = []
    for number in range(200_000):
        now.seconds += 0.29  # 66,000 devices in the 19,200 seconds that a bucket takes to fill
        costs += work_of(rates, [b"%d" % number], now.seconds)
    assert sum(costs) < 40 * len(costs)
    assert max(costs) <= 1_001


def test_a_device_of_a_full_memory_is_found_again():
    """Its own limit goes on to hold, and it waits no longer than that says."""
    now = Now()
    rates = DeviceRates(DAILY, 2, capacity=100)
    for number in range(100):
        rates.take(b"%d" % number, now.seconds)
    assert rates.take(b"new", now.seconds) == FULL_WAIT
    assert rates.take(b"7", now.seconds) == 0.0
    assert 9_000 < rates.take(b"7", now.seconds) < 9_700


def test_the_garbage_collector_does_not_track_the_devices():
    """A million of them would stop the process for 80 ms at each full collection."""
    rates = DeviceRates(FCM, 60)
    for number in range(10_000):
        rates.take(b"%d" % number, 0.0)
    assert not any(gc.is_tracked(buckets.full_at) for shard in rates._shards for buckets in shard)


@pytest.mark.parametrize("limit", [(600, 60.0), (60_000, 60.0), (20, 60.0), (5, 60.0)])
def test_a_projects_rate_grows_from_nothing_and_never_exceeds_its_limit(limit):
    """No sliding window holds more than the limit; after the ramp the flow is close to it."""
    now = Now()
    rate = ProjectRate(limit, now)
    sent = []
    end = 200.0 if limit[0] > 100 else 2_000.0
    while now.seconds < end:
        wait = rate.wait()
        if wait:
            now.seconds += wait + 1e-9
        else:
            rate.available -= 1.0
            sent.append(now.seconds)
    count, window = limit
    assert most_in_any(sent, window) <= count
    late = [moment for moment in sent if moment >= end - 100]
    assert len(late) >= 0.7 * count / window * 100 - 2
    first, second = (
        sum(a <= m < a + RAMP_UP_SECONDS / 2 for m in sent) for a in (0, RAMP_UP_SECONDS / 2)
    )
    assert first < second or count < 10


def test_a_projects_rate_starts_again_after_a_pause():
    """After a restart it grows from nothing."""
    now = Now()
    rate = ProjectRate((6_000, 60.0), now)
    now.seconds = 300.0
    assert rate.wait() == 0.0
    rate.restart()
    assert rate.wait() > 0.5


def send_all(rate, now, seconds):
    """Send whatever may go, for so many seconds."""
    end = now.seconds + seconds
    while now.seconds < end:
        if wait := rate.wait():
            now.seconds = min(now.seconds + wait + 1e-9, end)
        else:
            rate.available -= 1.0


def send_evenly(rate, now, number, seconds):
    for _ in range(number):
        now.seconds += seconds / number
        assert rate.wait() == 0.0
        rate.available -= 1.0


@pytest.mark.parametrize("limit", [(6_000, 60.0), (100, 1.0), (360_000, 3_600.0)])
def test_the_share_of_a_projects_rate_that_is_used(limit):
    """All of it but for the safety margins; half; nothing once its window is over; then again."""
    now = Now()
    rate = ProjectRate(limit, now)
    window = max(60.0, limit[1])
    assert rate.used == 0.0
    send_all(rate, now, 60.0 + 2 * window)
    assert 0.9 <= rate.used <= 1.0
    send_evenly(rate, now, int(50 * 2.5 * window), 2.5 * window)
    assert rate.used == pytest.approx(0.5, abs=0.01)
    now.seconds += window / 2
    assert rate.used == pytest.approx(0.25, abs=0.03)
    now.seconds += 2 * window
    assert rate.used == 0.0
    send_evenly(rate, now, int(10 * window), window)
    assert rate.used == pytest.approx(0.1, abs=0.01)


def test_a_pause_and_another_limit_keep_what_was_used():
    """What went before a pause counts, and twice the limit makes half the share."""
    now = Now()
    rate = ProjectRate((600, 60.0), now)
    now.seconds = 300.0
    send_evenly(rate, now, 300, 60.0)
    rate.restart()
    assert rate.used == pytest.approx(0.5, abs=0.01)
    rate.reconfigure((1_200, 60.0))
    assert rate.used == pytest.approx(0.25, abs=0.01)


@pytest.mark.parametrize(
    ("before", "after"), [((60_000, 60.0), (60, 60.0)), ((60, 60.0), (60_000, 60.0))]
)
def test_another_limit_holds_from_then_on(before, after):
    """Nothing is held back for what went before, and no more goes at once than the limit saves."""
    now = Now()
    rate = ProjectRate(before, now)
    end = 500.0
    sent = []
    while now.seconds < end:
        if rate.limit == before and now.seconds >= 200.0:
            rate.reconfigure(after)
        wait = rate.wait()
        if wait:
            now.seconds += min(wait + 1e-9, 200.0 - now.seconds if now.seconds < 200.0 else wait)
        else:
            rate.available -= 1.0
            sent.append(now.seconds)
    late = [moment for moment in sent if moment >= 200.0]
    count, window = after
    assert most_in_any(late, window) <= count
    assert len(late) >= 0.9 * count / window * 300.0 - 2
