"""Runs a Python program in this process and records its long pauses.

`python -m benchmarks.pause_probe FILE PYTHON PROGRAM ARGUMENTS`: FILE gets a line for each garbage
collection and each turn of the reactor that takes long, with its milliseconds of CPU time, which
other processes on the machine do not lengthen.
"""

import gc
import runpy
import sys
import time
from pathlib import Path
from typing import Any, TextIO

import attrs
from twisted.internet import reactor as _reactor

reactor: Any = _reactor

LONG = 0.001
"""Seconds; what takes less is not recorded."""


@attrs.define(eq=False)
class Probe:
    """Measures each garbage collection, and each turn of the reactor.

    Args:
        file: gets a line for each that is long.
    """

    file: TextIO
    _collection: float = attrs.field(default=0.0, init=False)
    _turn: float | None = attrs.field(default=None, init=False)

    def on_collection(self, phase: str, _: dict[str, int]) -> None:
        """Note the beginning or the end of a collection (`gc.callbacks`)."""
        if phase == "start":
            self._collection = time.thread_time()
        else:
            self._note("collection", self._collection)

    def begin_turn(self) -> None:
        """Note that the reactor has something to do."""
        self._turn = time.thread_time()

    def end_turn(self) -> None:
        """Note that the reactor waits for something to do."""
        if self._turn is not None:
            self._note("turn", self._turn)

    def _note(self, what: str, begun: float) -> None:
        seconds = time.thread_time() - begun
        if seconds > LONG:
            print(f"{what}: {1e3 * seconds:.1f}", file=self.file)


@attrs.define(eq=False)
class Poller:
    """The reactor's epoll object, watched by a probe."""

    wrapped: Any
    probe: Probe

    def poll(self, *arguments: Any) -> Any:
        """Wait: a turn is over, and another begins."""
        self.probe.end_turn()
        events = self.wrapped.poll(*arguments)
        self.probe.begin_turn()
        return events

    def __getattr__(self, name: str) -> Any:
        return getattr(self.wrapped, name)


def main() -> None:
    """Run the program."""
    file, _, program, *arguments = sys.argv[1:]
    with Path(file).open("a", buffering=1, encoding="utf-8") as lines:
        probe = Probe(lines)
        gc.callbacks.append(probe.on_collection)
        reactor._poller = Poller(reactor._poller, probe)
        sys.argv = [program, *arguments]
        runpy.run_path(program, run_name="__main__")


if __name__ == "__main__":
    main()
