"""Pushes to the gateway from an application server, by UDP: hand over and forget.

This module needs nothing but the standard library and may be copied alone into another project.
The datagram it sends is described in docs/application-servers.md.
"""

import contextlib
import errno
import http.client
import json
import logging
import os
import re
import reprlib
import selectors
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, NamedTuple, Self
from unicodedata import category
from urllib.parse import SplitResult, urlsplit

HOST = "127.0.0.1"
PORT = 8120
WEB = "http://127.0.0.1:8122"

SAFE_DATAGRAM = 1400
"""Bytes that fit an Ethernet frame, tunnels included: a datagram of that size is not fragmented."""

MAX_DATAGRAM = 65_507
"""Bytes of the largest datagram IPv4 can carry."""

MAX_TTL_SECONDS = 2_419_200
"""Four weeks, the most that FCM takes."""

MAX_TOKEN_BYTES = 4096
"""Maximum length of a token or fid; Google's have about 160 bytes."""

MAX_NESTING = 16
"""Maximum nesting depth of `notification`."""

SEND_TIMEOUT = 0.1
"""Seconds a caller is kept at the most when the kernel's send buffer is full."""

REOPEN_AFTER = 1.0
"""Seconds from a failed attempt to resolve and reach the gateway's name to the next, and between
lookups for datagrams that came back."""

LOOKUP_INTERVAL = 60.0
"""Seconds after which the gateway's name is looked up again, as far as pushes are sent."""

LOG_INTERVAL = 60.0
"""Seconds between two log lines with the same text."""

MAX_LOG_TEXTS = 20
"""Texts that are throttled apart; further ones share one line in each interval."""

MAX_ANSWER_BYTES = 65_536
"""Bytes that are read of an answer of the gateway's web port."""

_log = logging.getLogger(__name__)

_TARGETS = ("token", "fid", "topic", "condition")
_ONE_TARGET = f"exactly one of {', '.join(_TARGETS)} is expected"
_TOKEN_RULE = (
    f"no white space, quotes, brackets or invisible characters, and at most {MAX_TOKEN_BYTES} bytes"
)
_EMPTY_MEANS_SOMETHING = ("data", "ttl", "delay_while_idle", "notification")
_NAME = re.compile(r"[^{:|\n][^:|\n]*")
_COLLAPSE_KEY = re.compile(r"([^{:\n][^:\n]*)?")
_PAYLOAD = re.compile(r"([^:\n]*|\{[^\n]*)(?<![\r\0])")
_NOT_IN_TOKENS = re.compile(r"""[\0- \x7f"'`()\[\]{}<>]""")
_CATEGORIES_NOT_IN_TOKENS = {"Cc", "Cf", "Zs", "Zl", "Zp", "Pi", "Pf", "Ps", "Pe"}
"""Unicode's categories of control and format characters, white space, quotes and brackets."""


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
        ttl: whole seconds the push is worth delivering. None: the gateway's own limit.
        priority: ``normal`` or ``high``, in any case. None: the service's default.
        delay_while_idle: wait until the phone is in use (C2DM). None: the same as False.
        notification: what FCM shows by itself, as in its HTTP v1 interface.
        route: the gateway's route, or its prefix. Empty: the client's, or the gateway's first.

    Raises:
        ValueError: a field is missing, superfluous, or of a wrong kind. It names the field, the
            value, shortened, and what is expected.
    """

    token: str = ""
    data: str | dict[str, str] | None = None
    collapse_key: str = ""
    fid: str = ""
    topic: str = ""
    condition: str = ""
    ttl: int | None = None
    priority: str | None = None
    delay_while_idle: bool | None = None
    notification: dict[str, Any] | None = None
    route: str = ""

    def __post_init__(self) -> None:
        for name in (*_TARGETS, "collapse_key", "route"):
            value = getattr(self, name)
            _require(isinstance(value, str), name, value, "a text")
        given = [name for name in _TARGETS if getattr(self, name)]
        if len(given) != 1:
            raise ValueError(f"{_ONE_TARGET}, given: {', '.join(given) or 'none'}")
        for name in ("token", "fid"):
            value = getattr(self, name)
            if fault := _find_token_fault(value):
                raise ValueError(f"{name} = {_show(name, value)} ({fault}): expected {_TOKEN_RULE}")
        self._check_data()
        seconds = self.ttl
        if isinstance(seconds, float) and seconds.is_integer():
            seconds = int(seconds)
        is_whole = seconds is None or (type(seconds) is int and 0 <= seconds <= MAX_TTL_SECONDS)
        whole = f"a whole number of seconds, 0 to {MAX_TTL_SECONDS}"
        _require(is_whole, "ttl", self.ttl, whole)
        priority = self.priority.lower() if isinstance(self.priority, str) else self.priority
        _require(priority in (None, "normal", "high"), "priority", priority, "normal or high")
        idle = self.delay_while_idle
        _require(isinstance(idle, bool | None), "delay_while_idle", idle, "true or false")
        _require(
            self.notification is None
            or (isinstance(self.notification, dict) and _is_shallow(self.notification)),
            "notification",
            self.notification,
            f"an object, nested at most {MAX_NESTING} deep",
        )
        for name in ("title", "body", "image"):
            text = (self.notification or {}).get(name)
            _require(isinstance(text, str | None), f"notification.{name}", text, "a text")
        object.__setattr__(self, "ttl", seconds)
        object.__setattr__(self, "priority", priority)

    def _check_data(self) -> None:
        data = self.data
        if isinstance(data, dict):
            _require("" not in data, "data", data, "no empty names")
            for name, text in data.items():
                names = "an object whose names are texts"
                _require(isinstance(name, str), "data", data, names)
                _require(isinstance(text, str), f"data.{_shorten(name)}", text, "a text")
        else:
            is_text = data is None or isinstance(data, str)
            _require(is_text, "data", data, "a text, or an object of names and texts")

    @classmethod
    def from_fields(cls, fields: Mapping[str, Any]) -> Self:
        """Make a push of an object in the JSON form, in which null means that a field is absent.

        Raises:
            ValueError: as for the class; also for a name that is not one of the form's, and for
                a target or route that is there and empty.
        """
        given = {name: value for name, value in fields.items() if value is not None}
        known = tuple(cls.__dataclass_fields__)
        for name in given:
            if name not in known:
                near = get_close_matches(name, known, 1) or [f"one of {', '.join(known)}"]
                raise ValueError(f"unknown field {_shorten(name)!r}: expected {near[0]}")
        for name in _TARGETS:
            if given.get(name) == "":
                raise ValueError(f"{name} is empty: {_ONE_TARGET}")
        _require(given.get("route") != "", "route", "", "the name of a route, or no such field")
        return cls(**given)

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
            raise ValueError(f"not valid UTF-8: {self._find_surrogate()}") from None
        if len(line) > MAX_DATAGRAM:
            raise ValueError(
                f"the push has {len(line)} bytes: expected at most {MAX_DATAGRAM}, a datagram"
            )
        return line

    def _colon_form(self, route: str) -> str | None:
        """Return the line in node2dm's form, or None where a route might misread it."""
        options = (self.ttl, self.priority, self.delay_while_idle, self.notification)
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

    def _find_surrogate(self) -> str:
        """Name the field that holds half of a surrogate pair, which UTF-8 cannot carry."""
        for name in self.__dataclass_fields__:
            try:
                json.dumps(getattr(self, name), ensure_ascii=False).encode()
            except UnicodeEncodeError:
                return name
        return "the route"

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
        except (TypeError, ValueError, RecursionError):
            raise ValueError("notification cannot be written as JSON") from None


def _find_token_fault(text: str) -> str:
    """Say why the gateway does not read this as a token or fid; empty where it does."""
    if len(text) > MAX_TOKEN_BYTES or len(text.encode("utf-8", "replace")) > MAX_TOKEN_BYTES:
        return f"{len(text.encode('utf-8', 'replace'))} bytes"
    found = _NOT_IN_TOKENS.search(text)
    if found is None and text.isascii():
        return ""
    for index, letter in enumerate(text):
        if _NOT_IN_TOKENS.match(letter) or category(letter) in _CATEGORIES_NOT_IN_TOKENS:
            return f"{letter!a} at index {index}"
    return ""


def _is_shallow(value: object, levels: int = MAX_NESTING) -> bool:
    if not isinstance(value, dict | list | tuple):
        return True
    inner = value.values() if isinstance(value, dict) else value
    return levels > 0 and all(_is_shallow(each, levels - 1) for each in inner)


def _shorten(name: str) -> str:
    """Make a name fit for a message: a sender's mistake may have put a token there."""
    return name if len(name) <= 48 else f"{name[:24]}..."


def _show(name: str, value: object) -> str:
    """Render a value for a message, shortened; only the beginning of what names a device."""
    if name in ("token", "fid") and isinstance(value, str | bytes):
        return f"{value[:8]!a}{'...' if len(value) > 8 else ''}"
    try:
        return reprlib.repr(value)
    except ValueError:  # an integer with more digits than Python writes out
        return type(value).__name__


def _require(good: bool, name: str, value: object, expected: str) -> None:
    if not good:
        raise ValueError(f"{name} = {_show(name, value)}: expected {expected}")


def _require_number(name: str, value: object, most: int) -> None:
    is_within = isinstance(value, int) and not isinstance(value, bool) and 0 < value <= most
    _require(is_within, name, value, f"a whole number between 1 and {most}")


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


def _split_url(url: str) -> SplitResult:
    """Split the address of a web server.

    Raises:
        ValueError: it is none.
    """
    expected = "http://HOST:PORT"
    _require(isinstance(url, str), "url", url, expected)
    try:
        parts = urlsplit(url)
        is_web = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # a port that is no number, or brackets that are no IPv6 address
        is_web = False
    _require(is_web and url.isprintable() and " " not in url, "url", url, expected)
    return parts


class PushClient:
    """Sends pushes to one gateway. Threads may share it.

    UDP tells nobody whether a datagram arrived. What does show, a faulty push, a full send buffer,
    a host that answers that nobody listens, is counted and logged, each text once a minute, and
    raised only with `strict`.

    Args:
        host: name or address of the gateway, IPv4 or IPv6. Of a name's addresses the first that can
            be reached is used, IPv4 before IPv6. While pushes are sent it is looked up again once a
            minute, and when a datagram came back.
        port: its UDP port.
        route: the route of pushes that name none.
        strict: raise ValueError for a faulty push and OSError for one that could not be sent.
        max_datagram: bytes; `push_many` packs no more into one datagram. A push that alone is
            longer still goes, in a datagram of its own.
        clock: seconds that only grow, for the intervals between log lines and attempts.
        connect: opens the socket.

    Raises:
        ValueError: host or route is no text; the port or max_datagram is out of range.
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
        _require(isinstance(host, str), "host", host, "a text")
        _require(isinstance(route, str), "route", route, "a text")
        _require_number("port", port, 65535)
        _require_number("max_datagram", max_datagram, MAX_DATAGRAM)
        self._address = (host, port)
        self._route = route
        self._strict = strict
        self._max_datagram = max_datagram
        self._clock = clock
        self._connect = connect
        self._lock = threading.Lock()
        self._socket: socket.socket | None = None
        self._closed = False
        self._reopen_at = self._lookup_at = self._refusal_lookup_at = clock()
        self._lookup = threading.Thread()
        self._throttled: dict[str, tuple[float, int]] = {}
        self._open_fault: tuple[Any, ...] = ()
        self._latest = 0
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
        *,
        fid: str = "",
        topic: str = "",
        condition: str = "",
        ttl: int | None = None,
        priority: str | None = None,
        delay_while_idle: bool | None = None,
        notification: dict[str, Any] | None = None,
        route: str = "",
    ) -> bool:
        """Send one push at once, in a datagram of its own.

        The arguments are the fields of `Push`. The result says whether the kernel took it, which is
        no promise that it arrives.
        """
        try:
            line = Push(
                token,
                data,
                collapse_key,
                fid=fid,
                topic=topic,
                condition=condition,
                ttl=ttl,
                priority=priority,
                delay_while_idle=delay_while_idle,
                notification=notification,
                route=route,
            ).line(self._route)
        except ValueError as fault:
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
            if self._clock() >= self._lookup_at:
                self._look_up_again()
            with self._lock:
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
        with selectors.DefaultSelector() as selector, contextlib.suppress(ValueError):
            selector.register(opened, selectors.EVENT_READ)  # ValueError: it was closed meanwhile
            selector.select(wait)
        with self._lock:
            return self._refusal() is None

    @staticmethod
    def ready(url: str = WEB, timeout: float = 2.0) -> bool:
        """Ask the gateway's /readyz whether it can take pushes and get them away.

        Args:
            url: the address of its option `web`, http://HOST:PORT. An address with a path is asked
                as it is: http://HOST:PORT/readyz?route=NAME.
            timeout: seconds to wait for the connection, and then for the answer.

        Raises:
            ValueError: `url` is no address of that form.
            OSError: nobody answers, or it is not the gateway that answers.
        """
        parts = _split_url(url)
        _require(timeout > 0, "timeout", timeout, "seconds, more than 0")
        path = parts.path if parts.path.strip("/") else f"{parts.path.rstrip('/')}/readyz"
        kind = {"http": http.client.HTTPConnection, "https": http.client.HTTPSConnection}
        connection = kind[parts.scheme](str(parts.hostname), parts.port, timeout=timeout)
        try:
            connection.request("GET", f"{path}?{parts.query}" if parts.query else path)
            answer = connection.getresponse()
            status, body = answer.status, answer.read(MAX_ANSWER_BYTES)
        except (OSError, UnicodeError, http.client.HTTPException) as fault:
            why = getattr(fault, "strerror", None) or fault
            if isinstance(fault, http.client.HTTPException):
                why = "the answer is not HTTP"
            raise OSError(f"{url}: {why}: expected the address of the gateway's `web`") from None
        finally:
            connection.close()
        with contextlib.suppress(ValueError, TypeError, KeyError):
            ready = json.loads(body)["ready"]
            if status in (200, 503) and isinstance(ready, bool):
                return ready
        text = body.decode("utf-8", "replace").strip()[:300]
        raise OSError(f"{url}: {status} {text or answer.reason}: expected the gateway's /readyz")

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
                if not isinstance(push, Push):
                    raise ValueError(f"a push is of type {type(push).__name__}: expected Push")
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
                raise OSError(*self._open_fault)
            self._reopen_at = float("inf")
            self._open_fault = (errno.ENOTCONN, "the name of the gateway is being looked up")
        opened = None
        try:
            opened = self._connect(*self._address)
        except OSError as fault:
            self._open_fault = fault.args
            raise
        finally:
            with self._lock:
                now = self._clock()
                self._reopen_at = now + (0 if opened else REOPEN_AFTER)
                self._lookup_at = now + LOOKUP_INTERVAL
                self._socket = opened
                if self._closed:
                    self._disconnect()

    def _look_up_again(self) -> None:
        """Look the name up in a thread of its own, and wait for it no longer than for the kernel.

        Where that takes longer, pushes meanwhile go to the address that is known.
        """
        with self._lock:
            if self._closed or self._lookup.is_alive() or self._clock() < self._lookup_at:
                return
            self._lookup_at = self._clock() + LOOKUP_INTERVAL
            lookup = self._lookup = threading.Thread(target=self._reconnect, daemon=True)
            try:
                lookup.start()
            except RuntimeError:
                return  # there are no new threads while the interpreter exits
        lookup.join(SEND_TIMEOUT)

    def _reconnect(self) -> None:
        """Connect to what the name stands for now, if that is another address than before."""
        try:
            opened = self._connect(*self._address)
        except OSError:
            return
        with self._lock:
            before = self._socket
            is_new = before is not None and before.getpeername() != opened.getpeername()
            if is_new and not self._closed:
                self._refusal()
                self._disconnect()
                self._socket = opened
            else:
                opened.close()

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
        now = self._clock()
        if now >= self._refusal_lookup_at:
            self._lookup_at, self._refusal_lookup_at = now, now + REOPEN_AFTER
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
            failures = 0 if self._strict else self._throttle(str(fault))
        if self._strict:
            raise fault
        if failures:
            text = "pushing to %s port %d failed (%d times since the last line like this): %s; %s"
            _log.warning(text, *self._address, failures, fault, self.counters)

    def _throttle(self, text: str) -> int:
        """Count a failure; return how many with this text to log now, 0 for none."""
        now = self._clock()
        if text not in self._throttled and len(self._throttled) >= MAX_LOG_TEXTS:
            current = {key: each for key, each in self._throttled.items() if now < each[0]}
            self._throttled = current
            if len(current) >= MAX_LOG_TEXTS:
                text = ""
        log_at, unlogged = self._throttled.get(text, (now, 0))
        is_due = now >= log_at
        self._throttled[text] = (now + LOG_INTERVAL, 0) if is_due else (log_at, unlogged + 1)
        return unlogged + 1 if is_due else 0
