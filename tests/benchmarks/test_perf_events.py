"""The processor's counter."""

import pytest

from benchmarks.perf_events import Counter, is_supported

_TASK_CLOCK = (1, 1)
"""Nanoseconds of CPU, which the kernel counts itself: there even where the processor counts
nothing for us."""


def test_a_counter_grows_with_what_is_done() -> None:
    """What is read is what was counted up to then."""
    try:
        counter = Counter(0, event=_TASK_CLOCK)
    except OSError as error:
        pytest.skip(f"nothing is counted here: {error}")
    before = counter.read()
    sum(range(1_000_000))
    assert counter.read() > before
    counter.close()


def test_an_event_nobody_knows_is_refused() -> None:
    """The caller is told, and takes another counter."""
    with pytest.raises(OSError):  # noqa: PT011 - its text depends on the kernel
        Counter(0, event=(4_000_000_000, 0))


def test_one_may_ask_for_support() -> None:
    """The answer is yes or no, whatever the machine."""
    assert is_supported() in (True, False)
