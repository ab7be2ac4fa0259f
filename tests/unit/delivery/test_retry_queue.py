"""The retry queue: who is due, who is parked, and who takes whose place."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.task import Clock

from node2dm_tw.core.push import split_at_colons
from node2dm_tw.delivery.retry_queue import MAX_PER_DEVICE, RetryQueue
from node2dm_tw.queues.interface import Lease


def lease(line: bytes, received: float = 0.0) -> Lease:
    return Lease(split_at_colons(line, received))


@pytest.fixture
def retry_queue() -> RetryQueue:
    return RetryQueue(Clock(), 1_000)


def payloads(leases):
    return [taken.push.payload.decode() for taken in leases]


def take_all_due(queue):
    taken = []
    while (due := queue.take_due()) is not None:
        taken.append(due)
    return taken


def test_in_the_order_of_their_times(retry_queue):
    """Each is due at its moment and not before; the timer fires at the first."""
    calls = []
    retry_queue.on_due = lambda: calls.append(payloads(take_all_due(retry_queue)))
    for seconds in (3, 1, 2, 1):
        retry_queue.sleep(lease(b"d:k:%d" % seconds), seconds)
    retry_queue.clock.pump([0.5] * 8)
    assert calls == [["1", "1"], ["2"], ["3"]]
    assert len(retry_queue) == 0


def test_one_parked_push_is_due_and_the_others_wait_for_it(retry_queue):
    """The first goes ahead; the next is due at once, and is parked again in front."""
    for number in range(3):
        retry_queue.park(lease(b"news:k%d:%d" % (number, number)), 10.0)
    retry_queue.clock.advance(9)
    assert retry_queue.take_due() is None
    retry_queue.clock.advance(1)
    trial, second = retry_queue.take_due(), retry_queue.take_due()
    assert payloads([trial, second]) == ["0", "1"]
    retry_queue.park(second, 5.0, first=True)
    assert retry_queue.take_due() is None
    assert len(retry_queue) == 2
    assert payloads(retry_queue.unpark(b"news")) == ["1", "2"]
    assert len(retry_queue) == 0
    retry_queue.clock.advance(60)
    assert retry_queue.take_due() is None


def test_a_newer_push_takes_the_place_of_an_older_one(retry_queue):
    """Asleep or parked, with the same device and collapse key; its failures are counted on."""
    older, parked = lease(b"d:k:old", 1.0), lease(b"news:k:old", 1.0)
    older.attempts = 3
    retry_queue.sleep(older, 5.0)
    retry_queue.park(parked, 5.0)
    newer = lease(b"d:k:new", 2.0)
    assert retry_queue.replace(newer) is older
    assert newer.attempts == 3
    assert retry_queue.replace(lease(b"news:k:new", 2.0)) is parked
    assert retry_queue.replace(lease(b"d:other:new", 2.0)) is None
    assert retry_queue.replace(lease(b"d::new", 2.0)) is None
    assert retry_queue.replace(lease(b"d:k:older", 0.5)) is None
    retry_queue.clock.advance(5)
    assert sorted(payloads(take_all_due(retry_queue))) == ["new", "new"]


def test_a_device_and_key_that_only_read_alike_are_two(retry_queue):
    """A token may hold a colon, and so may a key of the JSON form."""
    with_key = lease(b"a:b:x", 1.0)
    retry_queue.sleep(with_key, 5.0)
    other = lease(b"a:b:x", 2.0)
    other.push.device_end = 3
    assert retry_queue.replace(other) is None


def test_room_for_a_target(retry_queue):
    """Asleep and parked count together."""
    for number in range(MAX_PER_DEVICE):
        assert retry_queue.has_room(b"d", MAX_PER_DEVICE)
        if number % 2:
            retry_queue.sleep(lease(b"d:k%d:x" % number), 1.0)
        else:
            retry_queue.park(lease(b"d:k%d:x" % number), 1.0)
    assert not retry_queue.has_room(b"d", MAX_PER_DEVICE)
    assert retry_queue.has_room(b"e", MAX_PER_DEVICE)
    assert retry_queue.target_capacity == 100


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["sleep", "park", "first", "take", "unpark", "replace", "advance"]),
        st.integers(0, 3),
        st.integers(0, 5),
    ),
    max_size=60,
)


@given(STEPS)
def test_no_lease_is_lost_or_given_back_twice(steps):
    """Whatever is done in whatever order; and in the end no timer is left."""
    queue = RetryQueue(Clock(), 1_000)
    inside = set()
    for number, (step, target, value) in enumerate(steps):
        fresh = lease(b"d%d:k%d:%d" % (target, value % 3, number), float(number))
        if step == "sleep":
            queue.sleep(fresh, value)
            inside.add(fresh)
        elif step in ("park", "first"):
            queue.park(fresh, value, first=step == "first")
            inside.add(fresh)
        elif step == "replace":
            older = queue.replace(fresh)
            if older is not None:
                inside.remove(older)
                inside.add(fresh)
        elif step == "take":
            due = queue.take_due()
            if due is not None:
                inside.remove(due)
        elif step == "unpark":
            for parked in queue.unpark(b"d%d" % target):
                inside.remove(parked)
        else:
            queue.clock.advance(value)
        assert len(queue) == len(inside)
    left = queue.empty()
    assert len(left) == len(inside)
    assert set(left) == inside
    assert not queue.clock.getDelayedCalls()


def test_whoever_stores_the_moments_is_called_with_each():
    """For a push that sleeps, is parked, takes another's place, or wakes before its time."""
    clock, stored = Clock(), []
    queue = RetryQueue(
        clock, 1_000, on_sleep=lambda lease, delay: stored.append((int(lease.push.payload), delay))
    )
    queue.sleep(lease(b"d:key:1"), 9.0)
    queue.park(lease(b"news:k:2"), 5.0)
    clock.advance(2)
    queue.replace(lease(b"d:key:3", 1.0))
    queue.unpark(b"news")
    queue.empty()
    assert stored == [(1, 9.0), (2, 5.0), (3, 7.0), (2, 0.0)]
