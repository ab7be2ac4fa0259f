"""Objects that are excluded from garbage collection."""

import gc
import weakref

import pytest

from node2dm_tw.core import untracked
from node2dm_tw.core.push import split_at_colons


class Thing:
    """May be made part of a reference cycle."""

    def __init__(self):
        self.other = None


def test_an_untracked_object_stays_untracked_and_is_freed_with_its_last_reference():
    """Setting an attribute does not track it again."""
    thing = Thing()
    untracked.untrack([thing])
    thing.other = b"bytes"
    assert not gc.is_tracked(thing)
    reference = weakref.ref(thing)
    del thing
    assert reference() is None


def test_an_object_that_is_not_tracked_is_left_as_it_is():
    """It is untracked already, or of a type that is never tracked."""
    push = split_at_colons(b"a:b:c", 1.0)
    untracked.untrack([push, push, 1, b"bytes"])
    assert not gc.is_tracked(push)
    assert push.payload == b"c"


@pytest.fixture
def frozen():
    thresholds = gc.get_threshold()
    untracked.freeze()
    yield
    gc.unfreeze()
    assert gc.get_threshold() == thresholds
    assert gc.isenabled()


def test_what_exists_at_the_start_is_excluded(frozen):
    """Modules and classes stay until the end."""
    assert gc.get_freeze_count() > 10_000
    assert not any(found is Thing for found in gc.get_objects())


def failed():
    """An exception in a cycle with the frame that raised it, as Twisted's failures often are."""
    thing = Thing()
    try:
        raise ZeroDivisionError
    except ZeroDivisionError as error:
        thing.other = error
    return weakref.ref(thing)


def test_later_cycles_are_collected(frozen):
    """By Python itself, however old they are."""
    references = []
    gc.disable()
    for _ in range(10):
        references.append(failed())
        gc.collect(1)  # what is left is old now
    gc.enable()
    kept = [[] for _ in range(200_000)]
    assert len(kept) == 200_000
    assert [reference() for reference in references] == [None] * 10
