"""The options of [emulator]."""

import ipaddress
import re
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path

import attrs
from twisted.internet.endpoints import serverFromString

from node2dm_tw.config.ini import IniFile, option, option_names, rate, section

DEMO_ACCOUNT = "demo@example.com"
"""The account that the gateway signs in with over C2DM if [emulator] names no accounts."""

PROJECT = "node2dm-emulator"
"""The project of FCM, and of the service account."""

DEFAULT_LISTEN = "tcp:8443:interface=127.0.0.1"

Rate = tuple[int, float]
"""A number, and the seconds in which it is allowed."""


def address(listen: str) -> tuple[str, int]:
    """Read host and port from an endpoint string.

    Returns:
        the host that a client on this machine connects to, and the port (0: a free one).

    Raises:
        ValueError: not a tcp or tcp6 endpoint with a port; with what is expected.
    """
    kind, *parts = (re.sub(r"\\(.)", r"\1", part) for part in re.split(r"(?<!\\):", listen))
    named = dict(part.split("=", 1) for part in parts if "=" in part)
    plain = [part for part in parts if "=" not in part]
    port = named.get("port", plain[0] if plain else "")
    digits = re.fullmatch("[0-9]{1,5}", port)
    if kind not in ("tcp", "tcp6") or not digits or int(port) > 65535:
        raise ValueError(f"an endpoint such as {DEFAULT_LISTEN}")
    loopback = "127.0.0.1" if kind == "tcp" else "::1"
    host = named.get("interface", "") or loopback
    try:
        bound = ipaddress.ip_address(host)
    except ValueError:
        raise ValueError("an IP address as interface") from None
    return (loopback if bound.is_unspecified else host), int(port)


def _absolute(path: Path | str) -> Path:
    return Path(path).absolute()


def _listen(text: str, folder: Path) -> str:
    address(text)
    try:
        serverFromString(object(), text)
    except (ValueError, TypeError) as error:
        raise ValueError(f"an endpoint such as {DEFAULT_LISTEN} ({error})") from None
    return text


def _phones(text: str, folder: Path) -> tuple[str, ...]:
    names = tuple(name.strip() for name in text.split(","))
    for name in names:
        if not name or not name.isascii() or not name.isprintable() or re.search(r"[\s/,]", name):
            raise ValueError("printable ASCII names without blanks, slashes and commas")
    return names


def _rate(text: str, folder: Path) -> Rate:
    return rate(text.replace(" ", ""), folder)


def _accounts(text: str, folder: Path) -> Mapping[str, str]:
    return _passwords(text.split(","), "email:password, several separated by commas")


def _accounts_of_file(text: str, folder: Path) -> Mapping[str, str]:
    return _passwords(filter(str.strip, text.split("\n")), "email:password on each line")


def _passwords(accounts: Iterable[str], expected: str) -> Mapping[str, str]:
    found = {}
    for account in accounts:
        email, colon, password = account.strip().partition(":")
        if not (email and colon and password):
            raise ValueError(expected)  # without the text, which is a secret
        found[email] = password
    return found


@attrs.frozen
class EmulatorSettings:
    """The options of ``[emulator]``, and `state_dir` of the gateway.

    Args:
        state_dir: the emulator keeps its files in the folder ``emulator`` below it.
        phones: the name of a phone is its registration ID.
        accounts: e-mail address to password. None: any address with a password may sign in.
        sender_quota: None: no limit.
        device_quota: None: no limit for C2DM, Google's own for FCM.
    """

    state_dir: Path = attrs.field(converter=_absolute)
    listen: str = option(
        _listen,
        DEFAULT_LISTEN,
        "the TLS port of the emulator: a Twisted endpoint, tcp or tcp6",
        shown=True,
    )
    phones: tuple[str, ...] = option(
        _phones,
        "demo-phone",
        "phones that are registered at the start, separated by commas",
        shown=True,
    )
    accounts: Mapping[str, str] | None = option(
        _accounts,
        "",
        "accounts that can sign in, email:password, separated by commas; empty: any",
        secret=True,
        convert_file=_accounts_of_file,
    )
    sender_quota: tuple[int, float] | None = option(
        _rate, "", "pushes that a sender may send, such as 1000/d; empty: no limit", shown=True
    )
    device_quota: tuple[int, float] | None = option(
        _rate, "", "pushes that a phone may receive, such as 20/m; empty: no limit", shown=True
    )

    @property
    def folder(self) -> Path:
        """Where the emulator's own files are."""
        return self.state_dir / "emulator"


OPTIONS = tuple(name for field in attrs.fields(EmulatorSettings) for name in option_names(field))


def read_section(
    texts: Mapping[str, str],
    state_dir: Path,
    base: Path,
    elsewhere: Mapping[str, Collection[str]] = {},
) -> tuple[EmulatorSettings | None, list[str]]:
    """Read the options of an ``[emulator]`` section; an empty one has its default.

    Args:
        texts: of the section, by the names of options.
        state_dir: where state is kept.
        base: the folder that relative paths are relative to.
        elsewhere: the sections of the gateway that have an option, by the names of options.

    Returns:
        the settings, or None and a line for each error.
    """
    file, errors = IniFile(""), list[str]()
    given = {name: text for name, text in texts.items() if text.strip() or name not in OPTIONS}
    file.read_dict({"emulator": given})
    settings = section(
        EmulatorSettings, "emulator", file, base, errors, elsewhere=elsewhere, state_dir=state_dir
    )
    return settings, errors


def changed_options(old: EmulatorSettings | None, new: EmulatorSettings | None) -> list[str]:
    """Name the options that differ; where one of the two is None, all that the other has."""
    names = [field.name for field in attrs.fields(EmulatorSettings) if field.metadata]
    return [name for name in names if getattr(old, name, None) != getattr(new, name, None)]
