"""A client of the emulator, which needs only the standard library."""

import http.client
import json
import ssl
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import attrs

SILENCE_SECONDS = 90.0
"""Seconds without data after which a stream has failed; the emulator writes every 30."""


class RequestRejected(Exception):
    """The emulator answered with an error."""

    def __init__(self, status: int, error: str) -> None:
        """Keep the HTTP status and the error code or text."""
        super().__init__(f"{error} (status {status})")
        self.status = status
        self.error = error


@attrs.define(eq=False)
class EmulatorClient:
    """Sends requests to the emulator; each has a connection of its own.

    Args:
        base_url: such as ``https://127.0.0.1:8443``.
        ca_file: the emulator's ca.pem; None: the certificates that the system trusts.

    Raises:
        RequestRejected: from every method, if the status is not 200.
        OSError: from every method, without an answer.
    """

    base_url: str
    ca_file: Path | None = None
    _context: ssl.SSLContext | None = attrs.field(default=None, init=False)

    def ask(
        self, method: str, path: str, content: object = None, timeout: float = 30.0
    ) -> dict[str, Any]:
        """Send a request with JSON, and return the JSON of the answer."""
        connection = self._connect(timeout)
        try:
            body = None if content is None else json.dumps(content).encode()
            connection.request(method, path, body, {"Content-Type": "application/json"})
            return _read(connection.getresponse())
        except http.client.HTTPException as error:
            raise ConnectionError(f"no answer: {error!r}") from error
        finally:
            connection.close()

    def register(self, sender: str, app: str, **more: Any) -> str:
        """Register an application; return its registration ID."""
        answer = self.ask("POST", "/device/register", {"sender": sender, "app": app, **more})
        return str(answer["registration_id"])

    def unregister(self, registration_id: str) -> None:
        """End a registration."""
        self.ask("DELETE", _device(registration_id))

    def set_idle(self, registration_id: str, idle: bool) -> None:
        """Set whether the phone is idle."""
        self.ask("POST", f"{_device(registration_id)}/idle", {"idle": idle})

    def refresh(self, registration_id: str) -> str:
        """Replace the ID, as Google sometimes does; return the new one."""
        answer = self.ask("POST", f"{_device(registration_id)}/refresh", {})
        return str(answer["registration_id"])

    def listen(self, registration_id: str, timeout: float = SILENCE_SECONDS) -> "Listener":
        """Connect a phone; it is online until the listener is closed."""
        connection = self._connect(timeout)
        try:
            connection.request("GET", f"{_device(registration_id)}/messages")
            response = connection.getresponse()
            if response.status != 200:
                _read(response)
            return Listener(connection, response)
        except http.client.HTTPException as error:
            connection.close()
            raise ConnectionError(f"no answer: {error!r}") from error
        except BaseException:
            connection.close()
            raise

    def _connect(self, timeout: float) -> http.client.HTTPSConnection:
        if self._context is None:
            cafile = None if self.ca_file is None else str(self.ca_file)
            self._context = ssl.create_default_context(cafile=cafile)
        parts = urlsplit(self.base_url)
        return http.client.HTTPSConnection(
            parts.hostname or "", parts.port or 443, timeout=timeout, context=self._context
        )


@attrs.define(eq=False)
class Listener:
    """The events of a connected phone, as (name, fields)."""

    _connection: http.client.HTTPSConnection
    _response: http.client.HTTPResponse

    def __enter__(self) -> "Listener":
        """Return itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Go offline."""
        self.close()

    def __iter__(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Yield events until the emulator ends the stream.

        Raises:
            OSError: the connection broke, or no data came for too long.
        """
        name = ""
        while line := self._line():
            field, _, value = line.decode().rstrip("\n").partition(": ")
            if field == "event":
                name = value
            elif field == "data" and name:
                yield name, json.loads(value)

    def wait_at_most(self, seconds: float) -> None:
        """Set the time-out for the next event."""
        # http.client keeps the socket only while the stream is open.
        if self._connection.sock is not None:
            self._connection.sock.settimeout(seconds)

    def close(self) -> None:
        """Go offline."""
        self._response.close()
        self._connection.close()

    def _line(self) -> bytes:
        try:
            return self._response.readline()
        except http.client.HTTPException as error:
            raise ConnectionError(f"the stream broke: {error!r}") from error


def retry(
    action: Callable[[], str],
    *,
    tries: int,
    sleep: Callable[[float], None],
    chance: Callable[[], float],
) -> str:
    """Retry an action after SERVICE_NOT_AVAILABLE, with exponential back-off.

    Args:
        action: may raise `RequestRejected`.
        tries: the maximum of calls.
        sleep: takes seconds.
        chance: returns a number from 0 to 1, for the jitter.

    Raises:
        RequestRejected: with another error, or by the last try.
    """
    for attempt in range(tries):
        try:
            return action()
        except RequestRejected as error:
            if error.error != "SERVICE_NOT_AVAILABLE" or attempt == tries - 1:
                raise
        longest = min(60.0, 2.0**attempt)
        sleep(longest / 2 + chance() * longest / 2)
    raise ValueError("expected at least one try")


def _device(registration_id: str) -> str:
    return f"/device/{quote(registration_id, safe='')}"


def _read(response: http.client.HTTPResponse) -> dict[str, Any]:
    body = response.read()
    try:
        content = json.loads(body)
    except ValueError:
        reason = f"the answer is no JSON: {body[:80]!r}"
        if response.status == 200:
            raise ConnectionError(reason) from None
        content = {"error": reason}
    if response.status != 200:
        error = content.get("error", "") if isinstance(content, Mapping) else ""
        raise RequestRejected(response.status, str(error))
    return dict(content)
