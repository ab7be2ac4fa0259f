"""Queries of node2dm-push to the gateway: its routes, and its counters before and after."""

import http.client
import json
import socket
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Self
from urllib.parse import urlsplit

from node2dm_tw.client import OBJECTS, Push

STATS = "127.0.0.1:8121"

ANSWER_SECONDS = 2.0
"""Time-out in seconds of the connection to the gateway, and of each part of its answer."""

MAX_ANSWER_BYTES = 4_000_000

CONFIRM_SECONDS = 5.0
"""Seconds to wait until the gateway has counted what was sent."""

CONFIRM_INTERVAL = 0.05

_NOT_FOR = {
    "c2dm": (
        "fid",
        "topic",
        "condition",
        "priority",
        *OBJECTS,
        "validate_only",
        "subscribe",
        "unsubscribe",
    ),
    "fcm": ("delay_while_idle",),
}
"""Fields that a service does not support."""


class GatewayError(Exception):
    """The gateway cannot be queried; the text is the reason."""


@dataclass(frozen=True, slots=True)
class GatewayRoutes:
    """The routes of a gateway, from its command `config`.

    Args:
        udp: the addresses where it receives pushes.
        services: ``c2dm`` or ``fcm`` for each route, in the gateway's order.
        prefixes: the route of each prefix.
    """

    udp: tuple[str, ...]
    services: dict[str, str]
    prefixes: dict[str, str]

    @classmethod
    def ask(cls, address: str) -> Self:
        """Query the stats port at HOST:PORT.

        Raises:
            GatewayError: there is no answer, or it is not a gateway.
        """
        lines = _ask_telnet(address, b"config\r\nquit\r\n").splitlines()
        udp: tuple[str, ...] = ()
        services: dict[str, str] = {}
        prefixes: dict[str, str] = {}
        service = route = ""
        for line in lines:
            name, _, value = line.partition(" = ")
            if line.startswith("["):
                service, _, named = line.strip("[]").partition(":")
                route = named or service
                if service in _NOT_FOR:
                    services[route] = service
            elif name == "udp":
                udp = tuple(value.split(", "))
            elif name == "prefix" and service in _NOT_FOR and value:
                prefixes[value] = route
        if not services:
            raise GatewayError(f"{address} names no routes: expected the gateway's `stats`")
        return cls(udp, services, prefixes)

    def has_port(self, port: int) -> bool:
        """Whether this gateway receives pushes at that UDP port."""
        return any(address.rpartition(":")[2] == str(port) for address in self.udp)

    def find(self, name: str) -> str:
        """Return the route of a name or prefix; the first route for an empty one.

        Raises:
            ValueError: there is no such route.
        """
        if not name:
            return next(iter(self.services))
        route = name if name in self.services else self.prefixes.get(name)
        if route is None:
            known = [*self.services, *self.prefixes]
            raise ValueError(f"route = {name[:48]!r}: expected one of {', '.join(known)}")
        return route

    def check(self, push: Push) -> None:
        """Check that the route of a push exists and that its service supports the push.

        Raises:
            ValueError: with the field and what is expected.
        """
        route = self.find(push.route)
        service = self.services[route]
        place = f"the route {route} ({service.upper()})"
        is_message = not (push.subscribe or push.unsubscribe)
        if service == "c2dm" and not push.collapse_key and is_message:
            raise ValueError(f"collapse_key is empty: {place} expects one (--collapse-key)")
        for name in _NOT_FOR[service]:
            if getattr(push, name) not in (None, ""):
                raise ValueError(f"{name} is given: {place} expects a push without it")


def _ask_telnet(address: str, request: bytes) -> str:
    """Send lines that end with `quit` to the stats port; return the answer."""
    host, _, port = address.rpartition(":")
    expected = "expected HOST:PORT of the gateway's `stats`"
    if not host or not port.isdecimal():
        raise GatewayError(f"{address}: {expected}")
    answer = b""
    try:
        place = (host.strip("[]"), int(port))
        with socket.create_connection(place, ANSWER_SECONDS) as connection:
            connection.sendall(request)
            while (chunk := connection.recv(65_536)) and len(answer) < MAX_ANSWER_BYTES:
                answer += chunk
    except (OSError, OverflowError, UnicodeError) as error:
        why = getattr(error, "strerror", None) or error
        raise GatewayError(f"{address}: {why}: {expected}") from None
    return answer.decode("utf-8", "replace")


def _ask_web(url: str) -> str:
    """Return the answer of /stats at the web port."""
    expected = "expected http://HOST:PORT of the gateway's `web`"
    try:
        parts = urlsplit(url)
        kind = (
            http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        )
        connection = kind(parts.hostname or "", parts.port, timeout=ANSWER_SECONDS)
        try:
            connection.request("GET", f"{parts.path.rstrip('/')}/stats")
            answer = connection.getresponse()
            body = answer.read(MAX_ANSWER_BYTES).decode("utf-8", "replace")
        finally:
            connection.close()
    except http.client.HTTPException:
        raise GatewayError(f"{url}: the answer is not HTTP: {expected}") from None
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or error
        raise GatewayError(f"{url}: {why}: {expected}") from None
    if answer.status != 200:
        raise GatewayError(f"{url}: {answer.status} {body.strip()[:300]}: {expected}")
    return body


def read_totals(address: str) -> dict[str, Any]:
    """Return the totals of the gateway's stats.

    Args:
        address: ``http://HOST:PORT`` of its `web`, or ``HOST:PORT`` of its `stats`.

    Raises:
        GatewayError: there is no answer, or it is not a gateway.
    """
    is_web = address.startswith(("http://", "https://"))
    answer = _ask_web(address) if is_web else _ask_telnet(address, b"stats json\r\nquit\r\n")
    try:
        totals: dict[str, Any] = json.loads(answer)["totals"]
        _count_read(totals)
    except (ValueError, TypeError, KeyError):
        raise GatewayError(
            f"{address} has no stats: expected the gateway's `web` or `stats`"
        ) from None
    return totals


def _count_read(totals: dict[str, Any]) -> int:
    """Return the number of pushes that were read, valid or not."""
    return int(totals["messages_received"]) + int(totals["messages_invalid"])


class Confirmation:
    """Compares the gateway's counters before and after pushes were sent.

    The counters include what others push at the same time.

    Args:
        address: as for `read_totals`.
        clock: returns monotonic seconds.
        sleep: takes seconds.

    Raises:
        GatewayError: the gateway cannot be queried.
    """

    def __init__(
        self, address: str, clock: Callable[[], float], sleep: Callable[[float], None]
    ) -> None:
        self._address = address
        self._clock = clock
        self._sleep = sleep
        self._before = read_totals(address)

    def find_losses(self, sent: int) -> list[str]:
        """Wait until `sent` pushes were read; return a line for each kind of loss.

        Raises:
            GatewayError: the gateway no longer answers.
        """
        deadline = self._clock() + CONFIRM_SECONDS
        before = _count_read(self._before)
        while True:
            totals = read_totals(self._address)
            read = _count_read(totals) - before
            if read >= sent or self._clock() >= deadline:
                return self._compare(totals, sent, read)
            self._sleep(CONFIRM_INTERVAL)

    def _compare(self, totals: dict[str, Any], sent: int, read: int) -> list[str]:
        if totals["uptime"] < self._before["uptime"] or read < 0:
            return ["the gateway was started anew meanwhile: its counters say nothing"]
        risen = {
            name: value - self._before.get(name, 0)
            for name, value in totals.items()
            if name.startswith("messages_invalid") or name == "udp_dropped"
        }
        invalid = risen.pop("messages_invalid")
        dropped = risen.pop("udp_dropped", 0)
        losses = []
        if invalid:
            reasons = ", ".join(
                f"{name.removeprefix('messages_invalid.')} {count}"
                for name, count in risen.items()
                if count
            )
            losses.append(f"invalid: {invalid:,} ({reasons}); the gateway's log names the fields")
        if read < sent:
            losses.append(
                f"not arrived after {CONFIRM_SECONDS:g} s: {sent - read:,}"
                f" (datagrams dropped by the gateway's kernel: {dropped:,})"
            )
        return losses
