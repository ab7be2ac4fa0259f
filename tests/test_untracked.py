"""Objects that the garbage collector need not look at."""

import gc
import weakref

import pytest

from node2dm_tw import untracked
from node2dm_tw.push import split_at_colons


class Thing:
    """Refers to itself, if it is told to: then only the collector takes it away."""

    def __init__(self):
        self.other = None


def test_an_untracked_object_stays_untracked_and_goes_with_its_last_reference():
    """Whatever is set on it; its memory is not lost."""
    thing = Thing()
    untracked.untrack([thing])
    thing.other = b"bytes"
    assert not gc.is_tracked(thing)
    reference = weakref.ref(thing)
    del thing
    assert reference() is None


def test_what_is_untracked_already_stays_so():
    """Numbers never were tracked."""
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


def test_what_was_there_is_looked_at_no_more(frozen):
    """Modules and classes: they stay until the end."""
    assert gc.get_freeze_count() > 10_000
    assert not any(found is Thing for found in gc.get_objects())


def failed():
    """An exception in a circle with the frame that raised it, as Twisted's failures often are."""
    thing = Thing()
    try:
        raise ZeroDivisionError
    except ZeroDivisionError as error:
        thing.other = error
    return weakref.ref(thing)


def test_circles_that_come_later_are_collected(frozen):
    """By Python itself, however old they have become."""
    references = []
    gc.disable()
    for _ in range(10):
        references.append(failed())
        gc.collect(1)  # what is left is old now
    gc.enable()
    kept = [[] for _ in range(200_000)]
    assert len(kept) == 200_000
    assert [reference() for reference in references] == [None] * 10
