"""The command node2dm-push: sends pushes from arguments, a file or a pipe."""

import argparse
import os
import sys
import time
from collections.abc import Iterable
from contextlib import ExitStack
from typing import TextIO

from node2dm_tw.cli.bulk import (
    HTTP_TICK,
    TICK,
    BulkSender,
    DryRun,
    HTTPDestination,
    InterruptGuard,
    UDPDestination,
)
from node2dm_tw.cli.gateway import STATS, Confirmation, GatewayError, GatewayRoutes
from node2dm_tw.cli.options import check_defaults, fail, find_defaults, parse
from node2dm_tw.cli.progress import Terminal
from node2dm_tw.cli.rows import InputError, Row, check_subscription, read_rows
from node2dm_tw.client import HOST, SIGNATURE_BYTES, Push, PushClient
from node2dm_tw.client_http import MAX_BODY_BYTES, MAX_PUSHES, HTTPPushClient

SENT, UNSENT, USAGE, INTERRUPTED = 0, 1, 2, 130
"""Exit statuses; 2 is argparse's own."""

HTTP_RETRY = 60.0
"""Seconds in which a request is repeated that is not answered, or that the gateway cannot take."""

LOOPBACK = (HOST, "localhost", "::1")


def main(argv: list[str] | None = None) -> int:
    """Run the command; return its exit status."""
    parser, options = parse(argv)
    guard = InterruptGuard()
    restore = guard.install()
    try:
        check_defaults(parser, find_defaults(options))
        return _Command(parser, options, guard).run()
    except BrokenPipeError:
        # The reader of --dry-run is gone; Python must not fail when it flushes at its exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return UNSENT
    except KeyboardInterrupt:
        return INTERRUPTED
    except InputError as error:
        return _fail(f"{options.source}: {error}", USAGE)
    except OSError as error:
        return _fail(f"{options.host} port {options.port}: {error.strerror or error}", UNSENT)
    finally:
        restore()


def _fail(text: str, status: int) -> int:
    sys.stderr.write(f"node2dm-push: {text}\n")
    return status


class _Command:
    """One run of the command.

    Args:
        parser: exits for arguments that are not valid.
        options: see `node2dm_tw.cli.options`.
        guard: delays Ctrl-C while a datagram is sent.
    """

    def __init__(
        self,
        parser: argparse.ArgumentParser,
        options: argparse.Namespace,
        guard: InterruptGuard,
    ) -> None:
        self._parser = parser
        self._options = options
        self._guard = guard
        self._defaults = find_defaults(options)
        gateway = None if options.dry_run or options.http else _find_routes(options)
        # Another gateway may answer there, whose routes do not matter for this port.
        self._routes = gateway if gateway and gateway.has_port(options.port) else None
        self._udp = ", ".join(gateway.udp) if gateway else "127.0.0.1:8120 by default"

    def run(self) -> int:
        """Send the pushes that the options describe; return the exit status."""
        try:
            if self._routes is not None:
                self._routes.find(self._options.route or "")
            if self._options.source is None:
                return self._send_one()
        except ValueError as error:
            fail(self._parser, str(error))
        return self._send_many()

    def _send_one(self) -> int:
        fields = {"token": self._options.token, "data": self._options.data}
        given = {name: value for name, value in fields.items() if value is not None}
        push = Push.from_fields(self._defaults | given)
        push.line()
        self._check(push)
        terminal = Terminal(sys.stderr, time.monotonic, None, bar=False)
        status, sender = self._send([Row(1, given)], 1, terminal)
        return USAGE if sender.faulty else status

    def _send_many(self) -> int:
        """Send the rows of a file or pipe; each row of a pipe at once in its own datagram."""
        with _open(self._options.source) as lines:
            has_bar, is_file = sys.stderr.isatty(), lines.seekable()
            total = None
            if has_bar and is_file:
                begin = lines.tell()
                total = sum(1 for _ in self._read(lines))
                lines.seek(begin)
            burst = self._find_burst() if is_file else 1
            terminal = Terminal(sys.stderr, time.monotonic, total, bar=has_bar)
            status, sender = self._send(self._read(lines), burst, terminal)
        sent, datagrams = ("accepted", "requests") if self._options.http else ("sent", "datagrams")
        terminal.message(
            f"{sent}: {sender.sent:,} ({datagrams}: {sender.datagrams:,}), "
            f"faulty: {sender.faulty:,}, not sent: {sender.unsent:,}"
        )
        return status

    def _find_burst(self) -> int:
        """Return how many rows of a file wait for one another, to share a datagram or request."""
        rate, is_http = self._options.rate, self._options.http is not None
        return max(1, min(MAX_PUSHES, int(rate * (HTTP_TICK if is_http else TICK))))

    def _read(self, lines: TextIO) -> Iterable[Row]:
        return (row for row in read_rows(lines) if row.number >= self._options.from_line)

    def _check(self, push: Push) -> None:
        check_subscription(push)
        if self._routes is not None:
            self._routes.check(push)

    def _send(self, rows: Iterable[Row], burst: int, terminal: Terminal) -> tuple[int, BulkSender]:
        """Send the rows to the destination; return the exit status and the sender."""
        options = self._options
        with ExitStack() as stack:
            confirmation = self._begin_confirmation()
            destination = self._open_destination(stack, terminal)
            sender = BulkSender(
                destination.send,
                terminal,
                rate=float("inf") if options.dry_run else options.rate,
                burst=burst,
                clock=time.monotonic,
                sleep=time.sleep,
                size=MAX_BODY_BYTES if options.http else self._datagram_size,
                strict=options.strict,
                is_http=options.http is not None,
                check=self._check,
                guard=self._guard,
            )
            is_interrupted = is_complete = False
            try:
                is_complete = sender.send_rows(rows, self._defaults)
            except KeyboardInterrupt:
                is_interrupted = True
            terminal.finish(sender.processed)
            if options.source and not is_complete:
                next_line = max(options.from_line, sender.last_line + 1)
                why = "interrupted" if is_interrupted else "stopped"
                terminal.message(f"{why}; go on with --from-line {next_line}")
            is_good = destination.confirm() and not sender.faulty and not sender.unsent
            if is_interrupted:
                return INTERRUPTED, sender
            if confirmation is not None:
                is_good &= _confirm(confirmation, sender.sent, terminal)
        return SENT if is_good else UNSENT, sender

    def _begin_confirmation(self) -> Confirmation | None:
        if not self._options.confirm:
            return None
        try:
            return Confirmation(self._options.confirm, time.monotonic, time.sleep)
        except GatewayError as error:
            fail(self._parser, f"--confirm {error}")

    @property
    def _datagram_size(self) -> int:
        """Bytes of a datagram without its signature."""
        size: int = self._options.datagram
        return size - (SIGNATURE_BYTES if self._options.key else 0)

    def _open_destination(
        self, stack: ExitStack, terminal: Terminal
    ) -> DryRun | UDPDestination | HTTPDestination:
        options = self._options
        if options.dry_run:
            return DryRun()
        if options.http is not None:
            return HTTPDestination(stack.enter_context(self._open_http()))
        client = PushClient(options.host, options.port, strict=True, key=options.key or "")
        stack.enter_context(client)
        place = f"{options.host} port {options.port}"
        return UDPDestination(client, terminal, place, expected=self._udp, strict=options.strict)

    def _open_http(self) -> HTTPPushClient:
        options = self._options
        try:
            return HTTPPushClient(
                options.http, options.push_token, ca_file=options.ca_file, retry_for=HTTP_RETRY
            )
        except ValueError as error:
            fail(self._parser, str(error))
        except OSError as error:
            fail(self._parser, f"{options.ca_file}: {error.strerror or error}")


def _find_routes(options: argparse.Namespace) -> GatewayRoutes | None:
    """Query the gateway for its routes; return None if that is not possible."""
    is_port = options.confirm is not None and "://" not in options.confirm
    address = options.stats or (options.confirm if is_port else None)
    if address is None and options.host not in LOOPBACK:
        return None
    try:
        return GatewayRoutes.ask(address or STATS)
    except GatewayError as error:
        if options.stats:
            sys.stderr.write(f"node2dm-push: {error}; routes are not checked\n")
        return None


def _confirm(confirmation: Confirmation, sent: int, terminal: Terminal) -> bool:
    try:
        losses = confirmation.find_losses(sent)
    except GatewayError as error:
        losses = [f"not confirmed: {error}"]
    for text in losses:
        terminal.message(text)
    return not losses


def _open(source: str) -> TextIO:
    """Open a file, or standard input for ``-``; a byte that is not UTF-8 affects only its row.

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
    except OSError as error:
        raise InputError(error.strerror) from None


if __name__ == "__main__":
    sys.exit(main())
