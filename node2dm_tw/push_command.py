"""The command node2dm-push: pushes from the command line, from a file, or from a pipe."""

import argparse
import itertools
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from typing import Any, TextIO

from node2dm_tw.client import HOST, MAX_DATAGRAM, PORT, SAFE_DATAGRAM, Push, PushClient, pack
from node2dm_tw.push_rows import InputError, Row, read_rows
from node2dm_tw.push_screen import Screen

SENT, UNSENT, USAGE, INTERRUPTED = 0, 1, 2, 130
"""Exit statuses; argparse ends with 2 by itself."""

TICK = 0.02
"""Seconds between two bursts: what is due in that time is packed together."""

NEWS_WAIT = 0.1
"""Seconds to wait at the end for the news that nobody listens."""

DESCRIPTION = """\
Send pushes through a node2dm_tw gateway, by UDP: one from the arguments, or many
from a file or a pipe. Rows are CSV or JSON lines; a first line that begins with {
says JSON lines.

CSV has a header row: the columns token, collapse_key, data, or any other name of
the JSON form. An empty cell is a field that is not there, but for data.
JSON lines hold an object each: token (or fid, topic, condition), collapse_key,
data (a text, or an object of texts), ttl, priority, delay_while_idle,
notification, route; null is a field that is not there.
What an option gives holds for the rows that do not say.
"""

EPILOG = """\
examples:
  node2dm-push REGISTRATION_ID 'Hello' --collapse-key greeting
  node2dm-push --from devices.csv --rate 500
  node2dm-push --from devices.csv --dry-run | head
  echo '{"topic": "news", "data": {"title": "Hi"}}' | node2dm-push --from -

exit status:
  0    every push was sent; by UDP that is no promise that it arrived
  1    a row was faulty, a push could not be sent, or nobody listens there
  2    the arguments, the file or its header row are of no use; nothing was sent
  130  interrupted
"""

Send = Callable[[list[bytes]], object]


class Run:
    """Sends many rows at a steady rate.

    Args:
        send: takes the lines of one datagram; raises OSError where they cannot be sent.
        screen: gets what goes wrong, and the progress.
        rate: pushes a second.
        burst: pushes at the most that may wait for one another, to share a datagram.
        size: bytes of a datagram at the most.
        strict: end at the first row that is faulty or cannot be sent.
        clock: seconds that only grow.
        sleep: lets seconds pass.

    Attributes:
        sent: pushes.
        datagrams: how many they travelled in.
        faulty: rows that are no push.
        unsent: pushes that could not be sent.
    """

    def __init__(
        self,
        send: Send,
        screen: Screen,
        *,
        rate: float,
        burst: int,
        size: int = SAFE_DATAGRAM,
        strict: bool = False,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._send = send
        self._screen = screen
        self._rate = rate
        self._burst = burst
        self._size = size
        self._strict = strict
        self._clock = clock
        self._sleep = sleep
        self._next = clock()
        self.sent = self.datagrams = self.faulty = self.unsent = 0

    @property
    def done(self) -> int:
        """Rows dealt with."""
        return self.sent + self.faulty + self.unsent

    def rows(self, rows: Iterable[Row], defaults: dict[str, Any]) -> None:
        """Send every row, completed by the defaults."""
        lines = self._lines(rows, defaults)
        while burst := list(itertools.islice(lines, self._burst)):
            self._wait(len(burst))
            for datagram in pack(burst, self._size):
                self._deliver(datagram)
                self._screen.show(self.done)
                if self._strict and self.unsent:
                    return

    def _lines(self, rows: Iterable[Row], defaults: dict[str, Any]) -> Iterator[bytes]:
        for number, fields in rows:
            try:
                if isinstance(fields, ValueError):
                    raise fields
                given = {name: value for name, value in fields.items() if value is not None}
                yield Push.from_fields(defaults | given).line()
            except ValueError as fault:
                self.faulty += 1
                self._screen.say(f"line {number}: {fault}")
                if self._strict:
                    return

    def _wait(self, pushes: int) -> None:
        """Let time pass until it is the turn of these pushes; lost time is not made up for."""
        now = self._clock()
        if self._next > now:
            self._sleep(self._next - now)
        self._next = max(self._next, now - TICK) + pushes / self._rate

    def _deliver(self, lines: list[bytes]) -> None:
        try:
            self._send(lines)
        except BrokenPipeError:
            raise  # The reader of a dry run went away.
        except OSError as fault:
            self.unsent += len(lines)
            self._screen.say(f"not sent: {len(lines)}: {fault.strerror or fault}")
        else:
            self.sent += len(lines)
            self.datagrams += 1


class Gateway:
    """Sends datagrams to a gateway, and says once when nobody listens there.

    Args:
        client: is strict.
        screen: gets the news.
        strict: treat the news as a failure.
    """

    def __init__(self, client: PushClient, screen: Screen, *, strict: bool) -> None:
        self._client = client
        self._screen = screen
        self._strict = strict
        self._told = False

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
            self._tell(fault)
            self._client.send(lines)

    def all_arrived(self) -> bool:
        """Wait a moment for the news of the last datagram; say what came back in all."""
        self._client.check(NEWS_WAIT)
        refused = self._client.counters.refused
        if refused:
            self._screen.say(f"nobody listens there; sent in vain: {refused:,} or more")
        return refused == 0

    def _tell(self, fault: OSError) -> None:
        if not self._told:
            self._screen.say(f"{fault.strerror} (going on)")
            self._told = True


class DryRun:
    """Takes the place of `Gateway`: prints the datagrams, an empty line behind each."""

    def send(self, lines: list[bytes]) -> None:
        """Print one datagram."""
        sys.stdout.buffer.write(b"\n".join(lines) + b"\n\n")
        sys.stdout.buffer.flush()

    def all_arrived(self) -> bool:
        """Nothing was sent that could come back."""
        return True


def main(argv: list[str] | None = None) -> int:
    """Run the command; return its exit status."""
    parser = _parser()
    options = parser.parse_args(argv)
    if (options.token is None) == (options.source is None):
        parser.error("give either a TOKEN or --from FILE")
    try:
        return _many(options) if options.source else _one(parser, options)
    except BrokenPipeError:
        # The reader of --dry-run went away; what Python would flush at its exit goes nowhere.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return UNSENT
    except KeyboardInterrupt:
        return INTERRUPTED
    except InputError as fault:
        return _fail(f"{options.source}: {fault}", USAGE)
    except OSError as fault:
        return _fail(f"{options.host} port {options.port}: {fault.strerror or fault}", UNSENT)


def _fail(text: str, status: int) -> int:
    sys.stderr.write(f"node2dm-push: {text}\n")
    return status


def _one(parser: argparse.ArgumentParser, options: argparse.Namespace) -> int:
    fields = {"token": options.token, "data": options.data}
    try:
        Push.from_fields(_defaults(options) | fields).line()
    except ValueError as fault:
        parser.error(str(fault))
    screen = Screen(sys.stderr, time.monotonic, None, bar=False)
    return _send(options, [Row(1, fields)], 1, screen)[0]


def _many(options: argparse.Namespace) -> int:
    """Send the rows of a file or pipe; those of a pipe at once, each in its own datagram."""
    with _open(options.source) as lines:
        terminal, file = sys.stderr.isatty(), lines.seekable()
        total = None
        if terminal and file:
            begin = lines.tell()
            total = sum(1 for _ in read_rows(lines))
            lines.seek(begin)
        burst = max(1, int(options.rate * TICK)) if file else 1
        screen = Screen(sys.stderr, time.monotonic, total, bar=terminal)
        status, run = _send(options, read_rows(lines), burst, screen)
    screen.say(
        f"sent: {run.sent:,} (datagrams: {run.datagrams:,}), "
        f"faulty: {run.faulty:,}, not sent: {run.unsent:,}"
    )
    return status


def _send(
    options: argparse.Namespace, rows: Iterable[Row], burst: int, screen: Screen
) -> tuple[int, Run]:
    """Send the rows to where the options say; return the exit status and what was done."""
    with ExitStack() as stack:
        destination: DryRun | Gateway = DryRun()
        if not options.dry_run:
            client = PushClient(options.host, options.port, strict=True)
            stack.enter_context(client)
            destination = Gateway(client, screen, strict=options.strict)
        run = Run(
            destination.send,
            screen,
            rate=float("inf") if options.dry_run else options.rate,
            burst=burst,
            size=options.datagram,
            strict=options.strict,
        )
        interrupted = False
        try:
            run.rows(rows, _defaults(options))
        except KeyboardInterrupt:
            interrupted = True
        screen.finish(run.done)
        good = destination.all_arrived() and not run.faulty and not run.unsent
    if interrupted:
        return INTERRUPTED, run
    return SENT if good else UNSENT, run


def _open(source: str) -> TextIO:
    """Open a file, or standard input for ``-``; a byte that is not UTF-8 spoils only its row.

    Raises:
        InputError: it cannot be read.
    """
    file = sys.stdin.fileno() if source == "-" else source
    try:
        return open(
            file,
            closefd=source != "-",
            encoding="utf-8-sig",
            errors="surrogateescape",
            newline="\n",
        )
    except OSError as fault:
        raise InputError(fault.strerror) from None


def _defaults(options: argparse.Namespace) -> dict[str, Any]:
    names = ("collapse_key", "ttl", "priority", "delay_while_idle", "route")
    return {name: value for name in names if (value := getattr(options, name)) is not None}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="node2dm-push",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("token", metavar="TOKEN", nargs="?", help="registration ID of the device")
    add("data", metavar="DATA", nargs="?", help="the text it gets; without one: only a ping")
    add("--from", dest="source", metavar="FILE", help="rows to send; - for standard input")
    add("--rate", type=_rate, default=1000.0, metavar="N", help="pushes a second (%(default)g)")
    add("--strict", action="store_true", help="end at the first fault instead of going on")
    add("--dry-run", action="store_true", help="print the datagrams and send nothing")
    add("--host", default=HOST, help="the gateway's name or address (%(default)s)")
    add("--port", type=_port, default=PORT, help="its UDP port (%(default)s)")
    add("--datagram", type=_size, default=SAFE_DATAGRAM, metavar="BYTES",
        help="largest datagram to put several pushes in (%(default)s)")  # fmt: skip
    add("--route", metavar="NAME", help="the gateway's route, or its prefix")
    add("--collapse-key", metavar="KEY", help="of several an offline phone gets the last")
    add("--ttl", type=int, metavar="SECONDS", help="how long it is worth delivering")
    add("--priority", type=str.lower, choices=("normal", "high"), help="FCM's priority")
    add("--delay-while-idle", action="store_true", default=None, help="wait until it is in use")
    return parser


def _rate(text: str) -> float:
    rate = float(text)
    if not 0 < rate < float("inf"):
        raise ValueError
    return rate


def _port(text: str) -> int:
    return _between(int(text), 65535)


def _size(text: str) -> int:
    return _between(int(text), MAX_DATAGRAM)


def _between(number: int, most: int) -> int:
    if not 1 <= number <= most:
        raise argparse.ArgumentTypeError(f"{number} is not between 1 and {most}")
    return number


if __name__ == "__main__":
    sys.exit(main())
