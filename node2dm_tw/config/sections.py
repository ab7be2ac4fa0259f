"""The sections of the gateway's configuration file and their options, except those of routes."""

import base64
import importlib.util
import re
from difflib import get_close_matches
from pathlib import Path

import attrs
from twisted.internet.endpoints import serverFromString

from node2dm_tw.config.converters import (
    IPNetwork,
    addresses,
    choice,
    full_match,
    host,
    networks,
    number,
    path,
    percent,
    plain_word,
    proxy_url,
    seconds,
    text,
    words,
    yes_or_no,
)
from node2dm_tw.config.ini import NOT_IMPLEMENTED, option
from node2dm_tw.core.logs import FORMATS, LEVELS, parse_levels

DAY = 86_400

MIN_KEY_BYTES = 16
"""Minimum length of `datagram_key`; a shorter key could be guessed."""

HAS_CURL = importlib.util.find_spec("pycurl") is not None
"""Whether the extra `curl` is installed."""


def _endpoint(value: str, folder: Path) -> str:
    try:
        serverFromString(object(), value)
    except Exception as error:  # Each kind of endpoint, plugins included, raises its own.
        raise ValueError(
            f"a Twisted endpoint such as tcp:8121:interface=127.0.0.1 ({error})"
        ) from error
    return value


def _log_levels(value: str, folder: Path) -> str:
    """Check a level, and those of the parts that differ."""
    parse_levels(value)
    return value


_bearer = full_match(r"[!-~]{1,1024}", "1 to 1024 visible ASCII characters, without blanks")

_url_path = full_match(r"/[!-~]*", "a path that begins with /")


def _host_names(value: str, folder: Path) -> tuple[str, ...]:
    """Convert host names to lower case."""
    names = tuple(name.lower().removesuffix(".") for name in words(value, folder))
    if not all(re.fullmatch(r"[a-z0-9_-]+(\.[a-z0-9_-]+)*", name) for name in names):
        raise ValueError("names such as push.example.com, without a port, separated by commas")
    return names


def _http_client(value: str, folder: Path) -> str:
    if choice("auto", "treq", "curl")(value, folder) == "curl" and not HAS_CURL:
        raise ValueError("pycurl, which curl needs: pip install pycurl")
    return value


def _udp(value: str, folder: Path) -> tuple[tuple[str, int], ...]:
    """Convert one or more addresses; systemd's sockets are not implemented."""
    if "systemd:" in value:
        raise ValueError(f"addresses such as 127.0.0.1:8120; systemd:NAME {NOT_IMPLEMENTED}")
    return addresses(value, folder)


def _queue(value: str, folder: Path) -> str:
    """Check the kind of queue."""
    kind = value.partition(":")[0]
    if kind in ("redis", "rediss", "unix"):  # the rest may hold a password
        raise ValueError(f"memory or sqlite; {kind} {NOT_IMPLEMENTED}")
    if value not in ("memory", "sqlite"):
        raise ValueError("memory or sqlite")
    return value


def _signing_secret(value: str, folder: Path) -> bytes:
    try:
        key = base64.b64decode(value.removeprefix("whsec_"), validate=True)
    except ValueError:
        key = b""
    if not value.startswith("whsec_") or not 24 <= len(key) <= 64:
        raise ValueError("whsec_ and 24 to 64 bytes in base64")
    return key


def _datagram_key(value: str, folder: Path) -> bytes:
    key = value.encode()
    if len(key) < MIN_KEY_BYTES:
        raise ValueError(
            f"at least {MIN_KEY_BYTES} bytes, such as the output of: openssl rand -hex 32"
        )
    return key


@attrs.frozen
class GatewaySection:
    """The section [node2dm]: the options of the whole process."""

    udp: tuple[tuple[str, int], ...] = option(
        _udp,
        "127.0.0.1:8120",
        "addresses that receive pushes: one or more, separated by commas",
        shown=True,
    )
    stats: str = option(
        _endpoint,
        "tcp:8121:interface=127.0.0.1",
        "the telnet port: a Twisted endpoint",
        shown=True,
    )
    web: str | None = option(
        _endpoint,
        "",
        "the port of the status page, /stats, /metrics and /readyz: a Twisted endpoint such as"
        " tcp:8122:interface=127.0.0.1; empty: off",
        shown=True,
    )
    web_hosts: tuple[str, ...] | None = option(
        _host_names,
        "",
        "host names that requests to the web port may use, separated by commas; localhost and IP"
        " addresses are always accepted",
        shown=True,
        reloads=True,
        optional=True,
    )
    allow: tuple[IPNetwork, ...] = option(
        networks,
        "127.0.0.0/8, ::1/128",
        "networks that may send pushes by UDP; a filter, not authentication",
        shown=True,
        reloads=True,
    )
    datagram_key: bytes | None = option(
        _datagram_key,
        "",
        "the key of signed datagrams, at least 16 bytes; unsigned ones are then invalid",
        secret=True,
        reloads=True,
    )
    push_token: str | None = option(
        _bearer,
        "",
        "the bearer token of POST /v1/push, which needs web; empty: no pushes by HTTP",
        secret=True,
        reloads=True,
    )
    state_dir: Path = option(
        path, None, "the folder for state that must survive a restart", shown=True
    )
    max_queued: int = option(
        number(1, 100_000_000),
        "1000000",
        "pushes that each route can queue",
        shown=True,
        reloads=True,
    )
    max_queued_bytes: int = option(
        number(1_000_000, 1_000_000_000_000 - 1),
        "1000000000",
        "bytes of memory that all queued pushes may use with queue = memory: the line of each,"
        " and 350",
        shown=True,
        reloads=True,
    )
    max_age: float = option(
        seconds(1, 28 * DAY),
        "86400",
        "seconds after which a push is dropped",
        shown=True,
        reloads=True,
    )
    drain: float = option(
        seconds(0, 3600),
        "10",
        "seconds to continue sending after SIGTERM",
        shown=True,
        reloads=True,
    )
    rcvbuf: int = option(
        number(4096, 1 << 30), "16777216", "size of the UDP receive buffer in bytes", shown=True
    )
    reuse_port: bool = option(
        yes_or_no,
        "no",
        "share the UDP port with other processes, each with its own state_dir",
        shown=True,
    )
    http_client: str = option(
        _http_client,
        "auto",
        "the HTTP client: curl, treq, or auto, which is curl if the extra is installed",
        shown=True,
    )
    proxy: str | None = option(
        proxy_url,
        "",
        "the HTTP proxy for everything but callbacks, http://user:password@host:3128; needs curl",
        secret=True,
    )
    queue: str = option(
        _queue,
        "memory",
        "where pushes wait: memory, saved to a file at a stop; or sqlite, stored in"
        " state_dir/queue.sqlite before they count as received",
        shown=True,
    )
    outcomes: Path | None = option(
        path,
        "",
        "the file that gets a record of each push that ended, such as outcomes.jsonl; empty: off",
        shown=True,
    )
    outcomes_sample: float = option(
        percent, "100", "percent of the sent pushes that get a record; all others do", shown=True
    )
    outcomes_targets: str = option(
        choice("short", "full", "none"),
        "short",
        "the target in a record: short, which cannot be used, full, or none",
        shown=True,
    )
    log_level: str = option(
        _log_levels,
        "info",
        "the lowest level that is logged: "
        + ", ".join(LEVELS)
        + "; a part can have its own level: info, delivery=debug, http=error",
        shown=True,
        reloads=True,
    )
    log_format: str = option(
        choice(*FORMATS), "text", "the format of log lines: text or json", shown=True
    )

    @property
    def uses_curl(self) -> bool:
        """Whether pushes are sent by libcurl, else by treq."""
        return self.http_client == "curl" or (self.http_client == "auto" and HAS_CURL)


EVENTS = ("bad_device", "refused", "expired", "overflowed", "blocked")
"""The outcomes for which a callback can be sent."""


def _events(value: str, folder: Path) -> tuple[str, ...]:
    """Convert a list of `EVENTS`, or `all`."""
    found = words(value, folder)
    for word in found:
        if word not in (*EVENTS, "all"):
            near = get_close_matches(word[:100], (*EVENTS, "all"), 1)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise ValueError(f"one or more of {', '.join(EVENTS)}, all, separated by commas{hint}")
    if not found:
        raise ValueError(f"one or more of {', '.join(EVENTS)}, all, separated by commas")
    return found


@attrs.frozen(kw_only=True)
class CallbackSection:
    """A section [callback]: the webhook for pushes that ended badly.

    Args:
        title: name of the section.
    """

    title: str = "callback"
    protocol: str = option(choice("https", "http"), "https", "https or http", shown=True)
    host: str = option(host, None, "the host of the application", shown=True)
    port: int | None = option(
        number(1, 65_535), "", "its port; empty: the default port of the protocol", shown=True
    )
    path: str = option(_url_path, "/", "the path of the webhook")
    shared_secret: str | None = option(
        text,
        "",
        "sent in the field shared_secret, if format is form",
        secret=True,
        reloads=True,
    )
    signing_secret: bytes | None = option(
        _signing_secret,
        "",
        "the key of Standard Webhooks signatures: whsec_ and base64",
        secret=True,
        reloads=True,
    )
    format: str = option(
        choice("form", "json"),
        "form",
        "the format of the body: form, as in node2dm, or json",
        shown=True,
    )
    events: tuple[str, ...] = option(
        _events,
        "bad_device",
        f"outcomes that are posted: {', '.join(EVENTS)}, separated by commas, or all",
        shown=True,
        reloads=True,
    )
    timeout: float = option(seconds(1, 600), "10", "seconds for one request", shown=True)
    retries: int = option(
        number(0, 100),
        "5",
        "how often a callback is retried that is not answered with a 2xx or 410",
        shown=True,
    )

    @property
    def route(self) -> str | None:
        """ROUTE of [callback:ROUTE]; None: every route without a section of its own."""
        return self.title.partition(":")[2] or None

    @property
    def outcomes(self) -> frozenset[str]:
        """The outcomes that `events` names."""
        return frozenset(EVENTS if "all" in self.events else self.events)

    @property
    def url(self) -> str:
        """The address of the webhook."""
        port = "" if self.port is None else f":{self.port}"
        return f"{self.protocol}://{self.host}{port}{self.path}"


@attrs.frozen
class Statsd:
    """The section [statsd]: the destination of the stats."""

    host: str = option(host, None, "the host of the statsd", shown=True)
    port: int = option(number(1, 65_535), "8125", "its UDP port", shown=True)
    prefix: str = option(plain_word, "node2dm", "the prefix of every name", shown=True)
    interval: float = option(seconds(1, 3600), "10", "seconds between two reports", shown=True)
