"""What of the queue in memory the garbage collector visits."""

import gc

from node2dm_tw.core.push import Push
from node2dm_tw.queues.memory import UNTRACK_DEPTH
from tests.unit.queues.test_memory import make, payloads, pushes


def pushes_visited():
    """How many pushes a full collection visits."""
    return sum(isinstance(found, Push) for found in gc.get_objects())


def test_a_long_queue_is_excluded_from_garbage_collection(tmp_path):
    """However long it is, the collector visits the first 10,000 and those put with them."""
    queue = make(tmp_path, 100_000)
    gc.collect()
    before = len(gc.get_objects())
    for first in range(0, 60_000, 100):
        queue.put(pushes(100, first))
    assert queue.depth == 60_000
    assert len(gc.get_objects()) - before < UNTRACK_DEPTH + 200
    assert payloads(queue) == list(range(60_000))
    for first in range(0, 1_000, 100):
        queue.put(pushes(100, first))
    assert payloads(queue) == list(range(1_000))
    assert len(gc.get_objects()) - before < 100


def test_a_queue_that_stays_full_is_excluded_from_garbage_collection(tmp_path):
    """After a while the collector visits none of its pushes."""
    gc.collect()
    before = pushes_visited()
    queue = make(tmp_path, 20_000)
    for first in range(0, 60_000, 100):
        queue.put(pushes(100, first))
    assert pushes_visited() == before
    assert payloads(queue) == list(range(40_000, 60_000))
