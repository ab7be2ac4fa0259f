"""The snapshot of a route."""

import attrs
import pytest

from node2dm_tw.core.snapshot import BlockedDevice, LaneState, RecentError
from node2dm_tw.core.stats import COUNTERS
from node2dm_tw.delivery.alarm import MIN_SAMPLES
from node2dm_tw.delivery.session import LockReason
from node2dm_tw.delivery.snapshot import take_snapshot
from node2dm_tw.providers.interface import SignInFailed
from tests.support.doubles import DAY, WALL, bench


def snapshot_of(lane, **values):
    named = {"max_queued": 10, "queued_bytes": 0, "is_c2dm": True, "advice": None, **values}
    return take_snapshot(lane.lane, **named)


def test_a_lane_that_has_not_started(tmp_path):
    """It is signed out; what needs a credential does not exist."""
    shown = snapshot_of(bench(tmp_path), max_queued=7, queued_bytes=5)
    assert (shown.state, shown.signed_in) == (LaneState.SIGNED_OUT, False)
    assert (shown.token_age, shown.token_left, shown.renewal_error) == (None, None, None)
    assert (shown.max_queued, shown.queued_bytes, shown.http_client) == (7, 5, "memory")
    assert shown.oldest_age == shown.pause_left == 0.0


def test_pushes_in_each_place(tmp_path):
    """In the queue, in flight, asleep; and the age of the next one to be taken."""
    lane = bench(tmp_path, maximum=3)
    lane.lane.start()
    lane.push_many(5)
    lane.http.posted[0].say(503)
    lane.clock.advance(0.5)
    shown = snapshot_of(lane)
    assert shown.messages_received == shown.messages_in_queue == 5
    assert (shown.messages_in_flight, shown.unavailable_answers) == (2, 1)
    assert (shown.state, shown.backing_off) == (LaneState.PAUSED, True)
    assert shown.state_reason == lane.lane.session.breaker.reason
    assert shown.pause_left == shown.oldest_age == 0.5


def test_a_credential(tmp_path):
    """Its age and what is left of it, in whole seconds; why it cannot be renewed."""
    lane = bench(tmp_path, script=[1_000.0, *[SignInFailed("no luck")] * 50])
    lane.lane.start()
    lane.advance(10.5)
    shown = snapshot_of(lane)
    assert (shown.signed_in, shown.token_age, shown.token_left) == (True, 10, 989)
    assert shown.renewal_error is None
    lane.advance(950, step=10)
    assert snapshot_of(lane).renewal_error == "no luck"
    assert snapshot_of(lane).state_reason is None


def test_a_wall_clock_that_steps_back_makes_no_age_negative(tmp_path):
    """It is 0 then."""
    lane = bench(tmp_path)
    lane.lane.start()
    lane.wall_offset[0] = WALL - DAY
    assert snapshot_of(lane).token_age == 0


@pytest.mark.parametrize(("is_c2dm", "value"), [(True, True), (False, None)])
def test_only_a_c2dm_route_is_logged_in_to_it(tmp_path, is_c2dm, value):
    """For another the line does not exist."""
    lane = bench(tmp_path)
    lane.lane.start()
    assert snapshot_of(lane, is_c2dm=is_c2dm).logged_in_to_c2dm is value


def test_an_alarm(tmp_path):
    """Off, on, or none at all."""
    lane = bench(tmp_path, bad_device_alarm=50)
    assert snapshot_of(bench(tmp_path)).bad_device_alarm is None
    assert snapshot_of(lane).bad_device_alarm is False
    for _ in range(MIN_SAMPLES):
        lane.lane.alarm.record(True)
    assert snapshot_of(lane).bad_device_alarm is True


def test_a_lock(tmp_path):
    """With what a person must do."""
    lane = bench(tmp_path)
    lane.lane.session.lock(LockReason.OVER_QUOTA, "QuotaExceeded")
    shown = snapshot_of(lane, advice="delete the file")
    assert (shown.state, shown.state_reason) == (LaneState.LOCKED, "QuotaExceeded")
    assert shown.state_advice == "delete the file"


def test_what_a_person_may_want_to_see(tmp_path):
    """Recent errors, rejections by reason, blocked devices, and how long answers take."""
    lane = bench(tmp_path)
    lane.lane.start()
    lane.push(b"phone:key:x", b"other:key:x")
    lane.clock.advance(2)
    lane.http.posted[0].say(body=b"Error=MessageTooBig")
    lane.http.posted[1].say(body=b"Error=DeviceQuotaExceeded")
    shown = snapshot_of(lane)
    assert shown.refused_reasons == {"MessageTooBig": 1}
    assert RecentError("refused", "MessageTooBig", 1, WALL + 2, "phone") in shown.errors
    assert shown.blocked == (BlockedDevice("other", 3_600),)
    assert shown.rate_limited_tokens == 1
    assert (sum(shown.upstream_latency.counts), shown.upstream_latency.total) == (2, 4.0)
    assert sum(shown.queue_age.counts) == 2


def test_a_snapshot_does_not_move(tmp_path):
    """Whatever happens afterwards."""
    lane = bench(tmp_path)
    lane.lane.start()
    shown = snapshot_of(lane)
    before = attrs.asdict(shown)
    lane.push(b"phone:key:x")
    lane.http.posted[0].say(body=b"Error=MessageTooBig")
    for name in COUNTERS:
        setattr(lane.stats, name, 9)
    assert attrs.asdict(shown) == before
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        shown.messages_sent = 1
