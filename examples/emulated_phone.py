"""What every phone application needs of the emulator: to register, to listen, to unregister.

The standard library is enough. On a real phone the system does all this for an application.
"""

import argparse
import json
import secrets
import ssl
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import closing
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from typing import Any
from urllib.parse import quote, urlsplit

QUIET = 90.0
"""Seconds without a sign of life after which a stream is dead; the emulator speaks every 30 s."""

FIRST_WAIT, LONGEST_WAIT = 0.5, 60.0
"""Seconds between attempts to register; doubled each time, and drawn from half to the whole."""

Event = tuple[str, dict[str, Any]]


class RegistrationFailed(Exception):
    """The phone cannot be registered; the text is one of C2DM's registration errors."""


class Emulator:
    """The emulator as one application on one phone sees it.

    Args:
        url: where it listens, such as https://127.0.0.1:8443.
        ca_file: the certificate it made for itself, ``emulator/ca.pem`` in its state directory.
    """

    def __init__(self, url: str, ca_file: str) -> None:
        self._host = urlsplit(url).netloc
        self._tls = ssl.create_default_context(cafile=ca_file)

    def register(self, sender: str, app: str, device: str) -> str:
        """Return a registration ID, waiting longer and longer while the service is not available.

        Args:
            sender: the account whose pushes the application takes.
            app: the application's name.
            device: the phone's name; the same one gets the same ID again.

        Raises:
            RegistrationFailed: trying again would not help.
        """
        wanted = {"sender": sender, "app": app, "device": device}
        wait = FIRST_WAIT
        while True:
            try:
                status, answer = ask(self._connection(), "POST", "/device/register", wanted)
            except (OSError, HTTPException):
                status, answer = 503, {}
            if status == 200:
                return str(answer["registration_id"])
            if status != 503:
                raise RegistrationFailed(answer.get("error", status))
            time.sleep(wait * (0.5 + secrets.randbelow(500) / 1000))
            wait = min(2 * wait, LONGEST_WAIT)

    def unregister(self, registration_id: str) -> None:
        """End the registration: pushes to it are answered with NotRegistered from now on."""
        ask(self._connection(), "DELETE", f"/device/{quote(registration_id, safe='')}")

    def events(self, registration_id: str) -> Iterator[Event]:
        """Yield (event, fields) as they come; connected again when the stream breaks.

        It ends when the application is unregistered.
        """
        while True:
            try:
                with closing(self._connection()) as connection:
                    connection.request("GET", f"/device/{quote(registration_id, safe='')}/messages")
                    stream = connection.getresponse()
                    if stream.status == 404:
                        return
                    for name, fields in read_events(stream):
                        yield name, fields
                        if name == "unregistered":
                            return
                        if name == "registration":
                            registration_id = fields["registration_id"]
            except (OSError, HTTPException):
                pass
            time.sleep(FIRST_WAIT)

    def _connection(self) -> HTTPSConnection:
        return HTTPSConnection(self._host, context=self._tls, timeout=QUIET)


def read_events(lines: Iterable[bytes]) -> Iterator[Event]:
    """Read server-sent events whose data is a JSON object; comments are passed over."""
    fields: dict[str, str] = {}
    for line in lines:
        text = line.decode().rstrip("\n")
        name, _, value = text.partition(": ")
        if text:
            fields[name] = value
        elif "data" in fields:
            yield fields.get("event", "message"), json.loads(fields["data"])
            fields = {}


def ask(connection: HTTPConnection, method: str, path: str, content: Any = None) -> tuple[int, Any]:
    """Send JSON and return the status and the JSON of the answer; {} where it has none.

    Raises:
        OSError, HTTPException: there was no answer.
    """
    body = None if content is None else json.dumps(content)
    try:
        connection.request(method, path, body, {"Content-Type": "application/json"})
        answer = connection.getresponse()
        text = answer.read()
    finally:
        connection.close()
    try:
        return answer.status, json.loads(text)
    except ValueError:
        return answer.status, {}


def say(text: str) -> None:
    """Print a line at once."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def phone_options(description: str | None) -> argparse.ArgumentParser:
    """Return a parser of the options that every phone has."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--emulator", default="https://127.0.0.1:8443", metavar="URL")
    parser.add_argument("--ca-file", required=True, metavar="FILE", help="the emulator's ca.pem")
    parser.add_argument("--sender", default="demo@example.com", help="whose pushes to take")
    parser.add_argument("--device", default="my-phone", help="the name of this phone")
    return parser
