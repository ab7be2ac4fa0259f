"""The bytes that the queues of all routes may hold together."""

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.task import Clock

from node2dm_tw.core.push import Push, split_at_colons
from node2dm_tw.core.stats import RouteStats
from node2dm_tw.queues.budget import PUSH_OVERHEAD_BYTES, ByteBudget
from node2dm_tw.queues.memory import MAX_PUSH_BYTES, MemoryQueue
from node2dm_tw.state.spool import Spool

EACH = 1_000 + PUSH_OVERHEAD_BYTES


def make(folder: Path, budget: ByteBudget, name: str = "a", max_queued: int = 10_000):
    clock = Clock()
    return MemoryQueue(max_queued, RouteStats(), Spool(folder / name), clock, clock.seconds, budget)


def pushes(count: int, first: int = 0, size: int = 1_000) -> list[Push]:
    """Pushes whose lines have so many bytes; their numbers are in the collapse key."""
    heads = (b"d:%09d:" % number for number in range(first, first + count))
    return [split_at_colons(head.ljust(size, b"x"), 0.0) for head in heads]


def numbers(queue: MemoryQueue) -> list[int]:
    taken = []
    while (lease := queue.take()) is not None:
        taken.append(int(lease.push.collapse_key))
        queue.settle(lease)
    return taken


def test_the_oldest_overflow_when_the_bytes_are_too_many(tmp_path):
    """Counted as overflowed; what is left fits."""
    budget = ByteBudget(10 * EACH)
    queue = make(tmp_path, budget)
    for number in range(25):
        queue.put(pushes(1, first=number))
        assert queue.queued_bytes == min(number + 1, 10) * EACH
    assert (queue.depth, queue.stats.messages_overflowed) == (10, 15)
    assert numbers(queue) == list(range(15, 25))
    assert (queue.queued_bytes, budget.free) == (0, 10 * EACH)


def test_what_was_settled_makes_room(tmp_path):
    """Any number may pass through, as long as not too many are there at once."""
    queue = make(tmp_path, ByteBudget(10 * EACH))
    for number in range(0, 1_000, 10):
        queue.put(pushes(10, first=number))
        assert len(numbers(queue)) == 10
    assert queue.stats.messages_overflowed == 0


def test_pushes_on_lease_count_and_are_spared(tmp_path):
    """Where all else is on lease the newcomer itself overflows."""
    queue = make(tmp_path, ByteBudget(2 * EACH))
    queue.put(pushes(2))
    first, second = queue.take(), queue.take()
    queue.put(pushes(1, first=9))
    assert (queue.take(), queue.depth, queue.stats.messages_overflowed) == (None, 2, 1)
    queue.release(first)
    queue.put(pushes(1, first=10))
    assert queue.stats.messages_overflowed == 2
    queue.settle(second)
    queue.put(pushes(1, first=11))
    assert numbers(queue) == [0, 11]


def test_the_route_that_holds_most_gives_way(tmp_path):
    """Not the one whose push came last, nor the one that has more pushes."""
    budget = ByteBudget(100 * EACH)
    small, large = (make(tmp_path, budget, name) for name in ("small", "large"))
    small.put(pushes(60, size=300))
    large.put(pushes(20, size=4_000))
    before = large.queued_bytes
    small.put(pushes(40, first=60, size=300))
    assert (small.stats.messages_overflowed, large.stats.messages_overflowed) == (0, 4)
    assert large.queued_bytes == before - 4 * (4_000 + PUSH_OVERHEAD_BYTES)
    assert numbers(small) == list(range(100))
    assert numbers(large) == list(range(4, 20))


def test_a_route_all_of_whose_pushes_are_on_lease_cannot_give_way(tmp_path):
    """The next largest does."""
    budget = ByteBudget(10 * EACH)
    large, small = (make(tmp_path, budget, name) for name in ("large", "small"))
    large.put(pushes(7))
    leases = [large.take() for _ in range(7)]
    small.put(pushes(5))
    assert (large.stats.messages_overflowed, small.stats.messages_overflowed) == (0, 2)
    assert numbers(small) == [2, 3, 4]
    assert all(leases)


def test_a_budget_that_was_made_smaller_is_reached_by_sending(tmp_path):
    """Newcomers take the place of the oldest; nothing more is dropped for the new limit."""
    budget = ByteBudget(10 * EACH)
    queue = make(tmp_path, budget)
    queue.put(pushes(10))
    budget.maximum = 2 * EACH
    queue.put(pushes(3, first=10))
    assert (queue.depth, queue.stats.messages_overflowed) == (10, 3)
    assert numbers(queue) == list(range(3, 13))
    queue.put(pushes(3))
    assert queue.depth == 2


def test_both_limits_hold(tmp_path):
    """A batch that is too many and too large is cut to the stricter of the two."""
    for max_queued, expected in ((3, 3), (10, 5)):
        queue = make(tmp_path, ByteBudget(5 * EACH), max_queued=max_queued)
        queue.put(pushes(20))
        assert (queue.depth, queue.stats.messages_overflowed) == (expected, 20 - expected)
        assert queue.queued_bytes == expected * EACH


def test_on_ready_is_not_called_for_nothing(tmp_path):
    """Where every newcomer overflowed there is nothing to take."""
    queue = make(tmp_path, ByteBudget(EACH))
    queue.put(pushes(1))
    lease = queue.take()
    calls = []
    queue.on_ready = lambda: calls.append(1)
    queue.put(pushes(3, first=1))
    assert calls == []
    queue.settle(lease)
    queue.put(pushes(1, first=9))
    assert calls == [1]


def test_a_spool_is_taken_up_as_far_as_the_bytes_allow(tmp_path):
    """And goes on when there is room: taking up never drops a push."""
    count = 400
    queue = make(tmp_path, ByteBudget())
    queue.put(pushes(count))
    queue.stop()
    assert queue.queued_bytes == 0
    budget = ByteBudget(MAX_PUSH_BYTES + 100 * EACH)
    again = make(tmp_path, budget)
    again.start()
    taken = []
    for _ in range(3 * count):
        assert again.queued_bytes <= budget.maximum
        if again.depth >= 100:
            taken += numbers(again)
        again.clock.advance(1)
    taken += numbers(again)
    assert sorted(taken) == list(range(count))
    assert (again.stats.messages_overflowed, again.stats.messages_taken_over) == (0, count)


def test_a_stop_hands_the_bytes_over(tmp_path):
    """What is in the spool is not held any more."""
    budget = ByteBudget(100 * EACH)
    queue = make(tmp_path, budget)
    queue.put(pushes(10))
    lease = queue.take()
    queue.release(lease)
    queue.stop()
    assert (queue.depth, queue.queued_bytes, budget.free) == (0, 0, 100 * EACH)


STEPS = st.lists(
    st.tuples(st.sampled_from(["put", "take", "settle", "release"]), st.integers(0, 2))
    | st.tuples(st.just("limit"), st.integers(1, 12)),
    max_size=60,
)


@given(steps=STEPS, sizes=st.lists(st.integers(12, 3_000), min_size=1, max_size=5))
def test_whatever_happens_the_bytes_are_right(steps, sizes):
    """The sum is that of the pushes, the bound holds, and every push is counted."""
    budget = ByteBudget(8 * EACH)
    queues = [make(Path("/nowhere"), budget, str(n)) for n in range(3)]
    leases, came, settled, shrank = [], 0, 0, False
    for step, number in steps:
        if step == "limit":
            shrank = shrank or number * EACH < budget.maximum
            budget.maximum = number * EACH
        elif step == "put":
            batch = [push for size in sizes for push in pushes(1, size=size)]
            queues[number].put(batch)
            came += len(batch)
        elif step == "take" and (lease := queues[number].take()):
            leases.append((queues[number], lease))
        elif leases and step in ("settle", "release"):
            queue, lease = leases.pop()
            getattr(queue, step)(lease)
            settled += step == "settle"
        overflowed = sum(queue.stats.messages_overflowed for queue in queues)
        assert came == settled + overflowed + sum(queue.depth for queue in queues)
        held = [queue.queued_bytes for queue in queues]
        assert budget.free == budget.maximum - sum(held)
        assert shrank or budget.free >= 0
    for queue, lease in leases:
        queue.settle(lease)
    for queue in queues:
        numbers(queue)
        assert (queue.depth, queue.queued_bytes) == (0, 0)
