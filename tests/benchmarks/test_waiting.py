"""Waiting for a count, and the bar that is shown meanwhile."""

import io

from benchmarks.progress import Progress, bar
from benchmarks.waiting import wait_for_count


def test_a_count_that_comes_there_is_waited_for() -> None:
    """It is asked until it has come there."""
    counts = iter([0, 1, 1, 3])
    assert wait_for_count(lambda: next(counts), 3, every=0)


def test_a_count_that_stands_still_is_given_up() -> None:
    """What is lost never comes, and nobody waits for it for ever."""
    assert not wait_for_count(lambda: 2, 3, stall=0, every=0)


def test_the_bar_fills() -> None:
    """It shows steps, time, and what is being done."""
    assert bar(1, 2, 61, "idle") == f"[{'#' * 15}{'.' * 15}] 1/2 1:01 idle"


def test_no_bar_is_drawn_into_a_file() -> None:
    """A log holds the results alone."""
    stream = io.StringIO()
    progress = Progress(2, stream)
    progress.step("idle")
    progress.end()
    assert stream.getvalue() == ""
