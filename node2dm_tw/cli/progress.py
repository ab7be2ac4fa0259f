"""The output of node2dm-push on standard error: messages and the progress bar."""

import os
from collections.abc import Callable
from typing import TextIO

REDRAW = 0.1
"""Seconds between two updates of the progress bar."""

BAR_WIDTH = 24
CLEAR_LINE = "\r\x1b[K"


def progress(done: int, total: int | None, elapsed: float) -> str:
    """Return the text of the progress bar.

    Args:
        done: the number of processed rows.
        total: the number of all rows; None if it is unknown.
        elapsed: seconds since the start.
    """
    rate = done / elapsed if elapsed > 0 else 0.0
    if not total:
        return f"{done:,} pushes, {rate:,.0f}/s"
    filled = BAR_WIDTH * done // total
    bar = "#" * filled + "." * (BAR_WIDTH - filled)
    left = f"{(total - done) / rate:,.0f} s left" if rate else "waiting"
    return f"[{bar}] {done:,}/{total:,} {100 * done // total} % {rate:,.0f}/s, {left}"


class Terminal:
    """Writes messages, and the progress bar below them.

    Args:
        stream: standard error.
        clock: returns monotonic seconds.
        total: the number of all rows; None if it is unknown.
        bar: whether to draw the bar, as on a terminal.
    """

    def __init__(
        self, stream: TextIO, clock: Callable[[], float], total: int | None, *, bar: bool
    ) -> None:
        self._stream = stream
        self._clock = clock
        self._total = total
        self._bar = bar
        self._start = self._drawn = clock()
        self._text = ""

    def message(self, text: str) -> None:
        """Write a line; the bar stays below it."""
        clear = CLEAR_LINE if self._text else ""
        self._stream.write(f"{clear}node2dm-push: {text}\n{self._text}")
        self._stream.flush()

    def show(self, done: int) -> None:
        """Draw the bar, at most every `REDRAW` seconds."""
        now = self._clock()
        if self._bar and now >= self._drawn + REDRAW:
            self._drawn = now
            self._draw(progress(done, self._total, now - self._start))

    def finish(self, done: int) -> None:
        """Draw the bar a last time, and end its line."""
        if self._bar:
            self._draw(progress(done, self._total, self._clock() - self._start))
            self._stream.write("\n")
            self._text = ""

    def _draw(self, text: str) -> None:
        columns = os.get_terminal_size(self._stream.fileno()).columns or 80
        self._text = text[: columns - 1]
        self._stream.write(f"{CLEAR_LINE}{self._text}")
        self._stream.flush()
