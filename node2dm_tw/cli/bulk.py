"""Sending of many rows at a steady rate, for node2dm-push."""

import itertools
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from types import FrameType
from typing import Any, NamedTuple, Self

from node2dm_tw.cli.progress import Terminal
from node2dm_tw.cli.rows import Row
from node2dm_tw.client import SAFE_DATAGRAM, Push, PushClient, pack

TICK = 0.02
"""Seconds between two bursts: what is due in that time is packed together."""

ICMP_WAIT = 0.1
"""Seconds to wait at the end for the news that nobody listens."""

TARGETS = ("token", "fid", "topic", "condition")

Send = Callable[[list[bytes]], object]


class _NumberedLine(NamedTuple):
    """The line of a push, and the line of the input where its row begins."""

    number: int
    line: bytes


class InterruptGuard:
    """Holds Ctrl-C back while it is entered, so that what was sent is also counted.

    `install` it once; enter it for each datagram.
    """

    def __init__(self) -> None:
        self._is_held = self._is_pending = False

    def install(self) -> Callable[[], object]:
        """Take over SIGINT where Python's own handler has it; return what gives it back."""
        before = signal.getsignal(signal.SIGINT)
        is_main = threading.current_thread() is threading.main_thread()
        if before is not signal.default_int_handler or not is_main:
            return lambda: None
        signal.signal(signal.SIGINT, self._on_signal)
        return lambda: signal.signal(signal.SIGINT, before)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if not self._is_held:
            raise KeyboardInterrupt
        self._is_pending = True

    def __enter__(self) -> Self:
        self._is_held = True
        return self

    def __exit__(self, *exception: object) -> None:
        self._is_held = False
        if self._is_pending:
            self._is_pending = False
            raise KeyboardInterrupt


class BulkSender:
    """Sends many rows at a steady rate.

    Args:
        send: takes the lines of one datagram; raises OSError where they cannot be sent.
        terminal: gets what goes wrong, and the progress.
        rate: pushes a second.
        burst: pushes at the most that may wait for one another, to share a datagram.
        clock: seconds that only grow.
        sleep: lets seconds pass.
        size: bytes of a datagram at the most.
        strict: end at the first row that is faulty or cannot be sent.
        check: raises ValueError for a push that the gateway would not take.
        guard: entered while a datagram is sent and counted.

    Attributes:
        sent: pushes.
        datagrams: how many they travelled in.
        faulty: rows that are not a push.
        unsent: pushes that could not be sent.
        last_line: where the last row begins that needs no second try; 0 before the first.
    """

    def __init__(
        self,
        send: Send,
        terminal: Terminal,
        *,
        rate: float,
        burst: int,
        clock: Callable[[], float],
        sleep: Callable[[float], None],
        size: int = SAFE_DATAGRAM,
        strict: bool = False,
        check: Callable[[Push], object] = lambda push: None,
        guard: AbstractContextManager[object] | None = None,
    ) -> None:
        self._send = send
        self._terminal = terminal
        self._rate = rate
        self._burst = burst
        self._size = size
        self._strict = strict
        self._check = check
        self._guard = guard or nullcontext()
        self._clock = clock
        self._sleep = sleep
        self._next = clock()
        self.sent = self.datagrams = self.faulty = self.unsent = self.last_line = 0

    @property
    def processed(self) -> int:
        """Rows that were sent, are faulty, or could not be sent."""
        return self.sent + self.faulty + self.unsent

    def send_rows(self, rows: Iterable[Row], defaults: dict[str, Any]) -> bool:
        """Send every row, completed by the defaults; return whether all were processed."""
        lines = self._lines(rows, defaults)
        while burst := list(itertools.islice(lines, self._burst)):
            self._wait(len(burst))
            for datagram in pack((each.line for each in burst), self._size):
                rest = burst[len(datagram) :]
                with self._guard:
                    self._deliver(datagram, burst[0].number, burst[len(datagram) - 1].number)
                burst = rest
                self._terminal.show(self.processed)
                if self._strict and self.unsent:
                    return False
        return not (self._strict and self.faulty)

    def _lines(self, rows: Iterable[Row], defaults: dict[str, Any]) -> Iterator[_NumberedLine]:
        for number, fields in rows:
            try:
                if isinstance(fields, ValueError):
                    raise fields
                push = Push.from_fields(complete(fields, defaults))
                self._check(push)
                yield _NumberedLine(number, push.line())
            except ValueError as fault:
                self.faulty += 1
                self._terminal.message(f"line {number}: {fault}")
                if self._strict:
                    return

    def _wait(self, pushes: int) -> None:
        """Let time pass until it is the turn of these pushes; lost time is not made up for."""
        now = self._clock()
        if self._next > now:
            self._sleep(self._next - now)
        self._next = max(self._next, now - TICK) + pushes / self._rate

    def _deliver(self, lines: list[bytes], first: int, last: int) -> None:
        try:
            self._send(lines)
        except BrokenPipeError:
            raise  # The reader of a dry run went away.
        except OSError as fault:
            self.unsent += len(lines)
            place = f"line {first}" if first == last else f"lines {first} to {last}"
            self._terminal.message(f"{place}: not sent: {fault.strerror or fault}")
            if self._strict:
                return
        else:
            self.sent += len(lines)
            self.datagrams += 1
        self.last_line = last


def complete(fields: dict[str, Any], defaults: dict[str, Any]) -> dict[str, Any]:
    """Complete a row by the defaults; those for the target hold where it names none."""
    given = {name: value for name, value in fields.items() if value is not None}
    if any(name in given for name in TARGETS):
        defaults = {name: value for name, value in defaults.items() if name not in TARGETS}
    return defaults | given


class UDPDestination:
    """Sends datagrams to a gateway, and says once when nobody listens there.

    Args:
        client: is strict.
        terminal: gets the news.
        place: where it sends to, for messages.
        expected: where gateways take pushes, for messages.
        strict: treat the news as a failure.
    """

    def __init__(
        self, client: PushClient, terminal: Terminal, place: str, *, expected: str, strict: bool
    ) -> None:
        self._client = client
        self._terminal = terminal
        self._place = place
        self._expected = expected
        self._strict = strict
        self._is_reported = False

    def send(self, lines: list[bytes]) -> None:
        """Send one datagram.

        Raises:
            OSError: it could not be sent; with `strict` also: one before it came back.
        """
        try:
            self._client.send(lines)
        except ConnectionError as fault:
            # The news is about a datagram before; this one has not left.
            if self._strict:
                raise
            self._report(fault)
            self._client.send(lines)

    def confirm(self) -> bool:
        """Wait a moment for the news of the last datagram; say what came back in all."""
        self._client.check(ICMP_WAIT)
        refused = self._client.counters.refused
        if refused:
            self._terminal.message(
                f"nobody listens at {self._place}; sent in vain: {refused:,} or more; "
                f"expected an address of the gateway's option udp ({self._expected})"
            )
        return refused == 0

    def _report(self, fault: OSError) -> None:
        if not self._is_reported:
            self._terminal.message(f"{self._place}: {fault.strerror} (going on)")
            self._is_reported = True


class DryRun:
    """Takes the place of `UDPDestination`: prints the datagrams, an empty line behind each."""

    def send(self, lines: list[bytes]) -> None:
        """Print one datagram."""
        sys.stdout.buffer.write(b"\n".join(lines) + b"\n\n")
        sys.stdout.buffer.flush()

    def confirm(self) -> bool:
        """Nothing was sent that could come back."""
        return True
