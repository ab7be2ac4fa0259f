"""What is measured of a process, from reading to reading: CPU time, or user-space instructions."""

import re
import subprocess
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from benchmarks.machine import MEASURED

_LINE = r"^(?:(c?)ob=\((\d+)\) ?(.*)|[+\-*\d]\S* (\d+))$"
"""Of callgrind's output: the library of the lines that follow, or of a called one, or a cost."""


class CPU:
    """Seconds of CPU, user and system."""

    wrapper: Sequence[str] = ()

    def begin(self, pid: int) -> None:
        """Measure from now on."""
        self._clock = ~pid << 3 | 2  # clock_getcpuclockid(3)
        self._last = time.clock_gettime(self._clock)

    def read_delta(self) -> float:
        """Return what was used since the last reading or the beginning."""
        last, self._last = self._last, time.clock_gettime(self._clock)
        return self._last - last


class Callgrind:
    """User-space instructions; the process runs under `wrapper` and is 50 to 80 times slower."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / f"callgrind.{time.monotonic_ns()}"
        self.wrapper: Sequence[str] = (*callgrind(self._file), "--instr-atstart=no")
        self._readings = 0

    def begin(self, pid: int) -> None:
        self._pid = pid
        self._control("--instr=on")
        self.read_delta()

    def read_delta(self) -> float:
        self._control("--dump")
        self._readings += 1
        self.last = self._file.with_name(f"{self._file.name}.{self._readings}")
        return total(self.last)

    def _control(self, what: str) -> None:
        # The process stands still until the answer is there.
        command = ["callgrind_control", what, str(self._pid)]
        subprocess.run(command, check=True, capture_output=True, timeout=120)


def callgrind(file: Path) -> tuple[str, ...]:
    """Give the command that runs another one and writes to `file` what it has counted."""
    return ("valgrind", "--tool=callgrind", f"--callgrind-out-file={file}")


def instructions_of(command: Sequence[str], folder: Path) -> int:
    """Run a command to its end and count its user-space instructions."""
    file = folder / f"callgrind.{time.monotonic_ns()}"
    subprocess.run([*MEASURED, *callgrind(file), *command], check=True, capture_output=True)
    return total(file)


def total(file: Path) -> int:
    """Read how many instructions callgrind has counted in all."""
    return int(re.findall(r"^totals: (\d+)", file.read_text(encoding="utf-8"), re.MULTILINE)[-1])


def by_library(file: Path) -> Counter[str]:
    """Add up the instructions of each library's functions, without those of what they call."""
    names: dict[str, str] = {}
    costs: Counter[str] = Counter()
    library, text = "", file.read_text(encoding="utf-8")
    # The line that follows a call is the cost of what is called.
    text = re.sub(r"^calls=.*\n.*\n", "", text, flags=re.MULTILINE)
    for called, number, name, cost in re.findall(_LINE, text, re.MULTILINE):
        if cost:
            costs[library] += int(cost)
        else:
            # A name is written out once, and is its number from then on.
            path = names.setdefault(number, name)
            library = library if called else path.rpartition("/")[2]
    return costs
