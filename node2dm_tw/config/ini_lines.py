"""Reads the lines of an INI file, continues after errors, and formats values for errors."""

import re

import attrs

from node2dm_tw.config.converters import printable

MAX_SHOWN = 80
"""Maximum number of characters of a value that an error shows."""

MAX_LINE_ERRORS = 20
"""Maximum number of errors about single lines; another kind of file has one on each line."""

COMMENTS = "comments need a line of their own"

_NAME_OF_SECRET = re.compile(
    r"(?i)\w*(?:password|secret|token|key|accounts|proxy)\w*(?:\s*[=:]|\s+\S)"
)
_HEADER = re.compile(r"\[([^][=]+)\]")
OPTION = re.compile(r"([^\s=:]+)\s*[=:]\s*(.*)", re.DOTALL)


def mask(value: str) -> str:
    """Hide the user and the password in a URL, and its query, which is often secret too."""
    form, hidden = (r"//.*@", "//***@") if "//" in value else (r"^.*:.*@", "***@")
    return re.sub(form, hidden, value).partition("?")[0]


def hide(value: str) -> str:
    """Escape a value so that it is one line, and omit what may be secret.

    Secret may be the continuation lines, because one of them may be an option that is indented by
    mistake, and the text after the name of a secret in the same line.
    """
    first, _, rest = value.partition("\n")
    if first.startswith("{") or "-----" in first:
        return "..."  # a key instead of the path of its file
    shown, *more = _NAME_OF_SECRET.split(mask(first), maxsplit=1)
    return printable(shown) + ("..." if rest or more else "")


def format_value(value: str) -> str:
    """Format a value for an error: as `hide` does, and shortened."""
    shown = hide(value)
    return shown if len(shown) <= MAX_SHOWN + 3 else f"{shown[:MAX_SHOWN]}..."


@attrs.define
class LineReader:
    """Reads lines as RawConfigParser does, but continues after an error.

    No error repeats a line, because the line may contain a secret.
    """

    sections: dict[str, dict[str, list[str]]] = attrs.field(factory=dict)
    errors: list[str] = attrs.field(factory=list)
    incomplete: set[str] = attrs.field(factory=set)
    _title: str | None = None
    _is_lost: bool = False
    _value: list[str] | None = None
    _indent: int = 0
    _defined: dict[tuple[str, str], int] = attrs.field(factory=dict)

    def read(self, number: int, line: str) -> None:
        """Read a line; `number` counts from 1."""
        text = line.strip()
        if text.startswith(("#", ";")):
            return
        if not text:
            if self._value is not None:
                self._value.append("")
            return
        indent = len(line) - len(line.lstrip())
        if self._value is not None and indent > self._indent and not _HEADER.fullmatch(text):
            self._value.append(text)
            return
        self._indent, self._value = indent, None
        if text.startswith("["):
            self._read_header(number, text)
        elif self._title is not None:
            self._read_option(number, text, self._title)
        elif not self._is_lost:
            self._is_lost = True
            self.errors.append(f"line {number}: expected a [section] first")

    def _read_header(self, number: int, text: str) -> None:
        match = _HEADER.match(text)
        self._title, self._is_lost = (match[1] if match else None), True
        if match is None:
            self.errors.append(f"line {number}: expected [section]")
            return
        rest = text[match.end() :].lstrip()
        if rest:
            reason = COMMENTS if rest[0] in "#;" else "options need a line of their own"
            self.errors.append(f"line {number}: expected [section] alone; {reason}")
            self.incomplete.add(match[1])
        self._define(number, match[1], "")
        self.sections.setdefault(match[1], {})

    def _read_option(self, number: int, text: str, title: str) -> None:
        match = OPTION.fullmatch(text)
        self._value = []  # also after an invalid line, so that its continuation is not an error
        if match is None:
            self.errors.append(f"line {number}: expected option = value")
            self.incomplete.add(title)
            return
        self._value.append(match[2])
        self._define(number, title, match[1])
        self.sections[title].setdefault(match[1], self._value)

    def _define(self, number: int, title: str, name: str) -> None:
        first = self._defined.setdefault((title, name), number)
        if first != number:
            place = format_value(f"[{title}] {name}".rstrip())
            self.errors.append(f"line {number}: {place} is defined twice, first in line {first}")
