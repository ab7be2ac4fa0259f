"""Pushes that end unsent are visible: counter, recent errors, and a log line for each reason."""

import pytest
from twisted.internet.task import Clock
from twisted.logger import capturedLogs, formatEvent

from node2dm_tw.delivery.recent_errors import RecentErrors
from node2dm_tw.delivery.unsent import UnsentLog
from node2dm_tw.push import read_json, split_at_colons
from tests.doubles import WALL, bench

PUSH = split_at_colons(b"APA91bHun4MxP5egoKMwt2KZFBaFUH-1RYqx:key:x", 0.0)


def over_max_queued(lane):
    lane.push_many(30)


def over_max_age(lane):
    lane.lane.session.lock("test")
    lane.push_many(1)
    lane.advance(101, step=101)
    lane.lane.gate.admits(lane.queue.take(), lane.clock.seconds(), is_fresh=True)


def over_its_ttl(lane):
    line = b'{"token": "phone", "collapse_key": "k", "data": "x", "ttl": 5}'
    lane.push_many(8)
    lane.stats.messages_received += 1
    lane.queue.put([read_json(line, lane.clock.seconds())[1]])
    lane.advance(6)
    lane.answer_all()


def too_many_for_one_device(lane):
    for number in range(21):
        lane.lane.gate.sleep(lease(lane, b"phone:key%d:x" % number), 60.0)


def too_many_for_the_retry_queue(lane):
    for number in range(3):
        lane.lane.gate.sleep(lease(lane, b"phone%d:key:x" % number), 60.0)


def lease(lane, line):
    lane.lane.session.lock("test")
    lane.push(line)
    return lane.queue.take()


def answered(body):
    def scenario(lane):
        lane.push_many(1)
        lane.http.posted[0].say(body=body)

    return scenario


def blocked_before(lane):
    lane.push(b"phone:key:x")
    lane.http.posted[0].say(body=b"Error=DeviceQuotaExceeded")
    lane.push(b"phone:key:y")


def a_fault_of_ours(lane):
    lane.lane.on_bad_device = lambda push, reason: 1 / 0
    answered(b"Error=NotRegistered")(lane)


@pytest.mark.parametrize(
    ("scenario", "max_queued", "outcome", "reason"),
    [
        (over_max_queued, 20, "overflowed", "max_queued is reached"),
        (over_max_age, 20, "expired", "max_age is reached"),
        (over_its_ttl, 20, "expired", "its ttl is over"),
        (too_many_for_one_device, 1_000, "overflowed", "20 pushes wait for its device"),
        (too_many_for_the_retry_queue, 20, "overflowed", "the retry queue is full"),
        (answered(b"Error=MessageTooBig"), 20, "refused", "MessageTooBig"),
        (answered(b"Error=NotRegistered"), 20, "bad device", "NotRegistered"),
        (answered(b"Error=DeviceQuotaExceeded"), 20, "blocked", "the device is over its quota"),
        (blocked_before, 20, "blocked", "the device was over its quota"),
        (a_fault_of_ours, 20, "refused", "internal_error"),
    ],
)
def test_each_way_to_end_unsent_names_what_did_it(tmp_path, scenario, max_queued, outcome, reason):
    """In the recent errors as often as it is counted, and in the log."""
    lane = bench(tmp_path, max_queued=max_queued, max_age=100.0)
    lane.lane.start()
    with capturedLogs() as events:
        scenario(lane)
    lane.check()
    counter = f"messages_{outcome.replace(' ', '_')}"
    errors = {(each["kind"], each["reason"]): each for each in lane.stats.details["errors"]()}
    of_outcome = [each["count"] for (kind, _), each in errors.items() if kind == outcome]
    assert sum(of_outcome) == getattr(lane.stats, counter) > 0
    assert (outcome, reason) in errors
    lines = [formatEvent(event) for event in events]
    assert any(line.endswith(f" {outcome}: {reason}") for line in lines), lines


def test_a_reason_is_logged_once_a_second_and_hides_no_other():
    """With the device, shortened, and the number of those that were not logged."""
    clock, errors = Clock(), RecentErrors()
    unsent = UnsentLog("shop", errors, clock, lambda: WALL)
    with capturedLogs() as events:
        for _ in range(214):
            unsent.record(PUSH, "overflowed", "20 pushes wait for its device")
            unsent.record(PUSH, "expired", "its ttl is over")
        clock.advance(1)
        unsent.record(PUSH, "overflowed", "20 pushes wait for its device")
    start, end = "shop: push to APA91bHun4... overflowed", "20 pushes wait for its device"
    assert [formatEvent(event) for event in events] == [
        f"{start}: {end}",
        "shop: push to APA91bHun4... expired: its ttl is over",
        f"{start}: {end} (213 more like it were not logged)",
    ]
    assert {each["count"] for each in errors.latest()} == {214, 215}
