"""What is measured of a process, from lap to lap: CPU time, or user-space instructions."""

import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import attrs

from benchmarks import perf_events
from benchmarks.callgrind import total
from benchmarks.machine import spawn, tool

CALLGRIND = ("valgrind", "--tool=callgrind", "--instr-atstart=no")


_SHELL_STARTS = 0.2
"""Seconds after which a shell waits for its input, for the programs that placed it are through."""


class Meter(Protocol):
    """Measures one process.

    Attributes:
        name: of what counts, for the reader.
    """

    name: str

    @property
    def wrapper(self) -> Sequence[str]:
        """The command under which the process must be started."""
        ...

    def begin(self, pid: int) -> None:
        """Measure from now on."""
        ...

    def lap(self) -> float:
        """Give what was used since the last lap or the beginning."""
        ...


@attrs.define(eq=False)
class CPU:
    """Seconds of CPU, user and system."""

    name = "CPU clock"
    wrapper: Sequence[str] = ()
    _clock: int = attrs.field(default=0, init=False)
    _last: float = attrs.field(default=0.0, init=False)

    def begin(self, pid: int) -> None:
        self._clock = cpu_clock(pid)
        self._last = time.clock_gettime(self._clock)

    def lap(self) -> float:
        last, self._last = self._last, time.clock_gettime(self._clock)
        return self._last - last


@attrs.define(eq=False)
class Hardware:
    """User-space instructions, counted by the processor."""

    name = "perf events"
    wrapper: Sequence[str] = ()
    _counter: perf_events.Counter | None = attrs.field(default=None, init=False)
    _last: int = attrs.field(default=0, init=False)

    def begin(self, pid: int) -> None:
        self._counter = perf_events.Counter(pid)
        self._last = 0

    def lap(self) -> float:
        assert self._counter is not None
        last, self._last = self._last, self._counter.read()
        return self._last - last


@attrs.define(eq=False)
class Callgrind:
    """User-space instructions, counted by valgrind; the process is 50 to 80 times slower.

    Args:
        file: what callgrind writes; ``.1``, ``.2`` and so on are appended for the laps.
    """

    name = "callgrind"
    file: Path
    _pid: int = attrs.field(default=0, init=False)
    _laps: int = attrs.field(default=0, init=False)

    @property
    def wrapper(self) -> Sequence[str]:
        return (*CALLGRIND, f"--callgrind-out-file={self.file}")

    def begin(self, pid: int) -> None:
        self._pid = pid
        self._control("--instr=on")
        self.lap()

    def lap(self) -> float:
        self._control("--dump")
        self._laps += 1
        return total(self.last)

    @property
    def last(self) -> Path:
        """The file of the last lap."""
        return self.file.with_name(f"{self.file.name}.{self._laps}")

    def _control(self, what: str) -> None:
        # The process stands still until the answer is there.
        command = [tool("callgrind_control"), what, str(self._pid)]
        subprocess.run(command, check=True, capture_output=True, timeout=120)


def instruction_meter(folder: Path) -> Meter:
    """Take the processor's counter where there is one, else valgrind's."""
    if perf_events.is_supported():
        return Hardware()
    return Callgrind(folder / f"callgrind.{time.monotonic_ns()}")


def cpu_clock(pid: int) -> int:
    """Name the CPU clock of another process (clock_getcpuclockid(3)); it has nanoseconds."""
    return ~pid << 3 | 2


def instructions_of(command: Sequence[str], folder: Path) -> int:
    """Run a command to its end and count its user-space instructions."""
    if perf_events.is_supported():
        return _by_hardware(command)
    file = folder / f"callgrind.{time.monotonic_ns()}"
    wrapper = ("valgrind", "--tool=callgrind", f"--callgrind-out-file={file}")
    with _quiet([*wrapper, *command]) as process:
        _succeed(process)
    return total(file)


def _by_hardware(command: Sequence[str]) -> int:
    # A shell waits until the counter is ready, and then becomes the command.
    with _quiet(["/bin/sh", "-c", 'read -r _; exec "$@"', "sh", *command]) as process:
        time.sleep(_SHELL_STARTS)
        counter = perf_events.Counter(process.pid, on_exec=True)
        _succeed(process)
    count = counter.read()
    counter.close()
    return count


def _quiet(command: Sequence[str]) -> subprocess.Popen[bytes]:
    return spawn(
        "measured",
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def _succeed(process: subprocess.Popen[bytes]) -> None:
    try:
        process.communicate(b"\n", timeout=300)
    finally:
        process.kill()
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, process.args)
