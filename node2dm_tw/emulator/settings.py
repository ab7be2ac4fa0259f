"""What the emulator can be told, and how it reads from an INI section."""

import ipaddress
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

import attrs
from twisted.internet.endpoints import serverFromString

from node2dm_tw.config.converters import file_text
from node2dm_tw.config.ini import convert_text, describe_unknown
from node2dm_tw.config.ini_lines import format_value

DEMO_ACCOUNT = "demo@example.com"
"""Who the gateway signs in as over C2DM where [emulator] names no accounts."""

DEFAULT_LISTEN = "tcp:8443:interface=127.0.0.1"

Rate = tuple[int, float]
"""So many in so many seconds."""

_SECONDS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_RATE = re.compile(r"([1-9][0-9]{0,8})/([smhd])")
OPTIONS = ("listen", "phones", "accounts", "accounts_file", "sender_quota", "device_quota")


def _absolute(path: Path | str) -> Path:
    return Path(path).absolute()


def _check_listen(_: object, __: object, value: str) -> None:
    address(value)


def _check_phones(_: object, __: object, value: tuple[str, ...]) -> None:
    for name in value:
        if not name or not name.isascii() or not name.isprintable() or re.search(r"[\s/,]", name):
            raise ValueError("expected printable ASCII names without blanks, slashes and commas")


@attrs.frozen
class EmulatorSettings:
    """Everything the emulator is started with.

    Args:
        state_dir: the emulator keeps its files in the folder ``emulator`` below it.
        listen: a Twisted endpoint string, ``tcp`` or ``tcp6``.
        phones: phones that are registered from the start; the name is the registration ID.
        accounts: e-mail address to password. None: any address with a password may sign in.
        sender_quota: pushes a sender account or project may send. None: no limit.
        device_quota: pushes a device may get. None: none for C2DM, Google's own for FCM.
    """

    state_dir: Path = attrs.field(converter=_absolute)
    listen: str = attrs.field(default=DEFAULT_LISTEN, validator=_check_listen)
    phones: tuple[str, ...] = attrs.field(default=("demo-phone",), validator=_check_phones)
    accounts: Mapping[str, str] | None = attrs.field(default=None, repr=False)
    sender_quota: Rate | None = None
    device_quota: Rate | None = None

    @property
    def folder(self) -> Path:
        """Where the emulator's own files are."""
        return self.state_dir / "emulator"


def address(listen: str) -> tuple[str, int]:
    """Read host and port out of an endpoint string.

    Returns:
        the host a client on this machine connects to, and the port (0: a free one).

    Raises:
        ValueError: not a tcp or tcp6 endpoint with a port.
    """
    kind, *parts = (re.sub(r"\\(.)", r"\1", part) for part in re.split(r"(?<!\\):", listen))
    named = dict(part.split("=", 1) for part in parts if "=" in part)
    plain = [part for part in parts if "=" not in part]
    port = named.get("port", plain[0] if plain else "")
    digits = re.fullmatch("[0-9]{1,5}", port)
    if kind not in ("tcp", "tcp6") or not digits or int(port) > 65535:
        raise ValueError("expected an endpoint such as tcp:8443:interface=127.0.0.1")
    loopback = "127.0.0.1" if kind == "tcp" else "::1"
    host = named.get("interface", "") or loopback
    try:
        bound = ipaddress.ip_address(host)
    except ValueError:
        raise ValueError("expected an IP address as interface") from None
    return (loopback if bound.is_unspecified else host), int(port)


def read_section(
    section: Mapping[str, str],
    state_dir: Path,
    base: Path,
    elsewhere: Mapping[str, Collection[str]] = {},
) -> tuple[EmulatorSettings | None, list[str]]:
    """Read the options of an ``[emulator]`` section.

    Args:
        section: option names to their text.
        state_dir: where state is kept.
        base: the folder that relative paths are relative to.
        elsewhere: the sections of the gateway that have an option, by the names of options.

    Returns:
        the settings, or None and a line for each error.
    """
    errors = [
        describe_unknown(f"[emulator] {format_value(name)}", "option", name, OPTIONS, elsewhere)
        for name in section
        if name not in OPTIONS
    ]
    values: dict[str, Any] = {"state_dir": state_dir}
    for name, read in _READERS.items():
        text = section.get(name, "").strip()
        try:
            if text:
                is_secret = name == "accounts"
                converted = convert_text(read, text, base, is_secret=is_secret)
                values[name.removesuffix("_file")] = converted
        except ValueError as error:
            shown = "" if name == "accounts" else f" = {format_value(text)}"
            expected = str(error).removeprefix("expected ")
            errors.append(f"[emulator] {name}{shown}: expected {expected}")
    if section.get("accounts", "").strip() and section.get("accounts_file", "").strip():
        errors.append("[emulator] accounts: expected either accounts or accounts_file, not both")
    return (None if errors else EmulatorSettings(**values)), errors


def changed_options(old: EmulatorSettings | None, new: EmulatorSettings | None) -> list[str]:
    """Name the options that differ; where one of the two is None, all that the other has."""
    names = [field.name for field in attrs.fields(EmulatorSettings) if field.name in OPTIONS]
    return [name for name in names if getattr(old, name, None) != getattr(new, name, None)]


def _listen(text: str, _: Path) -> str:
    address(text)
    try:
        serverFromString(object(), text)
    except (ValueError, TypeError) as error:
        raise ValueError(f"expected an endpoint such as {DEFAULT_LISTEN} ({error})") from None
    return text


def _phones(text: str, _: Path) -> tuple[str, ...]:
    names = tuple(name.strip() for name in text.split(","))
    _check_phones(None, None, names)
    return names


def _rate(text: str, _: Path) -> Rate:
    match = _RATE.fullmatch(text.replace(" ", ""))
    if match is None:
        raise ValueError("expected a rate such as 240/m (/s, /m, /h or /d)")
    return int(match[1]), _SECONDS[match[2]]


def _accounts(text: str, _: Path) -> Mapping[str, str]:
    return dict(_pairs(part.strip() for part in text.split(",")))


def _accounts_file(text: str, base: Path) -> Mapping[str, str]:
    try:
        lines = file_text(text, base).split("\n")
    except ValueError as error:
        raise ValueError(f"expected {error}") from None
    return dict(_pairs(line.strip() for line in lines if line.strip()))


def _pairs(parts: Iterator[str]) -> Iterator[tuple[str, str]]:
    for part in parts:
        email, colon, password = part.partition(":")
        if not (email and colon and password):
            # What was written is a secret, so it is not repeated here.
            raise ValueError("expected email:password, several separated by commas")
        yield email, password


_READERS: dict[str, Callable[[str, Path], object]] = {
    "listen": _listen,
    "phones": _phones,
    "accounts": _accounts,
    "accounts_file": _accounts_file,
    "sender_quota": _rate,
    "device_quota": _rate,
}
