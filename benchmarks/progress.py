"""A bar that shows how far the benchmark is: on a terminal only, on standard error."""

import sys
import time
from typing import TextIO

import attrs

_WIDTH = 30


@attrs.define(eq=False)
class Progress:
    """Counts steps of a known number."""

    steps: int
    stream: TextIO = attrs.field(factory=lambda: sys.stderr)
    _done: int = attrs.field(default=0, init=False)
    _started: float = attrs.field(factory=time.monotonic, init=False)

    def step(self, what: str) -> None:
        """Say what begins now; what began before is done."""
        self._draw(bar(self._done, self.steps, time.monotonic() - self._started, what))
        self._done += 1

    def end(self) -> None:
        """Take the bar away."""
        self._draw("")

    def _draw(self, text: str) -> None:
        if self.stream.isatty():
            self.stream.write(f"\r\033[K{text}")
            self.stream.flush()


def bar(done: int, steps: int, seconds: float, what: str) -> str:
    """Render the bar."""
    filled = min(_WIDTH, _WIDTH * done // max(1, steps))
    minutes, rest = divmod(int(seconds), 60)
    cells = "#" * filled + "." * (_WIDTH - filled)
    return f"[{cells}] {done}/{steps} {minutes}:{rest:02} {what}"
