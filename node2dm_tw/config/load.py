"""Loads the gateway's configuration file, and checks the rules between its sections."""

import re
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import attrs

from node2dm_tw.config.converters import path, printable
from node2dm_tw.config.ini import (
    ConfigErrors,
    IniFile,
    describe_unknown,
    option_names,
    parse,
    section,
)
from node2dm_tw.config.ini_lines import MAX_SHOWN, format_value
from node2dm_tw.config.route_sections import (
    DEFAULT,
    METADATA,
    C2DMRoute,
    FCMRoute,
    service_account,
    source_of,
)
from node2dm_tw.config.sections import CallbackSection, GatewaySection, Statsd


@attrs.frozen
class Settings:
    """The settings of a configuration file."""

    file: Path
    gateway: GatewaySection
    routes: tuple[C2DMRoute | FCMRoute, ...]
    callback: CallbackSection | None
    statsd: Statsd | None
    warnings: tuple[str, ...]
    route_callbacks: tuple[CallbackSection, ...] = ()

    @property
    def callbacks(self) -> tuple[CallbackSection, ...]:
        """[callback], if there is one, and every [callback:ROUTE]."""
        return (*filter(None, [self.callback]), *self.route_callbacks)


NOT_IMPLEMENTED = {"node2dm": ("claim_after",)}
ROUTE = re.compile(r"(c2dm|fcm)(:[A-Za-z0-9_.-]+)?")
OTHERS = ("node2dm", "callback", "statsd", "emulator")
KINDS: dict[str, type[C2DMRoute | FCMRoute]] = {"c2dm": C2DMRoute, "fcm": FCMRoute}

EmulatorDefaults = Callable[[Mapping[str, str], Path, Path], Mapping[str, str]]
"""
Takes the texts of the section [emulator], state_dir and the folder of the file. Creates the
emulator's files, unless nothing may be written, and returns the defaults of a route's options.
Raises ConfigErrors, or OSError.
"""


CheckKey = Callable[[bytes | str | None], str | None]
"""
Reads a key file, or checks ``metadata``. Returns the project of the key, which may be empty, or
None if it does not matter. Raises ValueError with what is expected. The argument None stands for a
key that is not created yet; then only the packages that every key needs are checked.
"""

CheckStateDir = Callable[[Path], None]
"""Raises OSError if state_dir cannot be used, as far as that is known without writing."""

EMULATOR_FILES = ("ca_file", "service_account")
"""Options whose files the emulator creates."""

_PLACEHOLDERS = {"username": "-", "password": "-", "service_account": __file__, "ca_file": ""}
"""Stand for what [emulator] would create, so that an error in it causes no further errors."""


def find_places(emulator_options: Collection[str]) -> Mapping[str, Collection[str]]:
    """Return the sections of each option, by the option's name."""
    options = {
        title: [name for field in attrs.fields(kind) for name in option_names(field)]
        for title, kind in {
            "node2dm": GatewaySection,
            **KINDS,
            "callback": CallbackSection,
            "statsd": Statsd,
        }.items()
    }
    options["emulator"] = [*emulator_options]
    names = {name for known in options.values() for name in known}
    return {name: [title for title in options if name in options[title]] for name in names}


def load(
    file: Path,
    working_directory: Path,
    emulator_defaults: EmulatorDefaults,
    check_key: CheckKey,
    *,
    places: Mapping[str, Collection[str]] = {},
    check_state_dir: CheckStateDir | None = None,
) -> Settings:
    """Read the configuration file.

    Args:
        working_directory: the default of state_dir.
        emulator_defaults: see `EmulatorDefaults`; called if the file has an [emulator].
        check_key: see `CheckKey`; called for each [fcm].
        places: see `find_places`.
        check_state_dir: see `CheckStateDir`. If given, nothing is written, and the files that the
            emulator creates need not exist.

    Raises:
        ConfigErrors: all errors of the file.
    """
    parser = parse(file)
    folder = file.absolute().parent
    errors = [*parser.errors]

    def take(kind: type[Any], title: str, /, **more: Any) -> Any:
        kept = NOT_IMPLEMENTED.get(title, ())
        return section(
            kind, title, parser, folder, errors, not_implemented=kept, elsewhere=places, **more
        )

    gateway = take(GatewaySection, "node2dm", defaults={"state_dir": str(working_directory)})
    state_dir = _state_dir(parser, working_directory, folder)
    titles = [title for title in parser.sections() if ROUTE.fullmatch(title)]
    defaults: Mapping[str, str] = _PLACEHOLDERS if parser.has_section("emulator") else {}
    with _collect(errors, parser):
        if check_state_dir is not None:
            check_state_dir(state_dir)
    with _collect(errors, parser):
        if parser.has_section("emulator"):
            defaults = emulator_defaults(dict(parser.items("emulator")), state_dir, folder)
            if check_state_dir is not None:
                defaults = _replace_unmade(parser, titles, defaults, folder)
    routes = [
        take(KINDS[title.partition(":")[0]], title, defaults=defaults, title=title)
        for title in titles
    ]
    _resolve_defaults(routes, parser)
    callback = take(CallbackSection, "callback") if parser.has_section("callback") else None
    callback_titles = [title for title in parser.sections() if title.startswith("callback:")]
    route_callbacks = [take(CallbackSection, title, title=title) for title in callback_titles]
    statsd = take(Statsd, "statsd") if parser.has_section("statsd") else None
    if gateway is not None and gateway.proxy and not gateway.uses_curl:
        errors.append("[node2dm] proxy: needs pycurl (pip install pycurl), not http_client = treq")
    errors += _section_errors(parser, [*titles, *callback_titles])
    errors += _callback_errors(callback_titles, titles)
    errors += [] if gateway is None else _listener_errors(gateway, parser)
    errors += _route_errors([route for route in routes if route is not None])
    for place, title in enumerate(titles):
        if title.startswith("fcm"):
            texts = {**defaults, **dict(parser.items(title))}
            routes[place] = _check_key(title, routes[place], texts, folder, errors, check_key)
    if errors:
        raise ConfigErrors(errors)
    return Settings(
        file,
        gateway,
        tuple(routes),
        callback,
        statsd,
        (*_warnings(file, parser), *_unused_options(gateway)),
        tuple(route_callbacks),
    )


def _state_dir(parser: IniFile, working_directory: Path, folder: Path) -> Path:
    """Return state_dir, even if other options of its section have errors."""
    given = parser.get("node2dm", "state_dir", fallback="") or str(working_directory)
    try:
        return path(given, folder)
    except ValueError:
        return working_directory  # an error of the option itself


def _listener_errors(gateway: GatewaySection, parser: IniFile) -> list[str]:
    """Return errors for ports that would be opened twice."""
    errors = []
    if len({*gateway.udp}) < len(gateway.udp):
        value = format_value(parser.get("node2dm", "udp"))
        errors.append(f"[node2dm] udp = {value}: expected each address once")
    if gateway.web == gateway.stats:
        errors.append(
            f"[node2dm] web = {format_value(gateway.web)}: expected another port than stats"
        )
    return errors


def _section_errors(parser: IniFile, routes: list[str]) -> list[str]:
    """Return errors for unknown sections, and for a file without a route."""
    errors = []
    for title in parser.sections():
        if title.partition(":")[0] in KINDS and title not in routes:
            errors.append(f"[{format_value(title)}]: expected a name of letters, digits, _ . and -")
        elif title not in (*OTHERS, *routes):
            errors.append(_describe_unknown_section(title))
    if not routes and not parser.errors:  # otherwise it may be in a line that cannot be read
        errors.append("[c2dm] or [fcm]: expected a section for the account that sends")
    return errors


def _describe_unknown_section(title: str) -> str:
    """Describe an unknown section, without comparing the NAME of [fcm:NAME]."""
    kind, colon, name = title.strip().partition(":")
    near = get_close_matches(kind.lower()[:MAX_SHOWN], (*KINDS, "callback"), 1)
    if colon and near:
        meant = f"{near[0]}:{format_value(name)}"
        return f"[{format_value(title)}]: unknown section; did you mean {meant}?"
    return describe_unknown(f"[{format_value(title)}]", "section", title, (*KINDS, *OTHERS))


def _callback_errors(titles: list[str], routes: list[str]) -> list[str]:
    """Return an error for each [callback:ROUTE] whose route is not configured."""
    names = [title.rpartition(":")[2] for title in routes]
    return [
        describe_unknown(f"[{format_value(title)}]", "route", route, names)
        for title in titles
        if (route := title.partition(":")[2]) not in names
    ]


def _resolve_defaults(routes: list[C2DMRoute | FCMRoute | None], parser: IniFile) -> None:
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
    """Return errors for options of a route that conflict, and for names used twice."""
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
    title: str,
    route: FCMRoute | None,
    texts: Mapping[str, str],
    folder: Path,
    errors: list[str],
    check_key: CheckKey,
) -> FCMRoute | None:
    """Check the key of an [fcm], even if other options of the section have errors.

    Returns:
        The route with its project, which is the key's unless `project` is set.
    """
    name, project = texts.get("service_account", ""), texts.get("project")
    try:
        key = service_account(name, folder) if route is None else route.service_account
    except ValueError:
        return route  # an error of the option itself
    is_made = name != _PLACEHOLDERS["service_account"]
    try:
        own_project = check_key(source_of(key) if is_made else None)
    except ValueError as error:
        value = f" = {format_value(name)}" if is_made else ""
        errors.append(f"[{title}] service_account{value}: expected {error}")
        return route
    is_whole_address = texts.get("url", "").endswith("/messages:send")
    if own_project == "" and not project and not is_whole_address:
        what = name if isinstance(key, str) else "the key"
        errors.append(f"[{title}] project: expected a project ID; {what} names none")
    return route and attrs.evolve(route, project=project or own_project or None)


def _replace_unmade(
    parser: IniFile, titles: list[str], defaults: Mapping[str, str], folder: Path
) -> Mapping[str, str]:
    """Replace the names of files that the emulator has not created yet by placeholders.

    Returns:
        The defaults, with placeholders.
    """
    unmade = {Path(defaults[name]) for name in EMULATOR_FILES}
    for title in titles:
        for name, value in parser.items(title):
            with suppress(ValueError):
                if name in EMULATOR_FILES and path(value, folder) in unmade:
                    parser.set(title, name, _PLACEHOLDERS[name])
    return {**defaults, **{name: _PLACEHOLDERS[name] for name in EMULATOR_FILES}}


@contextmanager
def _collect(errors: list[str], parser: IniFile) -> Iterator[None]:
    """Add what is raised to `errors`; an OSError is about state_dir."""
    try:
        yield
    except ConfigErrors as error:
        errors += error.errors
    except OSError as error:
        given = parser.get("node2dm", "state_dir", fallback="")
        place = "[node2dm] state_dir" + (f" = {format_value(given)}" if given else "")
        where = f"{error.strerror}: {printable(str(error.filename))}"
        errors.append(f"{place}: expected a folder that can be written ({where})")


def _unused_options(gateway: GatewaySection) -> list[str]:
    """Return a warning for each option that has no effect without another one."""
    if gateway.push_token is not None and gateway.web is None:
        return ["[node2dm] push_token has no effect: pushes by HTTP need the option web"]
    return []


def _warnings(file: Path, parser: IniFile) -> list[str]:
    """Return a warning for each file with a secret that other users can read."""
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
        if value != _PLACEHOLDERS.get(name)
        if name != "service_account" or value not in (METADATA, DEFAULT)
    }
    return [
        f"{holder} contains a secret and can be read by other users; run chmod o-r on it"
        for holder in sorted(holders)
        if holder.stat().st_mode & 0o004
    ]
