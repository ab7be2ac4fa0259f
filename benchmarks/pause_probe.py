"""Runs a Python program in this process and records its long pauses.

`python -m benchmarks.pause_probe FILE PROGRAM ARGUMENTS`: FILE gets a line for each garbage
collection and each turn of the reactor that takes more than a millisecond of CPU time, which other
processes on the machine do not lengthen.
"""

import gc
import math
import runpy
import sys
import time
from pathlib import Path
from typing import Any

from twisted.internet import reactor as _reactor

reactor: Any = _reactor


class Probe:
    """Measures each garbage collection, and each turn; stands in for the reactor's epoll object."""

    def __init__(self, file: Any, poller: Any) -> None:
        self.file, self.poller = file, poller
        self.begun = {"turn": math.inf, "collection": math.inf}

    def __getattr__(self, name: str) -> Any:
        return getattr(self.poller, name)

    def poll(self, *arguments: Any) -> Any:
        """Wait: a turn is over, and another begins."""
        self.on_end("turn")
        events = self.poller.poll(*arguments)
        self.begun["turn"] = time.thread_time()
        return events

    def on_collection(self, phase: str, _: dict[str, int]) -> None:
        """Note the beginning or the end of a collection (`gc.callbacks`)."""
        if phase == "start":
            self.begun["collection"] = time.thread_time()
        else:
            self.on_end("collection")

    def on_end(self, what: str) -> None:
        taken = 1e3 * (time.thread_time() - self.begun[what])
        if taken > 1.0:
            print(f"{what}: {taken:.1f}", file=self.file)


if __name__ == "__main__":
    log, *sys.argv = sys.argv[1:]
    with Path(log).open("a", buffering=1, encoding="utf-8") as lines:
        reactor._poller = probe = Probe(lines, reactor._poller)
        gc.callbacks.append(probe.on_collection)
        runpy.run_path(sys.argv[0], run_name="__main__")
