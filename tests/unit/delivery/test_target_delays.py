"""Targets that wait as a whole: who goes first, and when all go again."""

import pytest
from twisted.internet.task import Clock

from node2dm_tw.delivery.target_delays import HEAD_START, TargetDelays
from tests.support.doubles import no_jitter


@pytest.fixture
def delays() -> TargetDelays:
    return TargetDelays(Clock(), no_jitter, 10.0, capacity=3)


def now(delays):
    return delays.clock.seconds()


def test_two_unexplained_answers_in_a_row_delay_a_target(delays):
    """Not one, and not two with an explained one between."""
    delays.on_unexplained(b"d", now(delays))
    assert delays.wait(b"d") == 0.0
    assert not delays.on_explained(b"d")
    delays.on_unexplained(b"d", now(delays))
    assert delays.wait(b"d") == 0.0
    delays.on_unexplained(b"d", now(delays))
    assert delays.wait(b"d") == pytest.approx(10.0 * HEAD_START)
    assert delays.wait(b"e") == 0.0


def test_what_was_in_flight_already_counts_once(delays):
    """512 answers of one moment are one delay of the first length."""
    for _ in range(2):
        delays.on_unexplained(b"d", 0.0)
    delays.clock.advance(1.0)
    for _ in range(510):
        delays.on_unexplained(b"d", -1.0)
    assert delays.wait(b"d") == pytest.approx(10.0 * HEAD_START - 1.0)


def test_one_trial_goes_for_each_delay(delays):
    """The others wait as long again; where the trial fails the delay doubles."""
    for _ in range(2):
        delays.on_unexplained(b"d", 0.0)
    for seconds in (10.0, 20.0, 40.0):
        delays.clock.advance(seconds * HEAD_START)
        sent = now(delays)
        assert delays.wait(b"d") == 0.0
        assert delays.wait(b"d") == pytest.approx(seconds * HEAD_START)
        delays.on_unexplained(b"d", sent)
        assert delays.wait(b"d") == pytest.approx(2 * seconds * HEAD_START)
    assert delays.on_explained(b"d")
    assert delays.wait(b"d") == 0.0


def test_a_delay_that_the_service_named(delays):
    """The longest of several holds."""
    delays.delay(b"news", 60.0)
    delays.delay(b"news", 30.0)
    assert delays.wait(b"news") == 60.0
    delays.clock.advance(60.0)
    assert delays.wait(b"news") == 0.0
    assert delays.wait(b"news") == 60.0


def test_targets_are_bounded(delays):
    """Beyond the capacity the one that failed first is forgotten."""
    for target in (b"a", b"b", b"c", b"d"):
        delays.delay(target, 60.0)
    assert delays.wait(b"a") == 0.0
    assert delays.wait(b"d") == 60.0
    assert len(delays.delays) == 3
