"""The gateway's configuration file: its sections, and the rules between them."""

import re
from collections import Counter
from collections.abc import Callable, Mapping
from configparser import RawConfigParser
from pathlib import Path
from typing import Any, TypeVar

import attrs

from node2dm_tw.ini import Faults, existing_file, path, read, section
from node2dm_tw.sections import C2DMRoute, CallbackSection, FCMRoute, Gateway, Statsd

Reloaded = TypeVar("Reloaded", bound=attrs.AttrsInstance)


@attrs.frozen
class Settings:
    """A whole configuration file."""

    file: Path
    gateway: Gateway
    routes: tuple[C2DMRoute | FCMRoute, ...]
    callback: CallbackSection | None
    statsd: Statsd | None
    warnings: tuple[str, ...]


NOT_BUILT = {
    "node2dm": (
        "push_token", "push_token_file", "datagram_key", "datagram_key_file", "claim_after",
    ),
}  # fmt: skip
ROUTE = re.compile(r"(c2dm|fcm)(:[A-Za-z0-9_.-]+)?")
KINDS: dict[str, type[C2DMRoute | FCMRoute]] = {"c2dm": C2DMRoute, "fcm": FCMRoute}

Embed = Callable[[Mapping[str, str], Path, Path], Mapping[str, str]]
"""
Takes the texts of the section [emulator], state_dir and the folder of the file; makes what the
emulator needs there, and gives the defaults of a route's options. Raises Faults, or OSError.
"""


CheckKey = Callable[[Path], str | None]
"""
Reads a service-account key file; gives the project it names, which may be empty, or None where that
is of no account. Raises ValueError saying what is wanted.
"""

_STAND_INS = {"username": "-", "password": "-", "service_account": "/dev/null"}
"""What a faulty [emulator] would have given; it must not show as a fault of the routes."""


def load(file: Path, working_directory: Path, embed: Embed, check_key: CheckKey) -> Settings:
    """Read the configuration file.

    Args:
        working_directory: the default of state_dir.
        embed: see `Embed`; called where the file has an [emulator].
        check_key: see `CheckKey`; called for each [fcm].

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
        except (Faults, OSError) as error:
            faults += error.faults if isinstance(error, Faults) else [_unusable(error)]
            defaults, check_key = _STAND_INS, _believe
    titles = [title for title in parser.sections() if ROUTE.fullmatch(title)]
    routes = [
        take(KINDS[title.partition(":")[0]], title, defaults=defaults, title=title)
        for title in titles
    ]
    _fit(routes, parser)
    callback = take(CallbackSection, "callback") if parser.has_section("callback") else None
    statsd = take(Statsd, "statsd") if parser.has_section("statsd") else None
    if gateway is not None and gateway.proxy and not gateway.uses_curl:
        faults.append("[node2dm] proxy: wanted: the extra curl, and http_client = auto or curl")
    faults += _unknown_sections(parser, titles)
    faults += _route_faults([route for route in routes if route is not None])
    for title in titles:
        if title.startswith("fcm"):
            texts = {**defaults, **dict(parser.items(title))}
            faults += [f"[{title}] {fault}" for fault in _key_faults(texts, folder, check_key)]
    if faults:
        raise Faults(faults)
    return Settings(file, gateway, tuple(routes), callback, statsd, tuple(_warnings(file, parser)))


def _unknown_sections(parser: RawConfigParser, routes: list[str]) -> list[str]:
    faults = [
        f"[{title}]: there is no such section"
        for title in parser.sections()
        if title not in ("node2dm", "emulator", "callback", "statsd", *routes)
    ]
    if not routes:
        faults.append("[c2dm] or [fcm]: wanted: a section for the account that sends")
    return faults


def _fit(routes: list[C2DMRoute | FCMRoute | None], parser: RawConfigParser) -> None:
    """Let what the file leaves out give way to what it says."""
    known = [route for route in routes if route is not None]
    taken: set[str | None] = {route.name for route in known}
    taken |= {route.prefix for route in known if parser.has_option(route.title, "prefix")}
    for place, route in enumerate(routes):
        if route is None:
            continue
        changed: dict[str, Any] = {}
        if not parser.has_option(route.title, "prefix"):
            if route.prefix in taken:
                changed["prefix"] = None
            taken.add(route.prefix)
        if not parser.get(route.title, "device_burst", fallback="") and route.device_rate:
            lowest = min(count for count, _ in route.device_rate)
            if route.device_burst is None or route.device_burst > lowest:
                changed["device_burst"] = max(1, lowest // 4)
        routes[place] = attrs.evolve(route, **changed)


def _route_faults(routes: list[C2DMRoute | FCMRoute]) -> list[str]:
    """Check what the options of a route, and the names of all, must be to one another."""
    faults = []
    names = Counter(name for route in routes for name in {route.name, route.prefix} if name)
    for route in routes:
        for option, name in (("", route.name), ("prefix", route.prefix)):
            if name and names[name] > 1:
                faults.append(f"[{route.title}] {option}: wanted: a name of its own, not {name}")
        if route.name == "callbacks":
            faults.append(f"[{route.title}]: wanted: another name; callbacks.spool keeps callbacks")
        burst = route.device_burst or 0
        if any(count < burst for count, _ in route.device_rate or ()):
            faults.append(f"[{route.title}] device_burst: wanted: no more than each device_rate")
    return faults


def _key_faults(texts: Mapping[str, str], folder: Path, check_key: CheckKey) -> list[str]:
    """Check the key of an [fcm], by its texts: other faults of the section must not hide these."""
    try:
        key_file = existing_file(texts.get("service_account", ""), folder)
    except ValueError:
        return []  # told with the option itself
    try:
        project = check_key(key_file)
    except ValueError as error:
        return [f"service_account: wanted: {error}"]
    is_whole_address = texts.get("url", "").endswith("/messages:send")
    if project == "" and not texts.get("project") and not is_whole_address:
        return ["project: wanted: a project ID; the key names none"]
    return []


def _believe(key_file: Path) -> None:
    """Ask nothing of a stand-in."""


def _unusable(error: OSError) -> str:
    where = f"{error.strerror}: {error.filename}"
    return f"[node2dm] state_dir: wanted: a folder that can be written ({where})"


def _warnings(file: Path, parser: RawConfigParser) -> list[str]:
    """Say where others can read a secret: in this file, or in one that it names."""
    secrets = {"accounts"} | {
        field.name
        for kind in (*KINDS.values(), CallbackSection)
        for field in attrs.fields(kind)
        if field.metadata.get("secret")
    }
    files = {f"{name}_file" for name in secrets} | {"service_account"}
    holders = {
        file if name in secrets else file.absolute().parent / value
        for title in parser.sections()
        for name, value in parser.items(title)
        if value and name in secrets | files
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
    others: dict[str, Any] = {}
    for title in ("callback", "statsd"):
        before, after = getattr(old, title), getattr(new, title)
        if before is not None:
            others[title] = _reload_section(title, before, after, reloaded, waiting)
        elif after is not None:
            waiting.append(f"[{title}]")
    return attrs.evolve(old, gateway=gateway, routes=tuple(routes), **others), reloaded, waiting


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
