"""The circuit breaker: each cell of its table, and what counts as evidence."""

import pytest
from twisted.internet.task import Clock

from node2dm_tw.delivery.circuit_breaker import (
    TABLE,
    BreakerState,
    CircuitBreaker,
    Effect,
    Event,
    Fate,
)
from node2dm_tw.state.pause_file import PauseFile
from tests.support.doubles import no_jitter

CLOSED, OPEN, HALF_OPEN = BreakerState


def make_breaker(clock, pause_file, on_change=lambda: None):
    return CircuitBreaker("shop", clock, no_jitter, 1.0, pause_file, lambda: None, on_change)


class Breaker:
    """A circuit breaker, and a push for each failure."""

    def __init__(self):
        self.clock = Clock()
        self.changes = []
        self.breaker = make_breaker(
            self.clock, None, on_change=lambda: self.changes.append(self.breaker.state)
        )
        self.number = 0

    def fail(self, event, *, target=None, epoch=None, push="another", **more):
        """Let a request of the present epoch fail, to a target of its own unless one is named."""
        self.number += 1
        return self.breaker.on_failure(
            event,
            self.breaker.epoch if epoch is None else epoch,
            "why",
            push=self.number if push == "another" else push,
            target=b"%d" % self.number if target is None else target,
            **more,
        )

    def bring_to(self, state):
        """Open it, and wait where it is to be half-open."""
        if state is not CLOSED:
            self.breaker.open("why", 2.0)
        if state is HALF_OPEN:
            self.clock.advance(2.0)
        assert self.breaker.state is state


@pytest.fixture
def made():
    return Breaker()


@pytest.mark.parametrize("state", BreakerState)
@pytest.mark.parametrize("event", [event for event in Event if event is not Event.EXPLAINED])
def test_each_cell_of_the_table(made, event, state):
    """The push meets the fate that stands there, and the breaker goes where it says."""
    made.bring_to(state)
    epoch = made.breaker.epoch - (state is OPEN)
    assert made.fail(event, epoch=epoch) is TABLE[event][state].fate
    opens = TABLE[event][state].effect is Effect.OPEN
    assert made.breaker.state is (OPEN if opens else state)


@pytest.mark.parametrize("state", BreakerState)
def test_an_explained_answer_closes_only_as_the_probes(made, state):
    """In every state it clears the counts; open, it does not end the pause."""
    made.bring_to(state)
    made.breaker.on_explained(made.breaker.epoch - (state is OPEN))
    assert made.breaker.state is (CLOSED if state is HALF_OPEN else state)


@pytest.mark.parametrize("event", [Event.UNEXPLAINED, Event.UNANSWERED])
def test_the_fifth_push_in_a_row_opens_it(made, event):
    """Four do not, an explained answer begins anew, and one push counts once."""
    for _ in range(4):
        made.fail(event)
    made.breaker.on_explained(made.breaker.epoch)
    for _ in range(10):
        made.fail(event, push="the same")
    assert made.breaker.state is CLOSED
    made.breaker.on_explained(made.breaker.epoch)
    for _ in range(5):
        assert made.breaker.state is CLOSED
        made.fail(event)
    assert made.breaker.state is OPEN


def test_unexplained_answers_need_three_targets(made):
    """A hundred pushes to two devices open nothing; one to a third does."""
    for number in range(100):
        made.fail(Event.UNEXPLAINED, target=b"%d" % (number % 2))
    assert made.breaker.state is CLOSED
    made.fail(Event.UNEXPLAINED, target=b"third")
    assert made.breaker.state is OPEN


def test_the_two_kinds_of_failure_are_counted_apart(made):
    """Four of each are not eight."""
    for _ in range(4):
        made.fail(Event.UNEXPLAINED)
        made.fail(Event.UNANSWERED)
    assert made.breaker.state is CLOSED


def test_what_counts_for_nothing_opens_nothing(made):
    """As the other requests of a connection that was condemned for one."""
    for _ in range(100):
        made.fail(Event.UNANSWERED, push=None)
    assert made.breaker.state is CLOSED


def test_pauses_double_until_the_probe_succeeds(made):
    """From the first delay on; what was named does not double, and lasts a second at the least."""
    pauses = []
    for _ in range(4):
        made.fail(Event.UNAVAILABLE)
        pauses.append(round(made.breaker.pause_left, 6))
        made.clock.advance(made.breaker.pause_left)
        assert made.breaker.state is HALF_OPEN
    assert pauses == [1, 2, 4, 8]
    made.breaker.on_explained(made.breaker.epoch)
    made.fail(Event.UNAVAILABLE)
    assert round(made.breaker.pause_left, 6) == 1
    made.clock.advance(1)
    made.fail(Event.UNAVAILABLE, after=0.0)
    assert made.breaker.pause_left == 1.0


def test_the_latest_moment_named_wins(made):
    """Also where it comes late, to a request from before the pause."""
    made.fail(Event.UNAVAILABLE, after=2.0)
    for seconds in (10.0, 3.0, None):
        made.fail(Event.UNAVAILABLE, epoch=0, after=seconds)
    assert made.breaker.pause_left == 10.0
    made.clock.advance(10.0)
    made.breaker.on_explained(made.breaker.epoch)
    assert made.breaker.state is CLOSED
    made.fail(Event.UNAVAILABLE, epoch=0, after=None)
    assert made.breaker.state is CLOSED
    made.fail(Event.UNAVAILABLE, epoch=0, after=5.0)
    assert made.breaker.pause_left == 5.0


def test_an_explained_answer_from_before_the_pause_ends_nothing(made):
    """Only the probe's does: the upstream may have broken down since."""
    made.bring_to(HALF_OPEN)
    made.breaker.on_explained(made.breaker.epoch - 1)
    assert made.breaker.state is HALF_OPEN
    assert made.fail(Event.UNEXPLAINED, epoch=made.breaker.epoch - 1) is Fate.RELEASE
    assert made.breaker.state is HALF_OPEN


def kept(folder, clock, wall=1_700_000_000.0):
    pause_file = PauseFile(folder / "shop.pause", lambda: wall + clock.seconds())
    return make_breaker(clock, pause_file)


def test_a_pause_that_was_named_outlives_the_process(tmp_path):
    """The next one goes on with it; a back-off of our own ends with the process."""
    clock = Clock()
    breaker = kept(tmp_path, clock)
    breaker.on_failure(Event.UNAVAILABLE, 0, "why", after=300.0)
    breaker.stop()
    clock.advance(100.0)
    later = kept(tmp_path, clock)
    later.start()
    assert later.state is OPEN
    assert later.pause_left == pytest.approx(200.0)
    clock.advance(200.0)
    later.on_explained(later.epoch)
    assert later.state is CLOSED
    assert not list(tmp_path.iterdir())
    for _ in range(4):
        later.on_failure(Event.UNAVAILABLE, later.epoch, "why")
        clock.advance(later.pause_left)
    assert not list(tmp_path.iterdir())


def test_the_latest_moment_named_is_kept(tmp_path):
    """That of a late answer, and that which lengthens a probe's pause."""
    clock = Clock()
    breaker = kept(tmp_path, clock)
    breaker.on_failure(Event.UNAVAILABLE, 0, "why", after=10.0)
    breaker.on_failure(Event.UNAVAILABLE, 0, "why", after=30.0)
    breaker.on_failure(Event.UNAVAILABLE, 0, "why", after=20.0)
    later = kept(tmp_path, clock)
    later.start()
    assert later.pause_left == pytest.approx(30.0)
    clock.advance(30.0)
    later.on_failure(Event.UNEXPLAINED, later.epoch, "why", at_least=90.0)
    latest = kept(tmp_path, clock)
    latest.start()
    assert latest.pause_left == pytest.approx(90.0)


def test_a_stopped_breaker_can_start_again(made):
    """It goes on with its pause."""
    made.bring_to(OPEN)
    made.breaker.stop()
    made.clock.advance(5.0)
    made.breaker.start()
    made.clock.advance(0.0)
    assert made.breaker.state is HALF_OPEN


def test_every_change_is_told(made):
    """Once each, and no call is left pending after a stop."""
    made.bring_to(HALF_OPEN)
    made.breaker.on_explained(made.breaker.epoch)
    assert made.changes == [OPEN, HALF_OPEN, CLOSED]
    made.bring_to(OPEN)
    made.breaker.stop()
    assert not made.clock.getDelayedCalls()
