"""The clock of the simulations keeps time as Twisted's own does."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.error import AlreadyCalled, AlreadyCancelled
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.internet.task import Clock
from zope.interface.verify import verifyObject

from tests.support.heap_clock import HeapClock

DELAYS = st.integers(0, 20).map(float)
STEPS = st.lists(
    st.tuples(st.sampled_from(["call", "cancel", "reset", "delay", "advance"]), DELAYS),
    max_size=60,
)


def play(clock, advance, steps):
    """Do what the steps say to a clock; return when each call was made."""
    made, calls = [], []
    for number, (what, seconds) in enumerate(steps):
        waiting = [call for call in calls if call.active()]
        if what == "call":
            calls.append(
                clock.callLater(seconds, lambda n=number: made.append((n, clock.seconds())))
            )
        elif what == "advance":
            advance(clock.seconds() + seconds)
        elif waiting:
            arguments = () if what == "cancel" else (seconds,)
            getattr(waiting[int(seconds) % len(waiting)], what)(*arguments)
    left = sorted(call.getTime() for call in clock.getDelayedCalls())
    advance(1_000.0)
    return sorted(made), left


@given(STEPS)
def test_it_calls_what_twisteds_clock_calls(steps):
    """The same calls, at the same moments of a clock that stands still at each."""
    ours, theirs = HeapClock(), Clock()

    def advance_theirs(moment):
        while due := [call.getTime() for call in theirs.getDelayedCalls()]:
            if min(due) > moment:
                break
            theirs.advance(max(0.0, min(due) - theirs.seconds()))
        theirs.advance(moment - theirs.seconds())

    assert play(ours, ours.advance_to, steps) == play(theirs, advance_theirs, steps)


def test_it_provides_twisteds_interfaces():
    """Whole, and a call that is over says so."""
    clock = HeapClock()
    call, other = clock.callLater(1, list), clock.callLater(1, list)
    verifyObject(IReactorTime, clock)
    verifyObject(IDelayedCall, call)
    other.cancel()
    clock.advance_to(2)
    with pytest.raises(AlreadyCalled):
        call.cancel()
    with pytest.raises(AlreadyCancelled):
        other.reset(1)


def test_calls_of_one_moment_go_in_their_order():
    """And what they call for the same moment goes after them."""
    clock, made = HeapClock(), []
    clock.callLater(1, lambda: clock.callLater(0, made.append, 3))
    clock.callLater(1, made.append, 1)
    clock.callLater(1, made.append, 2)
    clock.advance_to(1)
    assert made == [1, 2, 3]
