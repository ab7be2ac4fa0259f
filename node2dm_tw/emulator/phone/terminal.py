"""``node2dm-phone``: a phone in a terminal."""

import argparse
import json
import os
import random
import signal
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

import attrs

from node2dm_tw.emulator.google.messages import describe_message, one_line
from node2dm_tw.emulator.phone.client import EmulatorClient, RequestRejected, retry
from node2dm_tw.emulator.settings import DEMO_ACCOUNT

UNREACHABLE, REFUSED, GONE = 1, 3, 4

_EPILOG = f"""\
exit status: 0 it ended as it was asked to; {UNREACHABLE} the emulator cannot be reached; 2 wrong
arguments; {REFUSED} the registration was refused; {GONE} it has ended, or there was none.
"""


@attrs.define(eq=False)
class PhoneTerminal:
    """Registers, prints the events, unregisters.

    Args:
        client: sends the requests.
        write: takes a line.
        sleep: takes seconds.
        registration_id: empty until it is registered.
        as_json: print events as JSON, one a line.
    """

    _client: EmulatorClient
    _write: Callable[[str], None]
    _sleep: Callable[[float], None]
    registration_id: str = ""
    _as_json: bool = False

    def register(self, sender: str, app: str, tries: int, **more: Any) -> None:
        """Register; retry while the service is not available."""
        self.registration_id = retry(
            lambda: self._client.register(sender, app, **more),
            tries=tries,
            sleep=self._sleep,
            chance=random.random,
        )
        self._show("registered", {"registration_id": self.registration_id})

    def unregister(self) -> None:
        """End the registration."""
        self._client.unregister(self.registration_id)
        self._show("unregistered", {"registration_id": self.registration_id})

    def listen(self, count: int | None) -> bool:
        """Print events until `count` messages have come.

        Returns:
            False if the registration ended before.

        Raises:
            OSError: the emulator could not be reached for a minute.
        """
        broken = 0
        while True:
            try:
                with self._client.listen(self.registration_id) as listener:
                    broken = 0
                    self._show("listening", {"registration_id": self.registration_id})
                    for name, fields in listener:
                        self._show(name, fields)
                        if name == "registration":
                            self.registration_id = fields["registration_id"]
                        if name == "unregistered":
                            return False
                        if name == "message" and count is not None:
                            count -= 1
                            if not count:
                                return True
            except OSError:
                broken += 1
                if broken > 6:
                    raise
            self._sleep(min(30.0, 2.0 ** (broken - 1)))

    def _show(self, name: str, fields: dict[str, Any]) -> None:
        if self._as_json:
            self._write(json.dumps({"event": name, **fields}))
        elif name == "message":
            self._write(f"message {describe_message(fields)}")
        else:
            self._write(one_line(" ".join([name, *map(str, fields.values())])))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit status."""
    options = _parser().parse_args(arguments)
    signal.signal(signal.SIGTERM, _interrupt)
    phone = PhoneTerminal(
        EmulatorClient(options.url, options.ca_file),
        _write,
        time.sleep,
        options.id or "",
        options.json,
    )
    try:
        return _run(phone, options)
    except RequestRejected as error:
        sys.stderr.write(f"node2dm-phone: {error}\n")
        return GONE if error.status == 404 else REFUSED
    except BrokenPipeError:
        # The reader is gone; the interpreter must not report that at its exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        sys.stderr.write(f"node2dm-phone: {options.url} cannot be reached: {error}\n")
        return UNREACHABLE


def _run(phone: PhoneTerminal, options: argparse.Namespace) -> int:
    if options.id and options.unregister:
        phone.unregister()
        return 0
    try:
        if not options.id:
            more = {"topics": options.topic}
            if options.device:
                more["device"] = options.device
            phone.register(options.sender, options.app, options.tries, **more)
        if not phone.listen(options.count):
            return GONE
    except KeyboardInterrupt:
        pass
    if options.unregister and phone.registration_id:
        phone.unregister()
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="node2dm-phone",
        description="A phone in the terminal: registers with the emulator and shows what comes.",
        epilog=_EPILOG,
    )
    add = parser.add_argument
    add("--url", default="https://127.0.0.1:8443", help="the emulator (default: %(default)s)")
    add("--ca-file", type=Path, help="the emulator's ca.pem, in state_dir/emulator")
    add("--sender", default=DEMO_ACCOUNT, help="who pushes: an account, or, over FCM, a project")
    add("--app", default="com.example.phone", help="the application (default: %(default)s)")
    add("--device", help="name of the phone; the same one keeps its registration ID")
    add("--topic", action="append", default=[], help="an FCM topic to listen to; may be repeated")
    add("--id", help="a registration ID: listen with it instead of registering")
    add("--count", type=_positive, help="end after so many messages")
    add("--tries", type=_positive, default=8, help="registrations to try (default: %(default)s)")
    add("--json", action="store_true", help="show each event as a line of JSON")
    add(
        "--unregister",
        action="store_true",
        help="unregister at the end (Ctrl-C, --count); with --id at once",
    )
    return parser


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("expected a number above 0")
    return number


def _write(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def _interrupt(*_: object) -> NoReturn:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
