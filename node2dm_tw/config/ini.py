"""Parses INI files into typed, frozen settings.

A section is an attrs class whose fields are made by `option`. All errors of a file are collected
before any of them is reported.
"""

import re
from collections.abc import Collection, Mapping
from configparser import RawConfigParser
from difflib import get_close_matches
from pathlib import Path
from typing import Any, TypeVar

import attrs

from node2dm_tw.config.converters import Converter, describe_owner, file_text, printable, read_file
from node2dm_tw.config.converters import rate as rate  # for the emulator, which knows this alone
from node2dm_tw.config.ini_lines import (
    COMMENTS,
    MAX_LINE_ERRORS,
    MAX_SHOWN,
    OPTION,
    LineReader,
    format_value,
    hide,
)

Section = TypeVar("Section", bound=attrs.AttrsInstance)

NOT_IMPLEMENTED = "is not implemented yet; remove it"

_COMMENT = re.compile(r"(?:^|\s)[;#]")
_CLEAR_COMMENT = re.compile(r"(?:^|\s)[;#](?:\s|$)")
_QUOTED = re.compile(r"(['\"]).*\1")


class ConfigErrors(Exception):
    """The errors of a file: lines such as ``[section] option = value: expected a number``."""

    def __init__(self, errors: list[str]) -> None:
        """Keep the lines."""
        super().__init__("\n".join(errors))
        self.errors = errors


def describe_unknown(
    place: str,
    kind: str,
    word: str,
    known: Collection[str],
    elsewhere: Mapping[str, Collection[str]] = {},
) -> str:
    """Describe an unknown name, with the known name that is most similar to it.

    Args:
        elsewhere: the sections of each option, by the option's name.
    """
    if word in elsewhere:
        sections = " or ".join(f"[{title}]" for title in elsewhere[word])
        return f"{place}: unknown {kind}; it belongs to {sections}"
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
    convert_file: Converter | None = None,
) -> Any:
    """Describe one option, as a field of a section's class.

    If the class is called without the option, the field has the default.

    Args:
        convert: see `Converter`.
        default: as written in the file; None if the option is required. If the default is the
            empty text, an empty option is None.
        doc: a description of one line for the reference.
        secret: the value is never shown, and may be in a file that ``NAME_file`` names.
        shown: views and errors may show its value.
        reloads: a change takes effect on SIGHUP; other changes wait for a restart.
        optional: an empty option is None, although the default is not.
        convert_file: converts the text of a secret's file, if its format differs.
    """

    def convert_default() -> Any:
        return convert(default, Path()) if default else None

    metadata = {
        "convert": convert,
        "default": default,
        "doc": doc,
        "secret": secret,
        "shown": shown,
        "reloads": reloads,
        "optional": optional or default == "",
        "convert_file": convert_file or convert,
    }
    implied = attrs.NOTHING if default is None else attrs.Factory(convert_default)
    return attrs.field(default=implied, metadata=metadata, repr=not secret, kw_only=True)


class IniFile(RawConfigParser):
    """The sections of a file. `%` has no special meaning; option names are case-sensitive.

    Attributes:
        errors: the errors of single lines; the other lines were read.
        incomplete: the sections in which a line could not be read.
    """

    def __init__(self, text: str) -> None:
        """Parse a text."""
        super().__init__(strict=True, default_section="")
        self.optionxform = str  # type: ignore[assignment,method-assign]
        reader = LineReader()
        for number, line in enumerate(text.split("\n"), 1):
            reader.read(number, line)
        self.read_dict(
            {
                title: {name: "\n".join(lines).rstrip() for name, lines in options.items()}
                for title, options in reader.sections.items()
            }
        )
        self.incomplete = reader.incomplete
        more = len(reader.errors) - MAX_LINE_ERRORS
        self.errors = reader.errors[:MAX_LINE_ERRORS]
        if more > 0:
            self.errors.append(f"{more} more lines: expected option = value")


def parse(file: Path) -> IniFile:
    """Parse a file. The result holds the errors of its lines.

    Raises:
        ConfigErrors: the file cannot be read, or is not UTF-8 text.
    """
    try:
        content = read_file(file)
    except OSError as error:
        reason = f"{error.strerror}{describe_owner(file, error)}"
        raise ConfigErrors([f"{file}: {reason}"]) from error
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        if content.startswith((b"\xff\xfe", b"\xfe\xff")):
            raise ConfigErrors([f"{file}: it is not UTF-8 but UTF-16: save it as UTF-8"]) from None
        number = content.count(b"\n", 0, error.start) + 1
        place = f"{file}: line {number}: byte 0x{content[error.start]:02x}"
        raise ConfigErrors([f"{place}: it is not UTF-8: save the file as UTF-8"]) from None
    for character, what in _FORBIDDEN.items():
        if character in text:
            number = text.count("\n", 0, text.index(character)) + 1
            raise ConfigErrors([f"{file}: line {number}: {what}"])
    if "\r" in text and "\n" not in text:
        raise ConfigErrors([f"{file}: its lines end in CR alone: expected LF or CR LF"])
    found = IniFile(text)
    found.errors = [f"{file}: {error}" for error in found.errors]
    return found


_FORBIDDEN = {
    "\0": "a NUL byte: expected text in UTF-8; is it UTF-16, or damaged?",
    "\ufeff": "a byte-order mark: expected none but at the beginning of the file",
}


def read(file: Path) -> IniFile:
    """Parse a file.

    Raises:
        ConfigErrors: the file cannot be read, or a line has an error.
    """
    found = parse(file)
    if found.errors:
        raise ConfigErrors(found.errors)
    return found


def section(
    kind: type[Section],
    title: str,
    parser: IniFile,
    folder: Path,
    errors: list[str],
    /,
    *,
    defaults: Mapping[str, str] | None = None,
    not_implemented: tuple[str, ...] = (),
    elsewhere: Mapping[str, Collection[str]] = {},
    **extra: Any,
) -> Section | None:
    """Read one section.

    Args:
        kind: the class of the section.
        title: name of the section; if the file does not have it, all options have defaults.
        folder: the folder of the file.
        errors: receives a line for each error.
        defaults: texts that replace the defaults of options.
        not_implemented: options that are known but rejected.
        elsewhere: the sections of each option, by the option's name.
        extra: further arguments of the class, not options.

    Returns:
        The settings; None if there was an error.
    """
    fields = [field for field in attrs.fields(kind) if field.metadata]
    names = {name for field in fields for name in option_names(field)}
    before = len(errors)
    given = dict(parser.items(title)) if parser.has_section(title) else {}
    given = _split_indented(title, given, names, errors)
    values: dict[str, Any] = dict(extra)
    for field in fields:
        fallback = (defaults or {}).get(field.name, field.metadata["default"])
        try:
            values[field.name] = _value(field, given, fallback, folder)
        except _Missing as error:
            if title not in parser.incomplete:  # else it may be in a line that cannot be read
                errors.append(f"[{title}] {field.name}: expected {error}")
        except ValueError as error:
            errors.append(f"[{title}] {_describe(field, given)}: expected {error}")
    for name in given:
        if name in not_implemented:
            errors.append(f"[{title}] {name}: {NOT_IMPLEMENTED}")
        elif name not in names:
            place = f"[{title}] {format_value(name)}"
            errors.append(describe_unknown(place, "option", name, names, elsewhere))
    is_complete = len(values) == len(fields) + len(extra) and len(errors) == before
    return kind(**values) if is_complete else None


def _split_indented(
    title: str, given: Mapping[str, str], names: Collection[str], errors: list[str]
) -> dict[str, str]:
    """Find options that are indented by mistake, which makes them part of the previous option."""
    found: dict[str, str] = {}
    for name, value in given.items():
        first, *others = value.split("\n")
        found[name] = first
        inside = name
        for line in others:
            match = OPTION.fullmatch(line)
            if match and match[1] in names:
                inside = match[1]
                errors.append(
                    f"[{title}] {inside}: expected at the beginning of a line;"
                    f" indented, it is a part of {format_value(name)}"
                )
                found.setdefault(inside, match[2])
            else:
                found[inside] += f"\n{line}"
    return found


class _Missing(ValueError):
    """A required option is missing."""


def option_names(field: Any) -> list[str]:
    """List the names of the options that set a field; none if it is not an option."""
    return [name for name in (field.name, _file_option(field)) if name] if field.metadata else []


def _file_option(field: Any) -> str:
    """Return the name of the option for a secret's file; empty if the option is not secret."""
    return f"{field.name}_file" if field.metadata["secret"] else ""


def _value(field: Any, given: Mapping[str, str], fallback: str | None, folder: Path) -> Any:
    """Find the text of one option and convert it."""
    value, file_option = given.get(field.name), _file_option(field)
    convert = field.metadata["convert"]
    if file_option in given:
        if value is not None:
            raise ValueError(f"either {field.name} or {file_option}, not both")
        if not given[file_option]:
            raise ValueError("the path of a file, not empty")
        value = convert_text(file_text, given[file_option], folder)
        convert = field.metadata["convert_file"]
    if value is None:
        value = fallback
    if value is None:
        raise _Missing(f"{field.metadata['doc']} (required)")
    if not value:
        if field.metadata["default"] is None:
            raise ValueError(f"{field.metadata['doc']}, not empty")
        if not field.metadata["optional"]:
            raise ValueError("a value; leave the line out for the default")
        return None
    return convert_text(convert, value, folder, is_secret=field.metadata["secret"])


def convert_text(convert: Converter, value: str, folder: Path, *, is_secret: bool = False) -> Any:
    """Convert a text. An error mentions a comment or quotes in it.

    A secret may contain both: they are mentioned only if the secret is invalid.
    """
    try:
        converted = convert(value, folder)
    except ValueError as error:
        # The text in brackets may repeat the value, which may be partly hidden.
        is_hidden = hide(value) != printable(value)
        expected = str(error).partition(" (")[0] if is_hidden else str(error)
        raise ValueError(expected + _hint(convert, value, folder)) from None
    if not is_secret and _CLEAR_COMMENT.search(value):
        raise ValueError(f"a value alone; {COMMENTS}")
    if not is_secret and _QUOTED.fullmatch(value):
        raise ValueError("a value without quotes")
    return converted


def _hint(convert: Converter, value: str, folder: Path) -> str:
    """Return a hint if the value would be valid without a trailing comment or without quotes."""
    comment = _COMMENT.search(value)
    quoted = _QUOTED.fullmatch(value)
    for rest, hint in (
        (comment and value[: comment.start()].rstrip(), f"; {COMMENTS}"),
        (quoted and value[1:-1], "; without quotes"),
    ):
        if rest is not None and _is_right(convert, rest, folder):
            return hint
    return ""


def _is_right(convert: Converter, value: str, folder: Path) -> bool:
    try:
        convert(value, folder)
    except ValueError:
        return not value  # an empty value is the default
    return True


def _describe(field: Any, given: Mapping[str, str]) -> str:
    """Format an option for an error, with its value if that may be shown."""
    file_option = _file_option(field)
    if file_option in given and field.name not in given:
        return f"{file_option} = {format_value(given[file_option])}"
    if field.metadata["shown"] and field.name in given:
        return f"{field.name} = {format_value(given[field.name])}"
    return str(field.name)
