"""What a phone's system does for its applications, here on top of the emulator."""

import argparse
import random
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from node2dm_tw.emulator.phone.client import EmulatorClient, RequestRejected, retry

RECONNECT = 0.5
"""Seconds from the end of an event stream to the next one."""

TRIES = 8
"""Registrations to try while the service is not available: some four minutes in all."""


class Phone:
    """One application on one phone.

    Args:
        emulator: stands for Google.
        sender: the account whose pushes the application takes.
        app: the application's name.
        device: the phone's name; the same one gets the same registration ID again.

    Attributes:
        registration_id: the one that is good now.

    Raises:
        Refused: the registration failed.
        OSError: the emulator cannot be reached.
    """

    def __init__(self, emulator: EmulatorClient, sender: str, app: str, device: str) -> None:
        self._emulator = emulator
        self.registration_id = retry(
            lambda: emulator.register(sender, app, device=device),
            tries=TRIES,
            sleep=time.sleep,
            chance=random.random,
        )

    def unregister(self) -> None:
        """End the registration: pushes are answered with NotRegistered from now on."""
        self._emulator.unregister(self.registration_id)

    def events(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Yield (event, fields) as they come; connected again whenever the stream breaks.

        It ends when the application is unregistered.
        """
        while True:
            try:
                with self._emulator.listen(self.registration_id) as listener:
                    for name, fields in listener:
                        if name == "registration":
                            self.registration_id = fields["registration_id"]
                        yield name, fields
                        if name == "unregistered":
                            return
            except RequestRejected as error:
                if error.status == 404:
                    return
            except OSError:
                pass
            time.sleep(RECONNECT)


def phone_options(description: str) -> argparse.ArgumentParser:
    """Return a parser of the options that every phone has."""
    parser = argparse.ArgumentParser(description=description)
    add = parser.add_argument
    add("--emulator", default="https://127.0.0.1:8443", metavar="URL")
    add("--ca-file", type=Path, required=True, metavar="FILE", help="the emulator's ca.pem")
    add("--sender", default="demo@example.com", help="whose pushes to take")
    add("--device", default="my-phone", help="the name of this phone")
    return parser


def register(options: argparse.Namespace, app: str) -> Phone:
    """Return the phone that the options name, or end the program with a line that says why not."""
    try:
        emulator = EmulatorClient(options.emulator, options.ca_file)
        return Phone(emulator, options.sender, app, options.device)
    except (OSError, RequestRejected) as error:
        raise SystemExit(f"cannot register: {error}") from error


def say(text: str) -> None:
    """Print a line at once."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()
