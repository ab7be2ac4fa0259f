"""How a push ended, as a value."""

from typing import get_args

from node2dm_tw.core.outcome import Ended, PushOutcome, make_ended, rfc3339
from node2dm_tw.core.push import split_at_colons
from node2dm_tw.core.stats import TERMINAL_COUNTERS

PUSH = split_at_colons(b"d:k:p", 0.0)


def test_an_outcome_is_a_terminal_counter():
    """All but the one of pushes that the next process will end."""
    counters = {f"messages_{outcome}" for outcome in get_args(PushOutcome)}
    assert counters == set(TERMINAL_COUNTERS) - {"messages_handed_over"}


def test_the_fast_way_to_make_one():
    """Makes the same."""
    fields = ("fcm", PUSH, "sent", "", b"name", 1, 0.5, 0.1)
    assert make_ended(fields) == Ended(*fields)
    assert make_ended(fields).outcome == "sent"


def test_a_moment_as_text():
    """UTC with milliseconds, of which none is ahead of the time."""
    assert rfc3339(1_700_000_000.1256) == "2023-11-14T22:13:20.125Z"
    assert rfc3339(0) == "1970-01-01T00:00:00.000Z"
