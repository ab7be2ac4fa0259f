"""The gateway's configuration file: its sections, and the rules between them."""

import re
from collections import Counter
from collections.abc import Callable, Mapping
from configparser import RawConfigParser
from pathlib import Path
from typing import Any, TypeVar

import attrs

from node2dm_tw.converters import path
from node2dm_tw.ini import ConfigErrors, describe_unknown, format_value, read, section
from node2dm_tw.sections import (
    C2DMRoute,
    CallbackSection,
    FCMRoute,
    GatewaySection,
    Statsd,
    key_file,
)

Reloaded = TypeVar("Reloaded", bound=attrs.AttrsInstance)


@attrs.frozen
class Settings:
    """A whole configuration file."""

    file: Path
    gateway: GatewaySection
    routes: tuple[C2DMRoute | FCMRoute, ...]
    callback: CallbackSection | None
    statsd: Statsd | None
    warnings: tuple[str, ...]


NOT_IMPLEMENTED = {
    "node2dm": (
        "push_token", "push_token_file", "datagram_key", "datagram_key_file", "claim_after",
    ),
}  # fmt: skip
ROUTE = re.compile(r"(c2dm|fcm)(:[A-Za-z0-9_.-]+)?")
OTHERS = ("node2dm", "callback", "statsd", "emulator")
KINDS: dict[str, type[C2DMRoute | FCMRoute]] = {"c2dm": C2DMRoute, "fcm": FCMRoute}

EmulatorDefaults = Callable[[Mapping[str, str], Path, Path], Mapping[str, str]]
"""
Takes the texts of the section [emulator], state_dir and the folder of the file; makes what the
emulator needs there, and gives the defaults of a route's options. Raises ConfigErrors, or OSError.
"""


CheckKey = Callable[[bytes], str | None]
"""
Reads a service account's key; gives the project it names, which may be empty, or None where that
does not matter. Raises ValueError with what is expected.
"""

_PLACEHOLDERS = {"username": "-", "password": "-", "service_account": __file__}
"""In place of what a faulty [emulator] would give, so that its routes bring no errors as well."""


def load(
    file: Path, working_directory: Path, emulator_defaults: EmulatorDefaults, check_key: CheckKey
) -> Settings:
    """Read the configuration file.

    Args:
        working_directory: the default of state_dir.
        emulator_defaults: see `EmulatorDefaults`; called where the file has an [emulator].
        check_key: see `CheckKey`; called for each [fcm].

    Raises:
        ConfigErrors: everything that is wrong in it.
    """
    parser = read(file)
    folder = file.absolute().parent
    errors: list[str] = []

    def take(kind: type[Any], title: str, /, **more: Any) -> Any:
        kept = NOT_IMPLEMENTED.get(title.partition(":")[0], ())
        return section(kind, title, parser, folder, errors, not_implemented=kept, **more)

    gateway = take(GatewaySection, "node2dm", defaults={"state_dir": str(working_directory)})
    defaults: Mapping[str, str] = {}
    if parser.has_section("emulator"):
        state_dir = _state_dir(parser, working_directory, folder)
        try:
            defaults = emulator_defaults(dict(parser.items("emulator")), state_dir, folder)
        except (ConfigErrors, OSError) as error:
            errors += error.errors if isinstance(error, ConfigErrors) else [_unusable(error)]
            defaults, check_key = _PLACEHOLDERS, _skip_key_check
    titles = [title for title in parser.sections() if ROUTE.fullmatch(title)]
    routes = [
        take(KINDS[title.partition(":")[0]], title, defaults=defaults, title=title)
        for title in titles
    ]
    _resolve_defaults(routes, parser)
    callback = take(CallbackSection, "callback") if parser.has_section("callback") else None
    statsd = take(Statsd, "statsd") if parser.has_section("statsd") else None
    if gateway is not None and gateway.proxy and not gateway.uses_curl:
        errors.append("[node2dm] proxy: needs pycurl (pip install pycurl), not http_client = treq")
    errors += _section_errors(parser, titles)
    errors += _route_errors([route for route in routes if route is not None])
    for place, title in enumerate(titles):
        if title.startswith("fcm"):
            texts = {**defaults, **dict(parser.items(title))}
            project, key_errors = _check_key(routes[place], texts, folder, check_key)
            errors += [f"[{title}] {error}" for error in key_errors]
            if routes[place] is not None:
                routes[place] = attrs.evolve(routes[place], project=project)
    if errors:
        raise ConfigErrors(errors)
    return Settings(file, gateway, tuple(routes), callback, statsd, tuple(_warnings(file, parser)))


def _state_dir(parser: RawConfigParser, working_directory: Path, folder: Path) -> Path:
    """Find state_dir, also where other options of its section have errors."""
    given = parser.get("node2dm", "state_dir", fallback="") or str(working_directory)
    try:
        return path(given, folder)
    except ValueError:
        return working_directory  # an error of the option itself


def _section_errors(parser: RawConfigParser, routes: list[str]) -> list[str]:
    """Name the sections that are unknown, and say so where there is none that sends."""
    errors = []
    for title in parser.sections():
        if title.partition(":")[0] in KINDS and title not in routes:
            errors.append(f"[{format_value(title)}]: expected a name of letters, digits, _ . and -")
        elif title not in (*OTHERS, *routes):
            errors.append(
                describe_unknown(f"[{format_value(title)}]", "section", title, (*KINDS, *OTHERS))
            )
    if not routes:
        errors.append("[c2dm] or [fcm]: expected a section for the account that sends")
    return errors


def _resolve_defaults(routes: list[C2DMRoute | FCMRoute | None], parser: RawConfigParser) -> None:
    """Adjust implicit defaults that conflict with explicit options."""
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


def _route_errors(routes: list[C2DMRoute | FCMRoute]) -> list[str]:
    """Check the options of a route against one another, and the names of all routes."""
    errors = []
    names = Counter(name for route in routes for name in {route.name, route.prefix} if name)
    for route in routes:
        for option, name in (("", route.name), (f" prefix = {route.prefix}", route.prefix)):
            if name and names[name] > 1:
                errors.append(f"[{route.title}]{option}: expected a name that no other route has")
        if route.name == "callbacks":
            errors.append(f"[{route.title}]: expected another name; callbacks.spool is in use")
        burst = route.device_burst or 0
        if any(count < burst for count, _ in route.device_rate or ()):
            place = f"[{route.title}] device_burst = {burst}"
            errors.append(f"{place}: expected no more than each device_rate allows")
    return errors


def _check_key(
    route: FCMRoute | None, texts: Mapping[str, str], folder: Path, check_key: CheckKey
) -> tuple[str | None, list[str]]:
    """Check the key of an [fcm], also where other options of the section have errors.

    Returns:
        The project to send for, the key's own unless another is given, and errors.
    """
    name, project = texts.get("service_account", ""), texts.get("project")
    try:
        key = key_file(name, folder) if route is None else route.service_account
    except ValueError:
        return project, []  # an error of the option itself
    try:
        own_project = check_key(key.content)
    except ValueError as error:
        return project, [f"service_account = {format_value(name)}: expected {error}"]
    is_whole_address = texts.get("url", "").endswith("/messages:send")
    if own_project == "" and not project and not is_whole_address:
        return project, ["project: expected a project ID; the key names none"]
    return project or own_project or None, []


def _skip_key_check(key: bytes) -> None:
    """Check nothing of a placeholder."""


def _unusable(error: OSError) -> str:
    where = f"{error.strerror}: {error.filename}"
    return f"[node2dm] state_dir: expected a folder that can be written ({where})"


def _warnings(file: Path, parser: RawConfigParser) -> list[str]:
    """Name the files with a secret that others can read: this one, or one that it names."""
    secrets = {"accounts"} | {
        field.name
        for kind in (GatewaySection, *KINDS.values(), CallbackSection)
        for field in attrs.fields(kind)
        if field.metadata.get("secret")
    }
    files = {f"{name}_file" for name in secrets} | {"service_account"}
    holders = {
        file if name in secrets else file.absolute().parent / value
        for title in parser.sections()
        for name, value in parser.items(title)
        if value and name in secrets | files and (name != "proxy" or "@" in value)
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
