"""Pushes by UDP from an application. This file needs only the standard library: copy it freely."""

import contextlib
import hmac
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
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass
from difflib import get_close_matches
from typing import Any, NamedTuple, Self, TypedDict, Unpack
from unicodedata import category
from urllib.parse import urlsplit

HOST, PORT = "127.0.0.1", 8120
SAFE_DATAGRAM = 1400  # bytes that fit an Ethernet frame, tunnels included
MAX_DATAGRAM = 65_507  # bytes that IPv4 can carry
MAX_TTL_SECONDS = 2_419_200  # four weeks, the most that FCM takes
MAX_TOKEN_BYTES = 4096  # of a token or fid; Google's have about 160
SIGNATURE_BYTES = 80  # of the first line of a signed datagram
MAX_NESTING = 16  # depth of an object
MAX_ANSWER_BYTES = 65_536  # read of an answer of the gateway's web port
SEND_TIMEOUT = 0.1  # seconds a push waits while the kernel's send buffer is full
REOPEN_AFTER = 1.0  # seconds between lookups of a name that fails, or whose gateway is down
LOOKUP_INTERVAL = 60.0  # seconds between lookups of a name while pushes are sent
LOG_INTERVAL = 60.0  # seconds between two log lines with the same text
MAX_LOG_TEXTS = 20  # further texts share one line in each interval

Data = str | dict[str, str] | None
Object = dict[str, Any] | None
MoreFields = TypedDict("MoreFields", {  # noqa: UP013 - these lines are easier to survey
    "fid": str, "topic": str, "condition": str, "ttl": int | None, "priority": str | None,
    "delay_while_idle": bool | None, "notification": Object, "android": Object, "id": str,
    "android_v2": Object, "apns": Object, "webpush": Object, "fcm_options": Object, "route": str,
    "validate_only": bool | None, "urgent": bool | None, "subscribe": str, "unsubscribe": str,
}, total=False)  # fmt: skip
_log = logging.getLogger(__name__)
_to_json = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode
_TARGETS = ("token", "fid", "topic", "condition")
_NEVER_EMPTY = (*_TARGETS, "route", "id", "subscribe", "unsubscribe")
OBJECTS = ("notification", "android", "android_v2", "apns", "webpush", "fcm_options")
FLAGS = ("delay_while_idle", "validate_only", "urgent")
_NOT_IN_TOKENS = {"Cc", "Cf", "Zs", "Zl", "Zp", "Pi", "Pf", "Ps", "Pe"}  # Unicode's categories
_COLON_FORM = {  # what the fields hold where every route reads the same push from node2dm's form
    "route": re.compile(r"([^{:|\n][^:|\n]*)?"),
    "token": re.compile(r"[^{:|\n][^:|\n]*"),
    "collapse_key": re.compile(r"([^{:\n][^:\n]*)?"),
    "data": re.compile(r"([^:\n]*|\{[^\n]*)(?<![\r\0])"),
}


def _is_shallow(value: object, levels: int = MAX_NESTING) -> bool:
    if not isinstance(value, dict | list | tuple):
        return True
    inner = value.values() if isinstance(value, dict) else value
    return levels > 0 and all(_is_shallow(each, levels - 1) for each in inner)


def _find_token_fault(text: str) -> str:
    """Say why the gateway does not read this as a token or fid; empty where it does."""
    if (size := len(text.encode("utf-8", "replace"))) > MAX_TOKEN_BYTES:
        return f"{size} bytes"
    for found in re.finditer(r"[^A-Za-z0-9_:-]", text):
        if found[0] in "\"'`<>" or category(found[0]) in _NOT_IN_TOKENS:
            return f"{found[0]!a} at index {found.start()}"
    return ""


_RULES: tuple[tuple[tuple[str, ...], Callable[[Any], object], str], ...] = (  # fields, check
    ((*_NEVER_EMPTY, "collapse_key"), lambda text: isinstance(text, str), "a text"),
    (("token", "fid"), lambda text: not _find_token_fault(text), "no white space, quotes, brackets "
     f"or invisible characters, and at most {MAX_TOKEN_BYTES} bytes"),
    (("id",), re.compile("[A-Za-z0-9_.:-]{0,64}").fullmatch, "1 to 64 of A-Z a-z 0-9 . _ : -"),
    (("data",), lambda v: isinstance(v, str | dict | None), "a text, or an object of texts"),
    (("ttl",), lambda ttl: ttl is None or (type(ttl) is int and 0 <= ttl <= MAX_TTL_SECONDS),
     f"a whole number of seconds, 0 to {MAX_TTL_SECONDS}"),
    (("priority",), lambda priority: priority in (None, "normal", "high"), "normal or high"),
    (FLAGS, lambda v: isinstance(v, bool | None), "true or false"),
    (OBJECTS, lambda v: isinstance(v, dict | None) and _is_shallow(v),
     f"an object, nested at most {MAX_NESTING} deep"),
)  # fmt: skip


def _require(good: object, name: str, value: object, expected: str) -> None:
    if good:
        return
    shown = type(value).__name__
    with contextlib.suppress(ValueError):  # an integer with more digits than Python writes out
        shown = reprlib.repr(value)
    if value and name in ("token", "fid") and isinstance(value, str | bytes):
        shown = f"{value[:8]!a}{'...' if len(value) > 8 else ''}"  # the whole would name a device
        shown += f" ({_find_token_fault(value)})" if isinstance(value, str) else ""
    raise ValueError(f"{name} = {shown}: expected {expected}")


@dataclass(frozen=True, slots=True)
class Push:
    """One push, checked when made: a ValueError names the field at fault and what is expected."""

    token: str = ""  # the device's registration ID; exactly one of the four targets is set
    data: Data = None  # a text, or names and texts; None: only a ping
    collapse_key: str = ""  # of several with one key an offline phone gets the last; C2DM wants one
    fid: str = ""  # a Firebase installation ID
    topic: str = ""  # an FCM topic: every phone that subscribed to it
    condition: str = ""  # an FCM expression over topics
    ttl: int | None = None  # seconds the push is worth delivering; None: the gateway's own limit
    priority: str | None = None  # normal or high, in any case; None: the service's default
    delay_while_idle: bool | None = None  # C2DM waits until the phone is in use
    notification: Object = None  # what FCM shows by itself: title, body, image
    android: Object = None  # this and the next four: as in the Message of FCM's HTTP v1 API
    android_v2: Object = None
    apns: Object = None
    webpush: Object = None
    fcm_options: Object = None
    validate_only: bool | None = None  # FCM checks the message and sends nothing
    urgent: bool | None = None  # the gateway sends it before those that are not
    route: str = ""  # the gateway's route or its prefix; empty: the client's, or the first
    id: str = ""  # the application's own, which the gateway repeats where it tells the outcome
    subscribe: str = ""  # an FCM topic: token or fid is subscribed to it, and no message is sent
    unsubscribe: str = ""  # an FCM topic: the subscription ends

    def __post_init__(self) -> None:
        if isinstance(self.ttl, float) and self.ttl.is_integer():
            object.__setattr__(self, "ttl", int(self.ttl))
        if isinstance(self.priority, str):
            object.__setattr__(self, "priority", self.priority.lower())
        for names, is_good, expected in _RULES:
            for name in names:
                _require(is_good(value := getattr(self, name)), name, value, expected)
        given = [name for name in _TARGETS if getattr(self, name)]
        _require(len(given) == 1, "target", given, f"exactly one of {', '.join(_TARGETS)}")
        for name, value in self.data.items() if isinstance(self.data, dict) else ():
            _require(name and isinstance(name, str), "data", self.data, "names that are texts")
            _require(isinstance(value, str), f"data.{name:.48}", value, "a text")
        for name, value in (self.notification or {}).items():
            _require(isinstance(value, str | None), f"notification.{name!s:.48}", value, "a text")

    @classmethod
    def from_fields(cls, fields: Mapping[str, Any]) -> Self:
        """Make a push of an object in the JSON form, in which null means that a field is absent."""
        given = {name: value for name, value in fields.items() if value is not None}
        known = tuple(cls.__dataclass_fields__)
        for name, value in given.items():
            if name not in known:
                near = get_close_matches(name, known, 1) or [f"one of {', '.join(known)}"]
                raise ValueError(f"unknown field {name[:48]!r}: expected {near[0]}")
            _require(value != "" or name not in _NEVER_EMPTY, name, "", "a text that is not empty")
        return cls(**given)

    def line(self, default_route: str = "", *, is_json: bool = False) -> bytes:
        """Return its line; raise ValueError where UTF-8, JSON or a datagram cannot carry it."""
        fields = {name: getattr(self, name) for name in self.__dataclass_fields__}
        fields["route"] = self.route or default_route
        given = {k: v for k, v in fields.items() if v is not None and (v != "" or k == "data")}
        is_simple = not is_json and isinstance(self.data, str) and given.keys() <= {*_COLON_FORM}
        try:
            if is_simple and all(form.fullmatch(fields[k]) for k, form in _COLON_FORM.items()):
                prefix = f"{fields['route']}|" if fields["route"] else ""
                line = f"{prefix}{self.token}:{self.collapse_key}:{self.data}".encode()
            else:
                line = _to_json(given).encode()
        except UnicodeEncodeError:
            half = next(k for k, v in given.items() if re.search("[\ud800-\udfff]", _to_json(v)))
            raise ValueError(f"not valid UTF-8: {half}") from None
        except (TypeError, ValueError, RecursionError):
            raise ValueError(f"not JSON: {', '.join(k for k in OBJECTS if k in given)}") from None
        if len(line) > MAX_DATAGRAM:
            raise ValueError(f"the push has {len(line)} bytes: expected at most {MAX_DATAGRAM}")
        return line


def pack(lines: Iterable[bytes], size: int = SAFE_DATAGRAM) -> Iterator[list[bytes]]:
    """Divide lines into datagrams of at most `size` bytes; a longer line gets one of its own."""
    gathered, length = list[bytes](), 0
    for line in lines:
        if gathered and length + len(line) > size:
            yield gathered
            gathered, length = [], 0
        gathered.append(line)
        length += len(line) + 1
    if gathered:
        yield gathered


class Counters(NamedTuple):
    sent: int  # handed to the kernel; those that were refused afterwards are among them
    failed: int  # faulty, or not taken by the kernel
    refused: int  # nobody listens there; of several that come back at once the kernel tells of one


def connect(host: str, port: int) -> socket.socket:
    """Return a UDP socket connected to the first reachable address, IPv4 before IPv6."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)
    except UnicodeError as reason:
        raise OSError(f"not a host name: {reason}") from None
    for family, kind, protocol, _, address in sorted(found, key=lambda e: e[0] != socket.AF_INET):
        opened = socket.socket(family, kind, protocol)
        opened.settimeout(SEND_TIMEOUT)
        if (fault := opened.connect_ex(address)) == 0:
            return opened
        opened.close()
    raise OSError(fault, os.strerror(fault))


def open_web(url: str, timeout: float, **tls: Any) -> tuple[http.client.HTTPConnection, str, str]:
    """Return a connection, which opens at its first request, and the path and query of `url`."""
    kinds = {"http": http.client.HTTPConnection, "https": http.client.HTTPSConnection}
    is_web = False
    with contextlib.suppress(AttributeError, ValueError):  # no text; no number, no IPv6 in brackets
        parts = urlsplit(url)
        is_web = parts.scheme in kinds and bool(parts.hostname) and parts.port != 0
    _require(is_web and url.isprintable() and " " not in url, "url", url, "http://HOST:PORT")
    connection = kinds[parts.scheme](str(parts.hostname), parts.port, timeout=timeout, **tls)
    return connection, parts.path, parts.query


@dataclass(eq=False, repr=False)
class PushClient(contextlib.AbstractContextManager["PushClient"]):
    """Sends pushes to one gateway. Threads may share it.

    UDP does not tell whether a datagram arrived. What shows, such as a faulty push or a host where
    nobody listens, is counted and logged, each text once a minute, and raised only with `strict`.
    """

    host: str = HOST  # of a name the first address that can be reached, IPv4 before IPv6
    port: int = PORT
    _: KW_ONLY
    route: str = ""  # of pushes that name none
    strict: bool = False  # raise ValueError for a faulty push, OSError for one that is not sent
    max_datagram: int = SAFE_DATAGRAM  # bytes that pushes share; a longer push still goes, alone
    key: str | bytes = b""  # the gateway's datagram_key; empty: datagrams are not signed
    clock: Callable[[], float] = time.monotonic
    connect: Callable[[str, int], socket.socket] = connect

    def __post_init__(self) -> None:
        _require(isinstance(self.host, str), "host", self.host, "a text")
        _require(isinstance(self.route, str), "route", self.route, "a text")
        for name, most in ("port", 65535), ("max_datagram", MAX_DATAGRAM):
            is_good = type(value := getattr(self, name)) is int and 0 < value <= most
            _require(is_good, name, value, f"a whole number between 1 and {most}")
        self._key = self.key.encode() if isinstance(self.key, str) else self.key
        _require(not 0 < len(self._key) < 16, "key", "***", "at least 16 bytes")
        self._second, self._signed = b"", Counter[int]()
        self._closed, self._lock, self._lookup = False, threading.RLock(), threading.Thread()
        self._socket: socket.socket | None = None
        self._lookup_at = self._refusal_lookup_at = self.clock()
        self._last_error = OSError("the name of the gateway is being looked up")
        self._throttled: dict[str, tuple[float, int]] = {}
        self._latest = self._sent = self._failed = self._refused = 0
        self._look_up()
        if self._socket is None:
            self._report(0, self._last_error)

    @property
    def counters(self) -> Counters:
        return Counters(self._sent, self._failed, self._refused)

    def push(
        self, token: str = "", data: Data = None, collapse_key: str = "", **more: Unpack[MoreFields]
    ) -> bool:
        """Send one push at once, in a datagram of its own; return whether the kernel took it."""
        try:
            push = Push(token, data, collapse_key, **more)
        except ValueError as fault:
            return self._report(1, fault)
        return self.push_many([push]) == 1

    def push_many(self, pushes: Iterable[Push]) -> int:
        """Send pushes, several in a datagram; return how many the kernel took."""
        lines = filter(None, map(self._line, pushes))
        size = self.max_datagram - (SIGNATURE_BYTES if self._key else 0)
        return sum(len(each) for each in pack(lines, size) if self.send(each))

    def send(self, lines: Sequence[bytes]) -> bool:
        """Send one datagram of ready lines; return whether the kernel took it."""
        if refusal := self._find_refusal():
            self._report(len(lines) if self.strict else 0, refusal)
        self._look_up()
        with self._lock:
            if self._socket is not None:
                try:
                    datagram = b"\n".join(lines)
                    self._socket.send(self._sign(datagram) if self._key else datagram)
                    self._sent, self._latest = self._sent + len(lines), len(lines)
                    return True
                except OSError as fault:
                    self._disconnect(fault)
        return self._report(len(lines), self._last_error.with_traceback(None))

    def check(self, wait: float = 0.0) -> bool:
        """Wait at most `wait` seconds for the latest datagram to come back; return False if so."""
        with selectors.DefaultSelector() as selector, contextlib.suppress(ValueError):
            selector.register(self._socket or -1, selectors.EVENT_READ)  # ValueError: it is closed
            selector.select(wait)
        return self._socket is not None and self._find_refusal() is None

    @staticmethod
    def ready(url: str = "http://127.0.0.1:8122", timeout: float = 2.0) -> bool:
        """Ask /readyz, or the path of `url`, whether pushes go out; OSError: it is no gateway."""
        connection, path, query = open_web(url, timeout)
        path = path if path.strip("/") else "/readyz"
        try:
            connection.request("GET", f"{path}?{query}" if query else path)
            body = (answer := connection.getresponse()).read(MAX_ANSWER_BYTES)
        except (OSError, UnicodeError, http.client.HTTPException) as fault:
            is_other = isinstance(fault, http.client.HTTPException)
            why = "not HTTP" if is_other else getattr(fault, "strerror", None) or fault
            raise OSError(f"{url}: {why}: expected the address of the gateway's `web`") from None
        finally:
            connection.close()
        with contextlib.suppress(ValueError, TypeError, KeyError, RecursionError):
            ready = json.loads(body)["ready"]
            if answer.status in (200, 503) and isinstance(ready, bool):
                return ready
        text = body.decode("utf-8", "replace").strip()[:300] or answer.reason
        raise OSError(f"{url}: {answer.status} {text}: expected the gateway's /readyz")

    def close(self) -> None:
        """Close the socket; pushes from now on fail. Closing twice is allowed."""
        with self._lock:
            self._closed = True
            self._disconnect(OSError("the client is closed"))

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _line(self, push: Push) -> bytes | None:
        try:
            _require(isinstance(push, Push), "the type of a push", type(push).__name__, "Push")
            return push.line(self.route)
        except ValueError as fault:
            self._report(1, fault)
            return None

    def _sign(self, datagram: bytes) -> bytes:
        """Put the line of its signature before a datagram."""
        seconds, number = b"%d" % time.time(), hash(datagram)
        if seconds != self._second:
            self._second, self._signed = seconds, Counter()
        # An equal datagram of the same second would be a replay: empty lines make it another one.
        datagram += b"\n" * self._signed[number]
        self._signed[number] += 1
        signature = hmac.digest(self._key, b"%b\n%b" % (seconds, datagram), "sha256").hex()
        return b"#v1 %b %b\n%b" % (seconds, signature.encode(), datagram)

    def _look_up(self) -> None:
        """Look the name up if it is time; others do not wait for the push that does."""
        with self._lock:
            if self._closed or self._lookup.is_alive() or self.clock() < self._lookup_at:
                return
            self._lookup_at = self.clock() + LOOKUP_INTERVAL
            lookup = self._lookup = threading.Thread(target=self._reconnect, daemon=True)
        if self._socket is None:
            self._reconnect()
            return
        with contextlib.suppress(RuntimeError):  # no new threads while the interpreter exits
            lookup.start()
            lookup.join(SEND_TIMEOUT)  # then the push goes to the address that is known

    def _reconnect(self) -> None:
        """Connect to what the name stands for now, if that is another address than before."""
        try:
            opened = self.connect(self.host, self.port)
        except OSError as fault:
            if self._socket is None and not self._closed:
                self._last_error, self._lookup_at = fault, self.clock() + REOPEN_AFTER
            return
        with self._lock:
            unused = self._socket
            if self._closed or (unused and unused.getpeername() == opened.getpeername()):
                unused = opened
            else:
                self._find_refusal()
                self._socket = opened
            if unused:
                unused.close()

    def _disconnect(self, fault: OSError) -> None:
        """Close the socket; pushes fail with this fault until another one is open."""
        if self._socket is not None:
            self._socket.close()
        self._socket, self._last_error, self._lookup_at = None, fault, self.clock()

    def _find_refusal(self) -> OSError | None:
        """Return the news that the latest datagram came back, once."""
        with self._lock:
            where = socket.SOL_SOCKET, socket.SO_ERROR
            if self._socket is None or (code := self._socket.getsockopt(*where)) == 0:
                return None
            self._refused, self._latest = self._refused + self._latest, 0
            if (now := self.clock()) >= self._refusal_lookup_at:
                self._lookup_at, self._refusal_lookup_at = now, now + REOPEN_AFTER
        return OSError(code, f"the datagram before came back: {os.strerror(code)}")

    def _report(self, pushes: int, fault: Exception) -> bool:
        """Count `pushes` as failed; raise the fault if `strict`, else log it in its turn."""
        now, text = self.clock(), str(fault)
        with self._lock:
            self._failed += pushes
            if text not in self._throttled and len(self._throttled) >= MAX_LOG_TEXTS:
                self._throttled = {k: v for k, v in self._throttled.items() if now < v[0]}
                text = "" if len(self._throttled) >= MAX_LOG_TEXTS else text
            log_at, unlogged = self._throttled.get(text, (now, 0))
            is_due = now >= log_at
            self._throttled[text] = (now + LOG_INTERVAL, 0) if is_due else (log_at, unlogged + 1)
        if self.strict:
            raise fault
        if is_due:
            text = "pushing to %s port %d failed (%d times since the last line like this): %s; %s"
            _log.warning(text, self.host, self.port, unlogged + 1, fault, self.counters)
        return False
