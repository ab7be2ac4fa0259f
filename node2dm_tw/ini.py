"""INI files to typed, frozen settings.

A section is an attrs class whose fields are made by `option`. Everything that is wrong in a file is
found before any of it is reported.
"""

import re
from collections.abc import Collection, Mapping
from configparser import (
    DuplicateOptionError,
    DuplicateSectionError,
    MissingSectionHeaderError,
    ParsingError,
    RawConfigParser,
)
from difflib import get_close_matches
from pathlib import Path
from typing import Any, TypeVar

import attrs

from node2dm_tw.converters import Converter, file_text, read_file

Section = TypeVar("Section", bound=attrs.AttrsInstance)

NOT_IMPLEMENTED = "is not implemented yet; remove it"

MAX_SHOWN = 80
"""Characters of a value that an error shows."""


class ConfigErrors(Exception):
    """What is wrong in a file: lines such as ``[section] option = value: expected a number``."""

    def __init__(self, errors: list[str]) -> None:
        """Keep the lines."""
        super().__init__("\n".join(errors))
        self.errors = errors


def mask(value: str) -> str:
    """Hide the user and the password in a URL, and its query, which often is a secret too."""
    value = re.sub(r"//.*@", "//***@", value)
    return re.sub(r"^[^/]*:[^/]*@", "***@", value).partition("?")[0]


def format_value(value: str) -> str:
    """Format a value for an error: one line, escaped, bounded, without what may be secret.

    Continuation lines are left out: an option that is indented by mistake is one of them, and may
    be the password.
    """
    first, _, rest = value.partition("\n")
    first = mask(first)
    shown = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in first[:MAX_SHOWN])
    return f"{shown}..." if rest or len(first) > MAX_SHOWN else shown


def describe_unknown(place: str, kind: str, word: str, known: Collection[str]) -> str:
    """Write the error of an unknown name, with the known one that is most like it."""
    near = get_close_matches(word.lower()[:MAX_SHOWN], known, 1)
    return f"{place}: unknown {kind}" + (f"; did you mean {near[0]}?" if near else "")


def option(
    convert: Converter,
    default: str | None,
    doc: str,
    *,
    secret: bool = False,
    shown: bool = False,
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
        shown: views and errors may show its value.
        reloads: a change takes effect on SIGHUP; others wait for a restart.
        optional: may be empty, and is None then, though it has a default.
    """
    metadata = {
        "convert": convert,
        "default": default,
        "doc": doc,
        "secret": secret,
        "shown": shown,
        "reloads": reloads,
        "optional": optional or default == "",
    }
    return attrs.field(metadata=metadata, repr=not secret)


def read(file: Path) -> RawConfigParser:
    """Parse a file. `%` means nothing special, names of options keep their case.

    Raises:
        ConfigErrors: it cannot be read or is no INI file.
    """
    parser = RawConfigParser(strict=True, default_section="")
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    try:
        parser.read_string(read_file(file).decode("utf-8-sig"), str(file))
    except OSError as error:
        raise ConfigErrors([f"{file}: {error.strerror}"]) from error
    except UnicodeDecodeError as error:
        raise ConfigErrors([f"{file}: it is not UTF-8"]) from error
    except (DuplicateSectionError, DuplicateOptionError) as error:
        place = f"[{error.section}] {getattr(error, 'option', '')}".rstrip()
        line = f"{file}: line {error.lineno}: {format_value(place)} is defined twice"
        raise ConfigErrors([line]) from None
    except MissingSectionHeaderError as error:
        raise ConfigErrors([f"{file}: line {error.lineno}: expected a [section] first"]) from None
    except ParsingError as error:
        # The parser's own message has the line in it, and so perhaps a secret.
        lines = [f"{file}: line {line}: expected option = value" for line, _ in error.errors]
        raise ConfigErrors(lines) from None
    return parser


def section(
    kind: type[Section],
    title: str,
    parser: RawConfigParser,
    folder: Path,
    errors: list[str],
    /,
    *,
    defaults: Mapping[str, str] | None = None,
    not_implemented: tuple[str, ...] = (),
    **extra: Any,
) -> Section | None:
    """Read one section.

    Args:
        kind: the class to make.
        title: of the section; one that is not in the file has its defaults.
        folder: of the file.
        errors: gets a line for each error.
        defaults: texts that take the place of the options' own defaults.
        not_implemented: options that are known but refused.
        extra: further arguments of the class, not options.

    Returns:
        The settings; None where there was an error.
    """
    given = dict(parser.items(title)) if parser.has_section(title) else {}
    before = len(errors)
    values: dict[str, Any] = dict(extra)
    fields = [field for field in attrs.fields(kind) if field.metadata]
    for field in fields:
        fallback = (defaults or {}).get(field.name, field.metadata["default"])
        try:
            values[field.name] = _value(field, given, fallback, folder)
        except ValueError as error:
            errors.append(f"[{title}] {_describe(field, given)}: expected {error}")
    names = {field.name for field in fields} | {_file_option(field) for field in fields} - {""}
    for name in given:
        if name in not_implemented:
            errors.append(f"[{title}] {name}: {NOT_IMPLEMENTED}")
        elif name not in names:
            errors.append(
                describe_unknown(f"[{title}] {format_value(name)}", "option", name, names)
            )
    return kind(**values) if len(errors) == before else None


def _file_option(field: Any) -> str:
    """Name the option that names the file of a secret; empty where there is none."""
    return f"{field.name}_file" if field.metadata["secret"] else ""


def _value(field: Any, given: Mapping[str, str], fallback: str | None, folder: Path) -> Any:
    """Find the text of one option and convert it."""
    value, file_option = given.get(field.name), _file_option(field)
    if file_option in given:
        if value is not None:
            raise ValueError(f"either {field.name} or {file_option}, not both")
        value = file_text(given[file_option], folder)
    if value is None:
        value = fallback
    if value is None:
        raise ValueError(f"{field.metadata['doc']} (required)")
    if not value:
        if field.metadata["default"] is None:
            raise ValueError(f"{field.metadata['doc']}, not empty")
        if not field.metadata["optional"]:
            raise ValueError("a value; leave the line out for the default")
        return None
    return field.metadata["convert"](value, folder)


def _describe(field: Any, given: Mapping[str, str]) -> str:
    """Name an option for an error, with its value where that may be shown."""
    file_option = _file_option(field)
    if file_option in given and field.name not in given:
        return f"{file_option} = {format_value(given[file_option])}"
    if field.metadata["shown"] and field.name in given:
        return f"{field.name} = {format_value(given[field.name])}"
    return str(field.name)
