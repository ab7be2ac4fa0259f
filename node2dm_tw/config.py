"""The gateway's configuration file: every section, its options, and the rules between them."""

import base64
import re
from collections.abc import Callable, Mapping
from configparser import RawConfigParser
from pathlib import Path
from typing import Any, TypeVar

import attrs
from twisted.internet.endpoints import serverFromString

from node2dm_tw.ini import (
    NOT_BUILT_YET,
    Faults,
    IPNetwork,
    addresses,
    choice,
    existing_file,
    networks,
    number,
    option,
    path,
    read,
    seconds,
    section,
    text,
    url,
)
from node2dm_tw.logs import LEVELS

DAY = 86_400

Reloaded = TypeVar("Reloaded", bound=attrs.AttrsInstance)


def _endpoint(value: str, folder: Path) -> str:
    try:
        serverFromString(object(), value)
    except (ValueError, TypeError, OSError, KeyError, IndexError) as error:
        raise ValueError(
            f"a Twisted endpoint such as tcp:8121:interface=127.0.0.1 ({error})"
        ) from error
    return value


def _host(value: str, folder: Path) -> str:
    if not re.fullmatch(r"[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\]", value):
        raise ValueError("a host name or an IP address")
    return value


def _url_path(value: str, folder: Path) -> str:
    if not re.fullmatch(r"/[!-~]*", value):
        raise ValueError("a path that begins with /")
    return value


def _signing_secret(value: str, folder: Path) -> bytes:
    try:
        key = base64.b64decode(value.removeprefix("whsec_"), validate=True)
    except ValueError:
        key = b""
    if not value.startswith("whsec_") or not 24 <= len(key) <= 64:
        raise ValueError("whsec_ and 24 to 64 bytes in base64")
    return key


@attrs.frozen
class Gateway:
    """The section [node2dm]: what holds for the whole process."""

    udp: tuple[tuple[str, int], ...] = option(
        addresses, "127.0.0.1:8120", "where pushes come in: one or more addresses, between commas"
    )
    stats: str = option(
        _endpoint, "tcp:8121:interface=127.0.0.1", "where telnet is answered: a Twisted endpoint"
    )
    allow: tuple[IPNetwork, ...] = option(
        networks,
        "127.0.0.0/8, ::1/128",
        "sources that may push; a filter, not authentication",
        reloads=True,
    )
    state_dir: Path = option(path, None, "the folder for what must outlive the process")
    max_queued: int = option(
        number(10, 100_000_000), "1000000", "pushes kept for each route", reloads=True
    )
    max_age: float = option(
        seconds(1, 28 * DAY), "86400", "seconds after which a push is dropped", reloads=True
    )
    drain: float = option(
        seconds(0, 3600), "10", "seconds to go on sending after SIGTERM", reloads=True
    )
    rcvbuf: int = option(number(4096, 1 << 30), "16777216", "bytes of the UDP receive buffer")
    http_client: str = option(choice("auto", "treq"), "auto", "what sends: auto or treq")
    queue: str = option(choice("memory"), "memory", "where pushes wait: memory")
    log_level: str = option(
        choice(*LEVELS), "info", "the least that is logged: " + ", ".join(LEVELS), reloads=True
    )


@attrs.frozen
class C2DMRoute:
    """A section [c2dm]: one sender account."""

    title: str
    username: str = option(text, None, "the sender's account, an e-mail address", reloads=True)
    password: str = option(text, None, "its password", secret=True, reloads=True)
    source: str = option(
        text, "node2dm_tw", "what the sign-in says of us: company-app-version", reloads=True
    )
    login_url: str = option(
        url, "https://www.google.com/accounts/ClientLogin", "where ClientLogin is answered"
    )
    send_url: str = option(
        url, "https://android.apis.google.com/c2dm/send", "where pushes are sent to"
    )
    ca_file: Path | None = option(
        existing_file, "", "certificates to trust in place of the platform's"
    )
    max_in_flight: int = option(
        number(1, 4096), "64", "requests in flight at the most", reloads=True
    )
    timeout: float = option(seconds(1, 600), "30", "seconds for one request")
    token_max_age: float = option(
        seconds(2, 365 * DAY), "1209600", "seconds after which the auth token is renewed"
    )

    device_block: float = option(
        seconds(1, 28 * DAY),
        "3600",
        "seconds for which a device over its quota is left alone",
        reloads=True,
    )

    @property
    def name(self) -> str:
        """The name of the route: NAME of [c2dm:NAME], or c2dm."""
        return self.title.rpartition(":")[2]


@attrs.frozen
class Callback:
    """The section [callback]: where bad registration IDs are reported to."""

    protocol: str = option(choice("https", "http"), "https", "https or http")
    host: str = option(_host, None, "the host of the application")
    port: int | None = option(number(1, 65_535), "", "its port; empty: that of the protocol")
    path: str = option(_url_path, "/", "the path of the webhook")
    shared_secret: str | None = option(text, "", "sent along as shared_secret", secret=True)
    signing_secret: bytes | None = option(
        _signing_secret, "", "signs as Standard Webhooks says: whsec_ and base64", secret=True
    )
    timeout: float = option(seconds(1, 600), "10", "seconds for one request")
    retries: int = option(number(0, 100), "5", "how often a report is sent again")

    @property
    def url(self) -> str:
        """The address of the webhook."""
        port = "" if self.port is None else f":{self.port}"
        return f"{self.protocol}://{self.host}{port}{self.path}"


@attrs.frozen
class Settings:
    """A whole configuration file."""

    file: Path
    gateway: Gateway
    routes: tuple[C2DMRoute, ...]
    callback: Callback | None
    warnings: tuple[str, ...]


NOT_BUILT = {
    "node2dm": (
        "web", "push_token", "push_token_file", "datagram_key", "datagram_key_file",
        "proxy", "claim_after", "reuse_port", "log_format",
    ),
    "c2dm": ("prefix", "device_rate", "device_burst"),
}  # fmt: skip
ROUTE = re.compile(r"c2dm(:[A-Za-z0-9_.-]+)?")
SECTIONS_NOT_BUILT = ("fcm", "statsd")

Embed = Callable[[Mapping[str, str], Path, Path], Mapping[str, str]]
"""
Takes the texts of the section [emulator], state_dir and the folder of the file; makes what the
emulator needs there, and gives the defaults of a route's options. Raises Faults, or OSError.
"""


_STAND_INS = {"username": "-", "password": "-"}
"""What a faulty [emulator] would have given; it must not show as a fault of the routes."""


def load(file: Path, working_directory: Path, embed: Embed) -> Settings:
    """Read the configuration file.

    Args:
        working_directory: the default of state_dir.
        embed: see `Embed`; called where the file has an [emulator].

    Raises:
        Faults: everything that is wrong in it.
    """
    parser = read(file)
    folder = file.absolute().parent
    faults: list[str] = []

    def take(kind: type[Any], title: str, /, **more: Any) -> Any:
        kept = NOT_BUILT.get(title.partition(":")[0], ())
        return section(kind, title, parser, folder, faults, not_built=kept, **more)

    gateway = take(Gateway, "node2dm", defaults={"state_dir": str(working_directory)})
    defaults: Mapping[str, str] = {}
    if parser.has_section("emulator"):
        state_dir = parser.get("node2dm", "state_dir", fallback="") or str(working_directory)
        try:
            defaults = embed(dict(parser.items("emulator")), path(state_dir, folder), folder)
        except Faults as error:
            faults += error.faults
            defaults = _STAND_INS
        except OSError as error:
            faults.append(f"[node2dm] state_dir: {_unusable(error)}")
            defaults = _STAND_INS
    names = [title for title in parser.sections() if ROUTE.fullmatch(title)]
    routes = [take(C2DMRoute, title, defaults=defaults, title=title) for title in names]
    callback = take(Callback, "callback") if parser.has_section("callback") else None
    faults += _unknown_sections(parser, names)
    if faults:
        raise Faults(faults)
    return Settings(file, gateway, tuple(routes), callback, tuple(_warnings(file, parser)))


def _unknown_sections(parser: RawConfigParser, routes: list[str]) -> list[str]:
    faults = [
        f"[{title}]: {NOT_BUILT_YET}"
        if title.partition(":")[0] in SECTIONS_NOT_BUILT
        else f"[{title}]: there is no such section"
        for title in parser.sections()
        if title not in ("node2dm", "emulator", "callback", *routes)
    ]
    if not routes:
        faults.append("[c2dm]: wanted: a section for the account that sends")
    faults += [f"[{title}]: more than one route {NOT_BUILT_YET}" for title in routes[1:]]
    return faults


def _unusable(error: OSError) -> str:
    return f"wanted: a folder that can be written ({error.strerror}: {error.filename})"


def _warnings(file: Path, parser: RawConfigParser) -> list[str]:
    """Say where others can read a secret: in this file, or in one that it names."""
    secrets = {"accounts"} | {
        field.name
        for kind in (C2DMRoute, Callback)
        for field in attrs.fields(kind)
        if field.metadata.get("secret")
    }
    holders = {
        file if name in secrets else file.absolute().parent / value
        for section_name in parser.sections()
        for name, value in parser.items(section_name)
        if name.removesuffix("_file") in secrets
    }
    return [
        f"{holder} holds a secret and others can read it; chmod o-r would stop that"
        for holder in sorted(holders)
        if holder.stat().st_mode & 0o004
    ]


def reload(old: Settings, new: Settings) -> tuple[Settings, list[str], list[str]]:
    """Take from a new reading of the file what may change while running.

    Returns:
        the settings that hold from now on, and the options that differ, as ``[section] option``:
        those that take effect, and those that wait for a restart.
    """
    reloaded: list[str] = []
    waiting: list[str] = []
    gateway = _reload_section("node2dm", old.gateway, new.gateway, reloaded, waiting)
    coming = {route.title: route for route in new.routes}
    routes = [
        _reload_section(route.title, route, coming.get(route.title), reloaded, waiting)
        for route in old.routes
    ]
    waiting += [f"[{title}]" for title in coming.keys() - {route.title for route in old.routes}]
    if old.callback != new.callback:
        waiting.append("[callback]")
    return attrs.evolve(old, gateway=gateway, routes=tuple(routes)), reloaded, waiting


def _reload_section(
    title: str, old: Reloaded, new: Reloaded | None, reloaded: list[str], waiting: list[str]
) -> Reloaded:
    if new is None:
        waiting.append(f"[{title}]")
        return old
    taken: dict[str, Any] = {}
    for field in attrs.fields(type(old)):
        value = getattr(new, field.name)
        if value != getattr(old, field.name):
            reloads = field.metadata["reloads"]
            (reloaded if reloads else waiting).append(f"[{title}] {field.name}")
            if reloads:
                taken[field.name] = value
    return attrs.evolve(old, **taken)  # type: ignore[misc]  # mypy knows no bound on classes
