"""Reads the rows of node2dm-push from CSV or JSON lines."""

import csv
import itertools
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import fields as fields_of
from typing import Any, NamedTuple

from node2dm_tw.client import FLAGS, OBJECTS, Push

_BEFORE_JSON = " \t\r\n\v\f\ufeff"
_LINE_END = "\r\n\0"
"""Skipped before an object, and at the end of a line, as the gateway does."""


_WITH_SUBSCRIPTION = ("token", "fid", "route", "id", "urgent", "subscribe", "unsubscribe")


class InputError(Exception):
    """The input cannot be read at all; the text is the reason."""


class Row(NamedTuple):
    """One record of the input.

    Args:
        number: of the line where it begins, from 1.
        fields: by the names of the JSON form, or the error.
    """

    number: int
    fields: dict[str, Any] | ValueError


def read_rows(lines: Iterable[str]) -> Iterator[Row]:
    """Read CSV or JSON lines, depending on the first line with text.

    Raises:
        InputError: the CSV header has an unknown column, or a column twice.
    """
    source = iter(lines)
    for before, line in enumerate(source):
        if text := line.lstrip(_BEFORE_JSON):
            read = _json_rows if text.startswith("{") else _csv_rows
            return read(itertools.chain([line], source), before)
    return iter(())


def check_subscription(push: Push) -> None:
    """Check that a push that changes a subscription has no message.

    Raises:
        ValueError: with the first field that it should not have.
    """
    if push.subscribe and push.unsubscribe:
        raise ValueError("unsubscribe is given: expected none beside subscribe")
    verb = "subscribe" if push.subscribe else "unsubscribe"
    if getattr(push, verb):
        for field in fields_of(push):
            if field.name not in _WITH_SUBSCRIPTION and getattr(push, field.name) != field.default:
                raise ValueError(f"{field.name} is given: expected none beside {verb}")


def _json_rows(lines: Iterator[str], before: int) -> Iterator[Row]:
    """Read an object a line; `before` lines came before the first."""
    for number, line in enumerate(lines, before + 1):
        if text := line.lstrip(_BEFORE_JSON).rstrip(_LINE_END):
            try:
                fields = decode(text)
            except (ValueError, RecursionError) as error:
                yield Row(number, ValueError(f"not JSON: {error}"))
            else:
                yield Row(
                    number,
                    fields
                    if isinstance(fields, dict)
                    else ValueError("expected a JSON object on the line"),
                )


def _without_repetition(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        repeated = Counter(name for name, _ in pairs).most_common(1)[0][0]
        raise ValueError(f"{repeated[:48]!r} is there twice")
    return found


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


decode = json.JSONDecoder(object_pairs_hook=_without_repetition, parse_constant=_no_constant).decode


def _csv_rows(lines: Iterator[str], before: int) -> Iterator[Row]:
    """Read the header at once and a record a row; `before` lines came before the header."""
    reader = csv.reader(lines, strict=True)
    try:
        header = [name.strip() for name in next(reader)]
    except csv.Error as error:
        raise InputError(f"the header row is not CSV: {error}") from None
    known = tuple(Push.__dataclass_fields__)
    unknown = [name for name in header if name not in known]
    if unknown:
        raise InputError(
            f"unknown columns: {', '.join(map(repr, unknown))} (known: {', '.join(known)})"
        )
    if len(set(header)) < len(header):
        raise InputError("the header row names a column twice")

    def rows() -> Iterator[Row]:
        while True:
            number = before + reader.line_num + 1
            try:
                cells = next(reader)
                if cells:
                    yield Row(number, _record(header, cells))
            except StopIteration:
                return
            except (csv.Error, ValueError) as error:
                yield Row(number, ValueError(str(error)))

    return rows()


def _record(header: list[str], cells: list[str]) -> dict[str, Any]:
    if len(cells) != len(header):
        raise ValueError(f"{len(cells)} cells where the header row has {len(header)}")
    named = zip(header, cells, strict=True)
    return {name: _value(name, cell) for name, cell in named if cell or name == "data"}


def _value(name: str, cell: str) -> object:
    """Convert a CSV cell to a value of the JSON form.

    Raises:
        ValueError: the cell has another type than the column.
    """
    if name not in _CELLS:
        return cell
    read, expected = _CELLS[name]
    try:
        return read(cell)
    except (ValueError, KeyError, RecursionError):
        raise ValueError(f"{name} = {cell[:48]!r}: expected {expected}") from None


def _read_seconds(cell: str) -> float:
    return int(cell) if cell.isdecimal() else float(cell)


def _read_boolean(cell: str) -> bool:
    return {"true": True, "1": True, "false": False, "0": False}[cell.lower()]


_CELLS: dict[str, tuple[Callable[[str], object], str]] = {
    "ttl": (_read_seconds, "a whole number of seconds"),
    **dict.fromkeys(FLAGS, (_read_boolean, "true or false")),
    **dict.fromkeys(OBJECTS, (decode, "JSON")),
}
"""For each column that has no text its converter, and what is expected."""
