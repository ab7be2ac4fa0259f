"""Parses the body of a request: a JSON object, an array of objects, or objects on lines."""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

import attrs

from node2dm_tw.core.json_form import DECODER, decode_json, list_ids
from node2dm_tw.core.push import InvalidPush, Push
from node2dm_tw.core.web import WebResponse
from node2dm_tw.intake.parser import IntakeRoute, LineParser

MAX_PUSHES = 1_000
"""Maximum number of pushes in a request."""

MAX_PUSH_BYTES = 65_507
"""Maximum length of a push, as in a datagram."""

MAX_ERRORS = 100
"""Maximum number of invalid pushes that an answer describes."""

_LINES = (b"application/x-ndjson", b"application/ndjson", b"application/jsonl")
_TYPE = re.compile(rb'([^;\s]*)\s*(?:;\s*charset\s*=\s*"?(?:utf-8|us-ascii)"?\s*)?', re.IGNORECASE)

_LINE = re.compile(rb"[^\s\0\xef\xbb\xbf][^\n]*")
"""What is on a line, without the blanks and byte-order marks before it."""

_START = re.compile(r"\[[ \t\r\n]*(\][ \t\r\n]*\Z)?")
_SEPARATOR = re.compile(r"[ \t\r\n]*(?:,[ \t\r\n]*|(\][ \t\r\n]*\Z))")
"""What stands before the elements of an array; group 1: the array ends here."""

WRONG_TYPE = WebResponse(
    b"the Content-Type is another one: expected application/json (one push, or an array of them)"
    b" or application/x-ndjson (one on each line), in UTF-8; with curl:"
    b" -H 'Content-Type: application/json'\n",
    status=415,
)
COMPRESSED = WebResponse(b"the body has a Content-Encoding: expected none\n", status=415)

Headers = Mapping[bytes, bytes]


def _content_type(headers: Headers) -> bytes:
    """Return the type in lower case; empty if its parameters are not those of UTF-8."""
    match = _TYPE.fullmatch(headers.get(b"content-type", b"application/json"))
    return match[1].lower() if match else b""


def refuse_type(headers: Headers) -> WebResponse | None:
    """Return why a body with these headers is not parsed; None: it is."""
    if headers.get(b"content-encoding", b"identity").lower() != b"identity":
        return COMPRESSED
    is_known = _content_type(headers) in (b"application/json", *_LINES)
    return None if is_known else WRONG_TYPE


Value = tuple[Any, int]
"""A decoded JSON value, or the `InvalidPush` in its place; and its length."""


def read_values(body: bytes, headers: Headers) -> Iterator[Value]:
    """Decode the JSON values in a body, one by one."""
    if _content_type(headers) in _LINES:
        return _read_lines(body)
    text = body.decode("utf-8", "surrogateescape").lstrip("\ufeff \t\r\n")
    return _read_array(text) if text.startswith("[") else _read_single(body)


def _read_lines(body: bytes) -> Iterator[Value]:
    for line in _LINE.finditer(body):
        text = line[0].rstrip(b" \t\r\0")
        yield _decode(text, "a JSON object on each line"), len(text)


def _read_single(body: bytes) -> Iterator[Value]:
    text = body.strip(b"\xef\xbb\xbf \t\r\n")
    if text:
        expected = (
            "one JSON object or an array of them; objects on lines need the Content-Type"
            " application/x-ndjson"
        )
        yield _decode(text, expected), len(text)


def _decode(text: bytes, expected: str) -> Any:
    if len(text) > MAX_PUSH_BYTES:
        return _too_large()
    try:
        return decode_json(text)
    except InvalidPush as error:
        return InvalidPush("json", "", expected) if error.reason == "json" else error


def _too_large() -> InvalidPush:
    return InvalidPush("too_large", "", f"at most {MAX_PUSH_BYTES} bytes a push")


def _read_array(text: str) -> Iterator[Value]:
    """Decode the elements of an array, up to one that is not JSON: its end is not known."""
    separator = _START.match(text)
    while separator is not None and not separator[1]:
        start = separator.end()
        try:
            value, end = DECODER.raw_decode(text, start)
        except InvalidPush as error:
            yield error, len(text) - start
            return
        except (ValueError, RecursionError):
            break
        yield value if end - start <= MAX_PUSH_BYTES else _too_large(), end - start
        separator = _SEPARATOR.match(text, end)
    if separator is None or not separator[1]:
        yield InvalidPush("json", "", "an array of JSON objects"), len(text)


@attrs.define(eq=False)
class Batch:
    """The pushes of one request, parsed in slices.

    Args:
        parser: has the routes.
        values: what `read_values` returns.
        prefix: begins the ids of pushes without one.
        received: when the request was received, in seconds of the monotonic clock.
    """

    parser: LineParser
    values: Iterator[Value]
    prefix: str
    received: float
    pushes: dict[IntakeRoute, list[Push]] = attrs.field(factory=dict, init=False)
    ids: list[str] = attrs.field(factory=list, init=False)
    faults: list[tuple[int, InvalidPush, int]] = attrs.field(factory=list, init=False)
    """Index of an invalid push, what is wrong with it, and its length."""
    count: int = attrs.field(default=0, init=False)

    @property
    def is_too_long(self) -> bool:
        """Whether there are more pushes than a request may have."""
        return max(self.count, len(self.ids)) > MAX_PUSHES

    def read(self, until: float) -> bool:
        """Parse pushes until a moment of the clock, at least one; return whether all are parsed."""
        seconds = self.parser.clock.seconds
        for value, size in self.values:
            self.count += 1
            try:
                self._add(value)
            except InvalidPush as error:
                self.faults.append((self.count - 1, error, size))
            if self.is_too_long:
                return True
            if seconds() >= until:
                return False
        if not self.count:
            self.faults.append((0, InvalidPush("empty", "", "a push"), 0))
        return True

    def _add(self, value: Any) -> None:
        if isinstance(value, InvalidPush):
            raise value
        if not isinstance(value, dict):
            raise InvalidPush("json", "", "a JSON object")
        if value.get("id") is None:
            value["id"] = f"{self.prefix}{self.count}"
        route, pushes = self.parser.read_object(value, self.received)
        self.pushes.setdefault(route, []).extend(pushes)
        self.ids += list_ids(value)

    def describe_faults(self) -> bytes:
        """Write what is wrong as JSON."""
        errors = [
            {"index": index, "field": error.field, "reason": error.reason, "detail": error.detail}
            for index, error, _ in self.faults[:MAX_ERRORS]
        ]
        omitted = len(self.faults) - len(errors)
        more = {"omitted": omitted} if omitted else {}
        return json.dumps({"errors": errors, **more}).encode() + b"\n"

    def describe_receipt(self) -> bytes:
        """Write that all pushes are accepted, with their ids, as JSON."""
        return json.dumps({"accepted": len(self.ids), "ids": self.ids}).encode() + b"\n"
