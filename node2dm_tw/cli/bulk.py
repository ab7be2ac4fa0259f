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
from node2dm_tw.client_http import HTTPPushClient, InvalidPushes

TICK = 0.02
"""Seconds between two bursts; the pushes due in that time share datagrams."""

HTTP_TICK = 0.2
"""Likewise, for pushes that share a request."""

ICMP_WAIT = 0.1
"""Seconds to wait at the end for an ICMP error, which says that nobody listens."""

TARGETS = ("token", "fid", "topic", "condition")

Send = Callable[[list[bytes]], object]


class _NumberedLine(NamedTuple):
    """The line of a push, and the number of the input line where its row begins."""

    number: int
    line: bytes


class InterruptGuard:
    """Delays Ctrl-C while it is entered, so that what is sent is also counted.

    Call `install` once; enter it for each datagram or request.
    """

    def __init__(self) -> None:
        self._is_held = self._is_pending = False

    def install(self) -> Callable[[], object]:
        """Handle SIGINT in place of Python's own handler; return the function that restores it."""
        before = signal.getsignal(signal.SIGINT)
        is_main = threading.current_thread() is threading.main_thread()
        if before is not signal.default_int_handler or not is_main:
            return lambda: None
        signal.signal(signal.SIGINT, self._on_signal)
        return lambda: signal.signal(signal.SIGINT, before)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if not self._is_held or self._is_pending:
            raise KeyboardInterrupt  # at once, the second time
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
    """Sends many rows at a steady rate, in datagrams or requests.

    Args:
        send: takes the lines of one datagram; raises OSError if they cannot be sent, and
            InvalidPushes if the gateway takes none of them because of some.
        terminal: shows errors and progress.
        rate: pushes a second.
        burst: maximum of pushes that wait for one another, to share a datagram.
        clock: returns monotonic seconds.
        sleep: takes seconds.
        size: maximum bytes of a datagram.
        strict: stop at the first row that is faulty or cannot be sent.
        is_http: send the JSON form alone, and stop at the first row that cannot be sent.
        check: raises ValueError for a push that the gateway would reject.
        guard: entered while a datagram is sent and counted.

    Attributes:
        sent: the number of pushes.
        datagrams: the number of datagrams that held them.
        faulty: rows that are not a push.
        unsent: pushes that could not be sent.
        last_line: the line where the last processed row begins; 0 before the first.
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
        is_http: bool = False,
        check: Callable[[Push], object] = lambda push: None,
        guard: AbstractContextManager[object] | None = None,
    ) -> None:
        self._send = send
        self._terminal = terminal
        self._rate = rate
        self._burst = burst
        self._size = size
        self._strict = strict
        self._is_http = is_http
        self._is_stopped = False
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
        """Send every row, completed with the defaults; return whether all were processed."""
        lines = self._lines(rows, defaults)
        while burst := list(itertools.islice(lines, self._burst)):
            self._wait(len(burst))
            for datagram in pack((each.line for each in burst), self._size):
                lines_sent, burst = burst[: len(datagram)], burst[len(datagram) :]
                with self._guard:
                    self._deliver(lines_sent)
                self._terminal.show(self.processed)
                if self._is_stopped:
                    return False
        return not (self._strict and self.faulty)

    def _lines(self, rows: Iterable[Row], defaults: dict[str, Any]) -> Iterator[_NumberedLine]:
        for number, fields in rows:
            try:
                if isinstance(fields, ValueError):
                    raise fields
                push = Push.from_fields(complete(fields, defaults))
                self._check(push)
                yield _NumberedLine(number, push.line(is_json=self._is_http))
            except ValueError as error:
                self.faulty += 1
                self._terminal.message(f"line {number}: {error}")
                if self._strict:
                    return

    def _wait(self, pushes: int) -> None:
        """Wait until these pushes are due; time lost earlier is not made up."""
        now = self._clock()
        if self._next > now:
            self._sleep(self._next - now)
        self._next = max(self._next, now - TICK) + pushes / self._rate

    def _deliver(self, lines: list[_NumberedLine]) -> None:
        first, last = lines[0].number, lines[-1].number
        try:
            self._send([each.line for each in lines])
        except BrokenPipeError:
            raise  # The reader of standard output is gone.
        except InvalidPushes as error:
            self._deliver_valid(lines, error)
            return
        except OSError as error:
            self.unsent += len(lines)
            place = f"line {first}" if first == last else f"lines {first} to {last}"
            self._terminal.message(f"{place}: not sent: {error.strerror or error}")
            self._is_stopped = self._strict or self._is_http
            if self._is_stopped:
                return
        else:
            self.sent += len(lines)
            self.datagrams += 1
        self.last_line = last

    def _deliver_valid(self, lines: list[_NumberedLine], error: InvalidPushes) -> None:
        """Report the rows that the gateway calls invalid, and deliver the others."""
        faults = {fault.index: fault for fault in error.faults}
        if self._strict:
            first = min(faults)
            faults, lines, self._is_stopped = {first: faults[first]}, lines[: first + 1], True
        for index, fault in faults.items():
            self.faulty += 1
            self._terminal.message(f"line {lines[index].number}: {fault.reason}: {fault.detail}")
        if valid := [line for index, line in enumerate(lines) if index not in faults]:
            self._deliver(valid)


def complete(fields: dict[str, Any], defaults: dict[str, Any]) -> dict[str, Any]:
    """Complete a row with the defaults; those of the target apply only if it names none."""
    given = {name: value for name, value in fields.items() if value is not None}
    if any(name in given for name in TARGETS):
        defaults = {name: value for name, value in defaults.items() if name not in TARGETS}
    return defaults | given


class UDPDestination:
    """Sends datagrams to a gateway, and reports once if nobody listens there.

    Args:
        client: must be strict.
        terminal: shows the report.
        place: the destination, for messages.
        expected: the addresses where the gateway listens, for messages.
        strict: raise the error in place of the report.
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
            OSError: it could not be sent; with `strict` also if an earlier one was refused.
        """
        try:
            self._client.send(lines)
        except ConnectionError as error:
            # The error is that of an earlier datagram; this one was not sent.
            if self._strict:
                raise
            self._report(error)
            self._client.send(lines)

    def confirm(self) -> bool:
        """Wait for the ICMP error of the last datagram; report those of all."""
        self._client.check(ICMP_WAIT)
        refused = self._client.counters.refused
        if refused:
            self._terminal.message(
                f"nobody listens at {self._place}; sent in vain: {refused:,} or more; "
                f"expected an address of the gateway's option udp ({self._expected})"
            )
        return refused == 0

    def _report(self, error: OSError) -> None:
        if not self._is_reported:
            self._terminal.message(f"{self._place}: {error.strerror} (going on)")
            self._is_reported = True


class HTTPDestination:
    """Posts to a gateway, and prints the ids of the pushes that it has accepted."""

    def __init__(self, client: HTTPPushClient) -> None:
        self._client = client

    def send(self, lines: list[bytes]) -> None:
        """Post one request.

        Raises:
            InvalidPushes: some pushes are invalid, and none is accepted.
            OSError: they cannot be sent.
        """
        sys.stdout.write("".join(f"{push_id}\n" for push_id in self._client.send(lines)))
        sys.stdout.flush()

    def confirm(self) -> bool:
        """Return True: what was sent is accepted."""
        return True


class DryRun:
    """Prints the datagrams in place of sending them, each with an empty line after it."""

    def send(self, lines: list[bytes]) -> None:
        """Print one datagram."""
        sys.stdout.buffer.write(b"\n".join(lines) + b"\n\n")
        sys.stdout.buffer.flush()

    def confirm(self) -> bool:
        """Return True: nothing was sent."""
        return True
