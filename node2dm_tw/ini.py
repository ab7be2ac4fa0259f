"""INI files to typed, frozen settings.

A section is an attrs class whose fields are made by `option`. Everything that is wrong in a file is
found before any of it is reported.
"""

import ipaddress
import os
import re
from collections.abc import Callable, Mapping
from configparser import (
    DuplicateOptionError,
    DuplicateSectionError,
    MissingSectionHeaderError,
    ParsingError,
    RawConfigParser,
)
from pathlib import Path
from typing import Any, TypeVar

import attrs

IPNetwork = ipaddress.IPv4Network | ipaddress.IPv6Network
Converter = Callable[[str, Path], Any]
"""
Makes a value of an option's text; the folder of the file is for relative paths. Raises ValueError
saying what is wanted, as in "a number of seconds".
"""
Section = TypeVar("Section", bound=attrs.AttrsInstance)

REQUIRED = "required"
NOT_BUILT_YET = "is not built yet; take it out"


class Faults(Exception):
    """What is wrong in a file: lines like ``[section] option: what is wanted``."""

    def __init__(self, faults: list[str]) -> None:
        """Keep the lines."""
        super().__init__("\n".join(faults))
        self.faults = faults


def option(
    convert: Converter,
    default: str | None,
    doc: str,
    *,
    secret: bool = False,
    reloads: bool = False,
    optional: bool = False,
) -> Any:
    """Describe one option, as a field of a section's class.

    Args:
        convert: see `Converter`.
        default: as it would stand in the file; None where the file must name it. A field whose
            default is the empty text is None when it is empty.
        doc: one line for the reference.
        secret: never shown; may be read from the file that ``NAME_file`` names.
        reloads: a change takes effect on SIGHUP; others wait for a restart.
        optional: may be empty, and is None then, though it has a default.
    """
    metadata = {
        "convert": convert,
        "default": default,
        "doc": doc,
        "secret": secret,
        "reloads": reloads,
        "optional": optional or default == "",
    }
    return attrs.field(metadata=metadata, repr=not secret)


def text(value: str, folder: Path) -> str:
    """Any text."""
    return value


def path(value: str, folder: Path) -> Path:
    """A path; relative to the folder of the file."""
    return Path(os.path.normpath(folder.absolute() / value))


def existing_file(value: str, folder: Path) -> Path:
    """A file that can be read."""
    found = path(value, folder)
    try:
        found.open("rb").close()
    except OSError as error:
        raise ValueError(f"a file that can be read ({error.strerror}: {found})") from error
    return found


def number(lowest: int, highest: int) -> Converter:
    """Make a converter to a whole number."""

    def convert(value: str, folder: Path) -> int:
        if not re.fullmatch(r"\d{1,12}", value, re.ASCII) or not lowest <= int(value) <= highest:
            raise ValueError(f"a whole number from {lowest} to {highest}")
        return int(value)

    return convert


def seconds(lowest: float, highest: float) -> Converter:
    """Make a converter to seconds."""

    def convert(value: str, folder: Path) -> float:
        wanted = f"seconds, from {lowest:.15g} to {highest:.15g}"
        if not re.fullmatch(r"\d{1,12}(\.\d{1,6})?", value, re.ASCII):
            raise ValueError(wanted)
        if not lowest <= float(value) <= highest:
            raise ValueError(wanted)
        return float(value)

    return convert


def choice(*values: str) -> Converter:
    """Make a converter to one of a few words."""

    def convert(value: str, folder: Path) -> str:
        if value not in values:
            raise ValueError("one of " + ", ".join(values))
        return value

    return convert


def matching(pattern: str, wanted: str) -> Converter:
    """Make a converter to a text that a regular expression matches as a whole."""
    whole = re.compile(pattern, re.ASCII)

    def convert(value: str, folder: Path) -> str:
        if not whole.fullmatch(value):
            raise ValueError(wanted)
        return value

    return convert


def yes_or_no(value: str, folder: Path) -> bool:
    """Yes or no."""
    if value not in ("yes", "no"):
        raise ValueError("yes or no")
    return value == "yes"


def url(value: str, folder: Path) -> str:
    """An HTTPS or HTTP address."""
    if not re.fullmatch(r"https?://[\w.\-\[\]:]+(/[!-~]*)?", value, re.ASCII):
        raise ValueError("an address that begins with https://")
    return value


def rate(value: str, folder: Path) -> tuple[int, float]:
    """How many in how many seconds, written N/s, N/m, N/h or N/d."""
    match = re.fullmatch(r"(\d{1,12})/([smhd])", value, re.ASCII)
    if match is None or int(match[1]) == 0:
        raise ValueError("a rate such as 240/m")
    return int(match[1]), {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}[match[2]]


def rates(value: str, folder: Path) -> tuple[tuple[int, float], ...]:
    """One or more rates, between commas."""
    return tuple(rate(word, folder) for word in words(value, folder) or ("",))


def words(value: str, folder: Path) -> tuple[str, ...]:
    """Words between commas."""
    return tuple(word.strip() for word in value.split(",") if word.strip())


def networks(value: str, folder: Path) -> tuple[IPNetwork, ...]:
    """IP networks between commas."""
    try:
        return tuple(ipaddress.ip_network(word) for word in words(value, folder))
    except ValueError as error:
        raise ValueError(f"networks such as 127.0.0.0/8, between commas ({error})") from error


def address(value: str) -> tuple[str, int]:
    """An IP address and a port, ``127.0.0.1:8120`` or ``[::1]:8120``."""
    host, _, port = value.rpartition(":")
    try:
        found = ipaddress.ip_address(host.removeprefix("[").removesuffix("]"))
        if not re.fullmatch(r"\d{1,5}", port, re.ASCII) or int(port) > 65_535:
            raise ValueError(port)
    except ValueError as error:
        raise ValueError(
            "IP addresses with ports such as 127.0.0.1:8120, between commas"
        ) from error
    return str(found), int(port)


def addresses(value: str, folder: Path) -> tuple[tuple[str, int], ...]:
    """At least one address, between commas."""
    return tuple(address(word) for word in words(value, folder) or ("",))


def read(file: Path) -> RawConfigParser:
    """Parse a file. `%` means nothing special, names of options keep their case.

    Raises:
        Faults: it cannot be read or is no INI file.
    """
    parser = RawConfigParser(strict=True, default_section="")
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    try:
        parser.read_string(file.read_text(encoding="utf-8-sig"), str(file))
    except OSError as error:
        raise Faults([f"{file}: {error.strerror}"]) from error
    except UnicodeDecodeError as error:
        raise Faults([f"{file}: it is not UTF-8"]) from error
    except (DuplicateSectionError, DuplicateOptionError) as error:
        place = f"[{error.section}] {getattr(error, 'option', '')}".rstrip()
        raise Faults([f"{file}: line {error.lineno}: {place} stands there twice"]) from None
    except MissingSectionHeaderError as error:
        raise Faults([f"{file}: line {error.lineno}: wanted: a [section] first"]) from None
    except ParsingError as error:
        # The parser's own message has the line in it, and so perhaps a secret.
        lines = [f"{file}: line {line}: wanted: option = value" for line, _ in error.errors]
        raise Faults(lines) from None
    return parser


def section(
    kind: type[Section],
    title: str,
    parser: RawConfigParser,
    folder: Path,
    faults: list[str],
    /,
    *,
    defaults: Mapping[str, str] | None = None,
    not_built: tuple[str, ...] = (),
    **extra: Any,
) -> Section | None:
    """Read one section.

    Args:
        kind: the class to make.
        title: of the section; one that is not in the file has its defaults.
        folder: of the file.
        faults: gets a line for each fault.
        defaults: texts that take the place of the options' own defaults.
        not_built: options that are known but refused.
        extra: further arguments of the class, not options.

    Returns:
        The settings; None where there was a fault.
    """
    given = dict(parser.items(title)) if parser.has_section(title) else {}
    before = len(faults)
    values: dict[str, Any] = dict(extra)
    for field in attrs.fields(kind):
        if "convert" not in field.metadata:
            continue
        fallback = (defaults or {}).get(field.name, field.metadata["default"])
        try:
            values[field.name] = _value(field, given, fallback, folder)
        except ValueError as error:
            faults.append(f"[{title}] {field.name}: wanted: {error}")
    faults += [
        f"[{title}] {word}: {NOT_BUILT_YET if word in not_built else 'there is no such option'}"
        for word in given
    ]
    return kind(**values) if len(faults) == before else None


def _value(field: Any, given: dict[str, str], fallback: str | None, folder: Path) -> Any:
    """Take the text of one option out of `given` and convert it."""
    stands = given.pop(field.name, None)
    if field.metadata["secret"]:
        file = given.pop(f"{field.name}_file", None)
        if file is not None:
            if stands is not None:
                raise ValueError(f"either {field.name} or {field.name}_file, not both")
            stands = _secret(existing_file(file, folder))
    value = fallback if stands is None else stands
    if value is None:
        raise ValueError(f"{field.metadata['doc']} ({REQUIRED})")
    if not value:
        if field.metadata["default"] is None:
            raise ValueError(f"{field.metadata['doc']}, not empty")
        if not field.metadata["optional"]:
            raise ValueError("a value; leave the line out for the default")
        return None
    return field.metadata["convert"](value, folder)


def _secret(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8").rstrip("\r\n")
    except UnicodeDecodeError:
        raise ValueError(f"a file in UTF-8 ({file})") from None
