"""libcurl's easy handles, and the state of each server."""

from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any

import pycurl  # type: ignore[import-untyped]

from node2dm_tw.http.content import decode
from node2dm_tw.http.head import parse_head, parse_status
from node2dm_tw.http.interface import MAX_RESPONSE, Headers, NoAnswer, Response

_KEPT_PINS = 16
_MATCHES_NOTHING = "sha256//" + "A" * 43 + "="
BLANK_LINES = (b"\r\n", b"\n")
_response = partial(tuple.__new__, Response)  # Calling the class costs half as much again.
_SUPPRESSED_HEADERS = (b"Accept", b"Content-Type")
"""Headers that libcurl adds by itself. It adds Expect only to bodies above 1 MiB."""


def header_lines(headers: Headers) -> list[bytes]:
    """Format headers for libcurl, and suppress those that it adds by itself.

    Raises:
        ValueError: a name or value contains a line end.
    """
    given = {name.lower() for name, _ in headers}
    lines = [name + (b": " + value if value else b";") for name, value in headers]
    if any(end in line for line in lines for end in (b"\r", b"\n", b"\0")):
        raise ValueError("a header contains a line end")
    lines += [name + b":" for name in _SUPPRESSED_HEADERS if name.lower() not in given]
    return [*lines, b"Accept-Encoding: identity"]  # The option costs twice as much.


class Target:
    """The state of one server, which all URLs with its scheme, name and port share.

    libcurl accepts the common name of a certificate without subjectAltName. So the keys of
    the servers are pinned: a connection with an unknown key fails before anything is sent, then its
    certificate is checked, and only after that requests may be sent to this key.

    Attributes:
        pins: libcurl's option, or None without TLS.
        keys: the pins of the known keys.
        known: whether requests may be sent: a key is pinned, or there is no TLS.
        pipewait: whether requests wait for a connection that is being opened, to share it.
        options: another object after each change of an option.
        pilot: the first request, which pins the first key and detects HTTP/2.
        waiting: requests that wait for the pilot.
    """

    __slots__ = ("keys", "known", "options", "pilot", "pins", "pipewait", "waiting")

    def __init__(self, *, is_secure: bool) -> None:
        self.pins = _MATCHES_NOTHING if is_secure else None
        self.known = not is_secure
        self.pipewait = False
        self.options = object()
        self.pilot: Transfer | None = None
        self.waiting: deque[Transfer] = deque()
        self.keys: deque[str] = deque(maxlen=_KEPT_PINS)

    def pin(self, pin: str) -> None:
        """Allow requests to a server with this key."""
        if pin not in self.keys:
            self.keys.append(pin)
            self.pins = ";".join(self.keys)
            self.options = object()

    def set_shared(self, shared: bool) -> None:
        """Store whether a new connection can be shared; otherwise no request waits for it."""
        if shared != self.pipewait:
            self.pipewait = shared
            self.options = object()


class Transfer:
    """An easy handle, reused for many requests, with its buffers and the last options.

    Attributes:
        curl: the handle. Looking up an attribute of it costs as much as sending, so its methods
            are stored as `setopt` and `getinfo`.
        cancel: ends the request early.
        connected: whether a socket was opened for it.
        context: returned with the outcome of the request.
        target: its target; `options` are the options of the target that were set, or None if the
            next request must set them again.
        url: the URL that was set.
        method: the method that was set.
        headers: the tuple whose lines were set.
        deadline: time of the reactor's clock at which a request that is tried again must end.
        tries: how often it found an unknown key.
        head_size: estimated bytes of the request's header, without the few that HTTP adds.
        expected_size: estimated bytes of the request. libcurl counts all bytes that it sent, so if
            it repeated the request, it counts at least twice as many.
    """

    __slots__ = (
        "_on_socket_opened",
        "cancel",
        "chunks",
        "connected",
        "context",
        "curl",
        "deadline",
        "expected_size",
        "getinfo",
        "head_size",
        "headers",
        "lines",
        "method",
        "options",
        "setopt",
        "size",
        "target",
        "tries",
        "url",
    )

    def __init__(
        self, cancel: Callable[["Transfer"], None], on_socket_opened: Callable[[int], None]
    ) -> None:
        self.cancel: Callable[[], None] = partial(cancel, self)
        self.curl = pycurl.Curl()
        self.setopt: Callable[[int, object], None] = self.curl.setopt
        self.getinfo: Callable[[int], Any] = self.curl.getinfo
        self.chunks: list[bytes] = []
        self.lines: list[bytes] = []
        self._on_socket_opened = on_socket_opened
        self.connected = False
        self.head_size = self.expected_size = self.size = self.tries = 0
        self.context: object = None
        self.options: object = None
        self.target: Target | None = None
        self.url = self.method = ""
        self.headers: Headers | None = None
        self.deadline: float | None = None
        self.setopt(pycurl.USERAGENT, "")  # otherwise pycurl sends its own
        self.setopt(pycurl.HEADERFUNCTION, self.lines.append)
        self.setopt(pycurl.WRITEFUNCTION, self._write_body)
        self.setopt(pycurl.SOCKOPTFUNCTION, self._connect)

    def configure(self, target: Target, url: str, method: str, timeout: float) -> None:
        """Set what the request does not share with the previous one of this handle.

        Args:
            method: POST or DELETE; the request has a body in either case.
            timeout: the seconds that are left.
        """
        self.setopt(pycurl.URL, url)
        self.setopt(pycurl.CUSTOMREQUEST, method)
        self.setopt(pycurl.PIPEWAIT, int(target.pipewait))
        self.setopt(pycurl.TIMEOUT_MS, max(1, int(timeout * 1000)))
        if target.pins is not None:
            self.setopt(pycurl.PINNEDPUBLICKEY, target.pins)
        self.target = target
        self.url, self.method = url, method
        self.headers = None  # `head_size` depends on the URL.
        # Only a POST can be followed by another request without being configured again.
        self.options = target.options if method == "POST" else None

    def reset(self) -> None:
        """Clear the state of a request."""
        self.chunks.clear()
        self.lines.clear()
        self.size = 0
        self.connected = False
        self.context = None
        if self.tries:
            self.tries = 0
            self.deadline = self.options = None

    def final_lines(self) -> list[bytes]:
        """Return the header lines of the last answer, without those of interim answers."""
        lines = self.lines
        for index in range(len(lines) - 1, -1, -1):
            is_first = index == 0 or lines[index - 1] in BLANK_LINES
            if is_first and parse_status(lines[index]) is not None:
                return lines[index:]
        return []

    def make_response(self, *, cut: bool = False) -> Response | NoAnswer:
        """Make the outcome from the received data; `cut`: a part is missing."""
        head = b"".join(self.lines)
        chunks = self.chunks
        body = chunks[0] if len(chunks) == 1 else b"".join(chunks)
        if cut or len(head) > MAX_RESPONSE:
            cut = True
            head = b"".join(self.final_lines())
            head = head[: head.rfind(b"\n", 0, MAX_RESPONSE) + 1]
            body = body[:MAX_RESPONSE]
        status, headers = parse_head(head)
        if status < 200:
            return NoAnswer("only an interim answer came")
        if b"content-encoding" in headers:
            body, is_whole = decode(headers[b"content-encoding"], body)
            cut = cut or not is_whole
        return _response((status, headers, body, cut))

    def _write_body(self, data: bytes) -> int | None:
        """Store a part of the body; return 0 to end the transfer above the limit."""
        self.chunks.append(data)
        self.size += len(data)
        return 0 if self.size > MAX_RESPONSE else None

    def _connect(self, descriptor: int, purpose: int) -> int:
        """Handle a new socket of this request, before it is connected or watched."""
        self.connected = True
        self._on_socket_opened(descriptor)
        return 0  # pycurl.SOCKOPT_OK

    def set_headers(self, headers: Headers, lines: list[bytes]) -> None:
        """Set `headers`, whose lines are `lines`; the URL must be set before."""
        self.setopt(pycurl.HTTPHEADER, lines)
        self.headers = headers
        fields = sum(len(name) + len(value) for name, value in headers)
        self.head_size = 60 + len(self.url) + fields
