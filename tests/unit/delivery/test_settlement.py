"""Pushes that end unsent are visible: counter, recent errors, and a log line for each reason."""

import pytest
from twisted.logger import capturedLogs, formatEvent

from node2dm_tw.core.json_form import read_json
from node2dm_tw.core.push import split_at_colons
from node2dm_tw.http.interface import NoAnswer
from node2dm_tw.queues.interface import Lease
from tests.support.doubles import bench

OVER_RATE = "over device_rate, and 20 pushes for the device sleep already"
OVER_QUOTA = "the device is over its quota"
PUSH = split_at_colons(b"APA91bHun4MxP5egoKMwt2KZFBaFUH-1RYqx:key:x", 0.0)


def over_max_queued(lane):
    lane.push_many(30)


def over_max_age(lane):
    lane.push_many(9)
    lane.advance(101, step=101)
    lane.answer_all()


def over_its_ttl(lane):
    line = b'{"token": "phone", "collapse_key": "k", "data": "x", "ttl": 5}'
    lane.push_many(8)
    lane.stats.messages_received += 1
    lane.queue.put([read_json(line, lane.clock.seconds())[1]])
    lane.advance(6)
    lane.answer_all()


def too_many_for_one_device(lane):
    lane.push(*(b"phone:key%d:x" % number for number in range(2 + 20 + 1)))


def too_many_for_the_retry_queue(lane):
    for number in range(3):
        lane.push(*(b"phone%d:key%d:x" % (number, key) for key in range(3)))
        lane.answer_all()


def answered(body):
    def scenario(lane):
        lane.push_many(1)
        lane.http.posted[0].say(body=body)

    return scenario


def blocked_before(lane):
    lane.push(b"phone:key:x")
    lane.http.posted[0].say(body=b"Error=DeviceQuotaExceeded")
    lane.push(b"phone:key:y")


def broken(ended):
    raise RuntimeError("no")


SMALL = {"max_queued": 20}
SLOW = {"device_rate": ((3, 60.0),)}
BROKEN = {"on_bad_outcome": broken}
BAD = answered(b"Error=NotRegistered")


@pytest.mark.parametrize(
    ("scenario", "options", "outcome", "reason"),
    [
        (over_max_queued, SMALL, "overflowed", "max_queued is reached"),
        (over_max_age, SMALL, "expired", "older than its max_age"),
        (over_its_ttl, SMALL, "expired", "older than its ttl"),
        (too_many_for_one_device, SLOW, "overflowed", OVER_RATE),
        (too_many_for_the_retry_queue, SLOW | SMALL, "overflowed", "the retry queue is full"),
        (answered(b"Error=MessageTooBig"), SMALL, "refused", "MessageTooBig"),
        (BAD, SMALL, "bad device", "NotRegistered"),
        (BAD, BROKEN, "bad device", "NotRegistered"),
        (
            over_max_queued,
            {"on_bad_outcome": broken} | SMALL,
            "overflowed",
            "max_queued is reached",
        ),
        (answered(b"Error=DeviceQuotaExceeded"), SMALL, "blocked", OVER_QUOTA),
        (blocked_before, SMALL, "blocked", OVER_QUOTA),
    ],
)
def test_each_way_to_end_unsent_names_what_did_it(tmp_path, scenario, options, outcome, reason):
    """In the recent errors as often as it is counted, and in the log."""
    lane = bench(tmp_path, max_age=100.0, **options)
    lane.lane.start()
    with capturedLogs() as events:
        scenario(lane)
    lane.check()
    counter = f"messages_{outcome.replace(' ', '_')}"
    errors = {(each.kind, each.reason): each.count for each in lane.lane.recent_errors.latest()}
    of_outcome = [count for (kind, _), count in errors.items() if kind == outcome]
    assert sum(of_outcome) == getattr(lane.stats, counter) > 0
    assert (outcome, reason) in errors
    lines = [formatEvent(event) for event in events]
    assert any(line.endswith(f": {outcome}: {reason}") for line in lines), lines


def test_a_reason_is_logged_once_a_second_and_hides_no_other(tmp_path):
    """With the device, shortened, and the number of those that were not logged."""
    lane = bench(tmp_path)
    settlement = lane.lane._settlement
    with capturedLogs() as events:
        for _ in range(214):
            settlement.warn("overflowed", OVER_RATE, Lease(PUSH))
            settlement.warn("expired", "older than its ttl", Lease(PUSH))
        lane.clock.advance(1)
        settlement.warn("overflowed", OVER_RATE, Lease(PUSH))
    start = "c2dm: push to APA91bHun4..."
    assert [formatEvent(event) for event in events] == [
        f"{start}: overflowed: {OVER_RATE}",
        f"{start}: expired: older than its ttl",
        f"{start}: overflowed: {OVER_RATE} (213 more like it were not logged)",
    ]
    assert {each.count for each in settlement.errors.latest()} == {214, 215}


def watched(tmp_path, **options):
    """A lane that has started, and the list to which the ends of its pushes are handed."""
    lane = bench(tmp_path, max_age=100.0, **options)
    ends = []
    lane.lane.report_pushes(is_traced=False, on_outcome=ends.append)
    lane.lane.start()
    return lane, ends


@pytest.mark.parametrize(
    ("scenario", "options", "outcome"),
    [
        (over_max_queued, SMALL, "overflowed"),
        (over_max_age, SMALL, "expired"),
        (over_its_ttl, SMALL, "expired"),
        (too_many_for_one_device, SLOW, "overflowed"),
        (answered(b"id=1"), SMALL, "sent"),
        (answered(b"Error=MessageTooBig"), SMALL, "refused"),
        (BAD, SMALL, "bad_device"),
        (blocked_before, SMALL, "blocked"),
    ],
)
def test_each_end_is_handed_on_once(tmp_path, scenario, options, outcome):
    """Those of the queue as well; as often as it is counted."""
    lane, ends = watched(tmp_path, **options)
    scenario(lane)
    lane.check()
    counted = {ended.outcome: getattr(lane.stats, f"messages_{ended.outcome}") for ended in ends}
    assert {ended.route for ended in ends} == {"c2dm"}
    for each, count in counted.items():
        assert sum(ended.outcome == each for ended in ends) == count
    assert counted[outcome] > 0
    assert len({id(ended.push) for ended in ends}) == len(ends)


def test_a_push_that_takes_the_place_of_another_one(tmp_path):
    """The older one has ended, though nothing went wrong."""
    lane, ends = watched(tmp_path, **SLOW)
    lane.push(*[b"phone:key:x"] * 2, b"phone:same:1", b"phone:same:2")
    lane.check()
    assert [(ended.outcome, ended.push.payload) for ended in ends] == [("collapsed", b"1")]
    assert lane.reported.total() == 0


def test_the_requests_of_a_push_and_their_times(tmp_path):
    """From its receipt to the last request, and from that to its answer."""
    lane, ends = watched(tmp_path)
    lane.push(b"phone:key:x")
    lane.advance(2)
    lane.http.posted[0].fail(NoAnswer("no answer"))
    lane.advance(1)
    lane.clock.advance(0.25)
    lane.http.posted[1].say(body=b"id=0:7")
    (ended,) = ends
    assert (ended.outcome, ended.reason, ended.message_name) == ("sent", "", b"0:7")
    assert (ended.sends, ended.waited, ended.answered) == (2, 3.0, 0.25)


def test_a_push_that_ended_before_its_next_request(tmp_path):
    """Its last request counts, and its answer, if there was one."""
    lane, ends = watched(tmp_path)
    lane.push(b"phone:key:answered", b"other:key:unanswered")
    lane.clock.advance(0.5)
    lane.http.posted[0].say(500, b"")
    lane.http.posted[1].fail(NoAnswer("no answer"))
    lane.clock.advance(101)
    found = {ended.push.payload: ended[3:] for ended in ends}
    assert found == {
        b"answered": ("older than its max_age", None, 1, 0.0, 0.5),
        b"unanswered": ("older than its max_age", None, 1, 0.0, None),
    }


def test_a_push_that_was_never_sent(tmp_path):
    """Waited until its end; whoever is told may fail, the push has ended all the same."""
    lane = bench(tmp_path, max_age=10.0)
    lane.credentials.hold = True
    ends = []

    def take(ended):
        ends.append(ended)
        raise RuntimeError("no")

    lane.lane.report_pushes(is_traced=False, on_outcome=take)
    lane.lane.start()
    lane.push(b"phone:key:x")
    lane.advance(11)
    with capturedLogs() as events:
        lane.credentials.held[0].callback(lane.credentials.make())
    lane.check()
    (ended,) = ends
    assert (ended.outcome, ended.sends, ended.waited, ended.answered) == ("expired", 0, 11.0, None)
    assert formatEvent(events[-1]).startswith("the outcome of a push could not be handed on")
