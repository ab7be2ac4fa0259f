"""Pushes to the gateway from an application server, by UDP: hand over and forget.

This module needs nothing but the standard library and may be copied alone into another project.
The datagram it sends is described in docs/application-servers.md.
"""

import errno
import json
import logging
import os
import re
import selectors
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Self

HOST = "127.0.0.1"
PORT = 8120

SAFE_DATAGRAM = 1400
"""Bytes that fit an Ethernet frame, tunnels included: a datagram of that size is not fragmented."""

MAX_DATAGRAM = 65_507
"""Bytes of the largest datagram IPv4 can carry."""

LONGEST_TTL = 2_419_200
"""Seconds: four weeks, the most that FCM takes."""

SEND_TIMEOUT = 0.1
"""Seconds a caller is kept at the most when the kernel's send buffer is full."""

REOPEN_AFTER = 1.0
"""Seconds from a failed attempt to resolve and reach the gateway's name to the next."""

LOG_INTERVAL = 60.0
"""Seconds between two log lines about failures."""

_log = logging.getLogger(__name__)

_EMPTY_MEANS_SOMETHING = ("data", "ttl", "notification")
_NAME = re.compile(r"[^{:|\n][^:|\n]*")
_COLLAPSE_KEY = re.compile(r"([^{:\n][^:\n]*)?")
_PAYLOAD = re.compile(r"[^:\n]*|\{[^\n]*")


@dataclass(frozen=True, slots=True)
class Push:
    """One push, checked when made.

    Args:
        token: the device's registration ID. Exactly one of token, fid, topic, condition is set.
        data: a text, which the phone gets as ``data``, or names and texts. None: only a ping.
        collapse_key: of several pushes with one key an offline phone gets the last. C2DM wants one.
        fid: a Firebase installation ID.
        topic: an FCM topic: every phone that subscribed to it.
        condition: an FCM expression over topics.
        ttl: seconds the push is worth delivering. None: the gateway's own limit.
        priority: ``normal`` or ``high``. None: the service's default.
        delay_while_idle: wait until the phone is in use (C2DM).
        notification: what FCM shows by itself, as in its HTTP v1 interface.
        route: the gateway's route, or its prefix. Empty: the client's, or the gateway's first.

    Raises:
        ValueError: a field is missing, superfluous, or of a wrong kind. It names the field, and
            never repeats the value.
    """

    token: str = ""
    data: str | dict[str, str] | None = None
    collapse_key: str = ""
    fid: str = ""
    topic: str = ""
    condition: str = ""
    ttl: int | None = None
    priority: str | None = None
    delay_while_idle: bool = False
    notification: dict[str, Any] | None = None
    route: str = ""

    def __post_init__(self) -> None:
        for name in ("token", "collapse_key", "fid", "topic", "condition", "route"):
            _require(isinstance(getattr(self, name), str), name, "a text")
        targets = [
            target for target in (self.token, self.fid, self.topic, self.condition) if target
        ]
        if len(targets) != 1:
            raise ValueError("exactly one of token, fid, topic, condition is wanted")
        _require(_is_data(self.data), "data", "a text, or an object of names and texts")
        whole = self.ttl is None or (type(self.ttl) is int and 0 <= self.ttl <= LONGEST_TTL)
        _require(whole, "ttl", f"a whole number of seconds, 0 to {LONGEST_TTL}")
        _require(self.priority in (None, "normal", "high"), "priority", "normal or high")
        _require(isinstance(self.delay_while_idle, bool), "delay_while_idle", "true or false")
        _require(isinstance(self.notification, dict | None), "notification", "an object")

    @classmethod
    def from_fields(cls, fields: Mapping[str, Any]) -> Self:
        """Make a push of an object in the JSON form.

        Raises:
            ValueError: as for the class; also for a name that is not one of the form's.
        """
        unknown = sorted(fields.keys() - cls.__dataclass_fields__.keys())
        if unknown:
            raise ValueError(f"unknown: {', '.join(map(repr, unknown))}")
        return cls(**fields)

    def line(self, default_route: str = "") -> bytes:
        """Return the line of a datagram, UTF-8 without a line feed.

        It is in node2dm's form where both a C2DM and an FCM route read this very push from it, and
        else in the JSON form.

        Args:
            default_route: the route of a push that names none.

        Raises:
            ValueError: it is not valid UTF-8, not JSON, or too long for any datagram.
        """
        route = self.route or default_route
        text = self._colon_form(route) or self._json_form(route)
        try:
            line = text.encode()
        except UnicodeEncodeError:
            raise ValueError("not valid UTF-8") from None
        if len(line) > MAX_DATAGRAM:
            raise ValueError(f"{len(line)} bytes do not fit a datagram of {MAX_DATAGRAM}")
        return line

    def _colon_form(self, route: str) -> str | None:
        """Return the line in node2dm's form, or None where a route might misread it."""
        options = (self.ttl, self.priority, self.delay_while_idle or None, self.notification)
        if (
            isinstance(self.data, str)
            and all(option is None for option in options)
            and _NAME.fullmatch(self.token)
            and _COLLAPSE_KEY.fullmatch(self.collapse_key)
            and _PAYLOAD.fullmatch(self.data)
            and (not route or _NAME.fullmatch(route))
        ):
            prefix = f"{route}|" if route else ""
            return f"{prefix}{self.token}:{self.collapse_key}:{self.data}"
        return None

    def _json_form(self, route: str) -> str:
        fields = {name: getattr(self, name) for name in self.__dataclass_fields__}
        fields["route"] = route
        wanted = {
            name: value
            for name, value in fields.items()
            if value or (name in _EMPTY_MEANS_SOMETHING and value is not None)
        }
        try:
            return json.dumps(wanted, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        except (TypeError, ValueError, RecursionError) as fault:
            raise ValueError(f"cannot be written as JSON: {fault}") from None


def _is_data(data: object) -> bool:
    if isinstance(data, dict):
        texts = (isinstance(name, str) and isinstance(text, str) for name, text in data.items())
        return "" not in data and all(texts)
    return data is None or isinstance(data, str)


def _require(good: bool, name: str, wanted: str) -> None:
    if not good:
        raise ValueError(f"{name} must be {wanted}")


def pack(lines: Iterable[bytes], size: int = SAFE_DATAGRAM) -> Iterator[list[bytes]]:
    """Divide lines, in order, into datagrams of at most `size` bytes, line feeds between included.

    A line that alone is longer than `size` gets a datagram of its own.
    """
    gathered: list[bytes] = []
    length = 0
    for line in lines:
        if gathered and length + 1 + len(line) > size:
            yield gathered
            gathered, length = [], 0
        length += len(line) + bool(gathered)
        gathered.append(line)
    if gathered:
        yield gathered


class Counters(NamedTuple):
    """What became of the pushes.

    Args:
        sent: handed to the kernel. Those that were refused afterwards are among them.
        failed: faulty, or not taken by the kernel.
        refused: sent, and then the kernel learned that nobody listens there. An estimate: of
            several datagrams that come back at once the kernel tells of one.
    """

    sent: int
    failed: int
    refused: int


def connect(host: str, port: int) -> socket.socket:
    """Return a UDP socket connected to the first reachable address, IPv4 before IPv6.

    Raises:
        OSError: the name does not resolve, or no address of it can be reached.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)
    except UnicodeError as reason:
        raise OSError(errno.EINVAL, f"not a host name: {reason}") from None
    fault = OSError(errno.EADDRNOTAVAIL, "the name has no address")
    found.sort(key=lambda entry: entry[0] != socket.AF_INET)
    for family, kind, protocol, _, address in found:
        opened = socket.socket(family, kind, protocol)
        try:
            opened.connect(address)
        except OSError as reason:
            opened.close()
            fault = reason
            continue
        opened.settimeout(SEND_TIMEOUT)
        return opened
    raise fault


class PushClient:
    """Sends pushes to one gateway. Threads may share it.

    UDP tells nobody whether a datagram arrived. What does show, a faulty push, a full send buffer,
    a host that answers that nobody listens, is counted and logged, and raised only with `strict`.

    Args:
        host: name or address of the gateway, IPv4 or IPv6. Of a name's addresses the first that can
            be reached is used, IPv4 before IPv6.
        port: its UDP port.
        route: the route of pushes that name none.
        strict: raise ValueError for a faulty push and OSError for one that could not be sent.
        max_datagram: bytes; `push_many` packs no more into one datagram. A push that alone is
            longer still goes, in a datagram of its own.
        clock: seconds that only grow, for the intervals between log lines and attempts.
        connect: opens the socket.

    Raises:
        ValueError: the port or max_datagram is out of range.
        OSError: with `strict` only: the name does not resolve, or cannot be reached.
    """

    def __init__(
        self,
        host: str = HOST,
        port: int = PORT,
        *,
        route: str = "",
        strict: bool = False,
        max_datagram: int = SAFE_DATAGRAM,
        clock: Callable[[], float] = time.monotonic,
        connect: Callable[[str, int], socket.socket] = connect,
    ) -> None:
        _require(0 < port < 65536, "port", "between 1 and 65535")
        _require(0 < max_datagram <= MAX_DATAGRAM, "max_datagram", f"between 1 and {MAX_DATAGRAM}")
        self._address = (host, port)
        self._route = route
        self._strict = strict
        self._max_datagram = max_datagram
        self._clock = clock
        self._connect = connect
        self._lock = threading.Lock()
        self._socket: socket.socket | None = None
        self._closed = False
        self._reopen_at = self._log_at = clock()
        self._unlogged = self._latest = 0
        self._sent = self._failed = self._refused = 0
        try:
            self._open()
        except OSError as fault:
            self._report(0, fault)

    @property
    def counters(self) -> Counters:
        """The counts so far."""
        return Counters(self._sent, self._failed, self._refused)

    def push(
        self,
        token: str = "",
        data: str | dict[str, str] | None = None,
        collapse_key: str = "",
        **options: Any,
    ) -> bool:
        """Send one push at once, in a datagram of its own.

        The arguments are the fields of `Push`. The result says whether the kernel took it, which is
        no promise that it arrives.
        """
        try:
            line = Push(token, data, collapse_key, **options).line(self._route)
        except (TypeError, ValueError) as fault:
            self._report(1, fault)
            return False
        return self.send([line])

    def push_many(self, pushes: Iterable[Push]) -> int:
        """Send pushes, several in a datagram; return how many the kernel took."""
        datagrams = pack(self._lines(pushes), self._max_datagram)
        return sum(len(lines) for lines in datagrams if self.send(lines))

    def send(self, lines: Sequence[bytes]) -> bool:
        """Send one datagram of ready lines; return whether the kernel took it."""
        try:
            if self._socket is None:
                self._open()
            with self._lock:
                refusal = self._refusal()
                if refusal and self._strict:
                    raise refusal
                self._send(b"\n".join(lines), len(lines))
        except OSError as fault:
            self._report(len(lines), fault)
            return False
        if refusal:
            self._report(0, refusal)
        return True

    def check(self, wait: float = 0.0) -> bool:
        """Ask the kernel whether the latest datagram came back; False where nobody listens.

        Args:
            wait: seconds to wait for such news: a remote host's take a round trip.
        """
        opened = self._socket
        if opened is None:
            return False
        with selectors.DefaultSelector() as selector:
            selector.register(opened, selectors.EVENT_READ)
            selector.select(wait)
        with self._lock:
            return self._refusal() is None

    def close(self) -> None:
        """Close the socket; pushes from now on fail. Closing twice is allowed."""
        with self._lock:
            self._closed = True
            self._disconnect()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _lines(self, pushes: Iterable[Push]) -> Iterator[bytes]:
        for push in pushes:
            try:
                line = push.line(self._route)
            except ValueError as fault:
                self._report(1, fault)
            else:
                yield line

    def _open(self) -> None:
        """Open the socket. Meanwhile other threads do not wait for the name: their pushes fail."""
        with self._lock:
            if self._closed:
                raise OSError(errno.EBADF, "the client is closed")
            if self._socket is not None:
                return
            if self._clock() < self._reopen_at:
                raise OSError(errno.ENOTCONN, "the gateway could not be reached a moment ago")
            self._reopen_at = float("inf")
        opened = None
        try:
            opened = self._connect(*self._address)
        finally:
            with self._lock:
                self._reopen_at = self._clock() + (0 if opened else REOPEN_AFTER)
                self._socket = opened
                if self._closed:
                    self._disconnect()

    def _disconnect(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _refusal(self) -> OSError | None:
        """Return the news that the latest datagram came back, once; the lock is held."""
        code = self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) if self._socket else 0
        if code == 0:
            return None
        self._refused += self._latest
        self._latest = 0
        return OSError(code, f"the datagram before came back: {os.strerror(code)}")

    def _send(self, datagram: bytes, pushes: int) -> None:
        """Hand a datagram to the kernel; the lock is held."""
        if self._socket is None:
            raise OSError(errno.ENOTCONN, "the socket was closed by another thread")
        try:
            self._socket.send(datagram)
        except OSError:
            self._disconnect()
            raise
        self._sent += pushes
        self._latest = pushes

    def _report(self, pushes: int, fault: Exception) -> None:
        """Count `pushes` as failed; raise the fault if `strict`, else log it in its turn."""
        with self._lock:
            self._failed += pushes
            self._unlogged += 1
            now = self._clock()
            due = now >= self._log_at and not self._strict
            if due:
                self._log_at = now + LOG_INTERVAL
                failures, self._unlogged = self._unlogged, 0
        if self._strict:
            raise fault
        if due:
            text = "pushing to %s port %d failed (%d times since the last line like this): %s; %s"
            _log.warning(text, *self._address, failures, fault, self.counters)
