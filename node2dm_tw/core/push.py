"""A push, and its two forms: node2dm's line and the JSON object."""

import functools
import json
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from unicodedata import category

MAX_NESTING = 16
"""Maximum nesting depth of `notification`, far below any JSON parser's recursion limit."""

MAX_TOKEN_BYTES = 4096
"""Maximum length of a token or fid; Google's have about 160 bytes."""

MAX_TTL_SECONDS = 2_419_200
"""Maximum time to live: four weeks, the limit of FCM."""

TARGETS = ("token", "fid", "topic", "condition")

REASONS = {
    "ambiguous": "on an FCM route: more than two colons and no `:{`, so that token and collapse key"
    " cannot be told apart: expected the JSON form",
    "collapse_key": "the collapse key is empty, and C2DM needs one: expected"
    " `token:collapse_key:payload`",
    "colons": "fewer than two colons: expected `token:collapse_key:payload`, or a JSON object on"
    " one line",
    "empty": "the datagram has no line: expected a push on each line",
    "field": "the JSON form has an unknown field, one twice, or one of the wrong type",
    "http": "the datagram is a message of HTTP, RTSP or SIP; its lines count as one: expected"
    " `token:collapse_key:payload`, or a JSON object on one line",
    "json": "it begins like JSON, but is not a JSON object: expected one object on one line,"
    " without line feeds",
    "reserved": "on an FCM route: data has a key that FCM reserves: expected a key other"
    " than `from`, `message_type`, `google...` and `gcm...`",
    "source": "the datagram comes from an address that `allow` does not name",
    "target": "the JSON form names more than one target: expected one of token, fid, topic,"
    " condition",
    "token": "the token or fid is empty, too long, or has white space, a quote, a bracket or an"
    " invisible character: expected 1 to 4096 bytes of other characters; or the JSON form names no"
    " target",
    "too_large": "more data than the service takes: expected at most 1024 bytes for C2DM, 4096 for"
    " FCM, 2048 to a topic",
    "unknown_route": "it names a route that is not configured",
    "unsupported": "the JSON form has a field that the service of its route cannot carry",
    "utf8": "it is not valid UTF-8: expected text in UTF-8",
}
"""Every reason why a line is invalid, and its meaning."""

NO_SUCH_FIELD = "left out: there is no such field"


class InvalidPush(Exception):
    """A line is not a valid push."""

    def __init__(self, reason: str, field: str = "", expected: str = "") -> None:
        """Store the reason.

        Args:
            reason: one of `REASONS`, the name under which `messages_invalid` counts it.
            field: the invalid field of the JSON form, or empty.
            expected: what the field must be, if `REASONS` does not describe it.
        """
        super().__init__(f"{reason}: {field}" if field else reason)
        self.reason = reason
        self.field = _shorten(field) if field else ""
        self._expected = expected

    @property
    def detail(self) -> str:
        """A description for people, with the invalid field but never with its value."""
        if self._expected:
            verb = f"{self.field} must be" if self.field else "expected"
            return f"{verb} {self._expected}"
        why = REASONS[self.reason]
        return f"{self.field}: {why}" if self.field else why


def _shorten(field: str) -> str:
    """Shorten the name of a field for a log: a sender chose it, and it may be a token."""
    text = field.encode("utf-8", "backslashreplace").decode()
    return text if len(text) <= 48 else f"{text[:24]}..."


@dataclass(slots=True)
class Push:
    """A push: its bytes, where they split, and when it was received. Immutable by convention.

    It is small, because a million may wait: fields are split and decoded when they are needed.

    Args:
        line: ``device:collapse_key:payload``, valid UTF-8.
        device_end: index of the colon that ends the device.
        key_end: index of the colon that ends the collapse key.
        received: when it was received, in seconds of the monotonic clock.
        is_json: whether the payload is the JSON form (see `fields`); otherwise it is `data.data`.
    """

    line: bytes
    device_end: int
    key_end: int
    received: float
    is_json: bool = False

    @property
    def device(self) -> bytes:
        """The registration ID, or another target of the JSON form."""
        return self.line[: self.device_end]

    @property
    def collapse_key(self) -> bytes:
        """The collapse key; may be empty if the service allows it."""
        return self.line[self.device_end + 1 : self.key_end]

    @property
    def payload(self) -> bytes:
        """Everything after the collapse key."""
        return self.line[self.key_end + 1 :]

    @property
    def fields(self) -> dict[str, Any]:
        """The object of the JSON form, which was checked when it was received."""
        decoded: dict[str, Any] = json.loads(self.payload)
        return decoded

    @property
    def id(self) -> str | None:
        """The name that its sender gave it; None if it gave none."""
        return self.fields.get("id") if self.is_json and b'"id":"' in self.line else None

    @property
    def data(self) -> dict[str, str]:
        """The data for the application on the device."""
        if self.is_json:
            return data_of(self.fields)
        return {"data": self.payload.decode()}

    @property
    def has_single_device(self) -> bool:
        """Whether it goes to one device, not to a topic or a condition."""
        return not self.is_json or not {"topic", "condition"} & self.fields.keys()

    @property
    def message_body(self) -> str:
        """The data as a text: a text unchanged, an object as JSON."""
        if not self.is_json:
            return self.payload.decode()
        data = self.fields.get("data", {})
        return data if isinstance(data, str) else json.dumps(data, ensure_ascii=False)


_new_push: Callable[[], Push] = functools.partial(object.__new__, Push)
"""Makes a push without fields, which are set one by one: two thirds of the cost of `Push`."""


def data_of(fields: dict[str, Any]) -> dict[str, str]:
    """Return the data of the JSON form as names and texts."""
    data: str | dict[str, str] = fields.get("data", {})
    return {"data": data} if isinstance(data, str) else data


def split_at_colons(line: bytes, received: float, key_end: int | None = None) -> Push:
    """Parse node2dm's form: ``token:collapse_key:payload``.

    Args:
        key_end: index of the colon before the payload, for tokens that contain colons; by default
            the second colon. -1: there is none.

    Raises:
        InvalidPush: `colons`, `utf8` or `token`.
    """
    if key_end is None:
        device_end = line.find(b":")
        key_end = line.find(b":", device_end + 1)
    else:
        device_end = line.rfind(b":", 0, key_end)
    if device_end < 0 or key_end < 0:
        raise InvalidPush("colons")
    if not line.isascii():
        check_utf8(line)
    token = line[:device_end]
    if token.translate(_PLAIN) != token or device_end > MAX_TOKEN_BYTES or not token:
        check_token(token)
    push = _new_push()
    push.line, push.received, push.is_json = line, received, False
    push.device_end, push.key_end = device_end, key_end
    return push


def check_utf8(line: bytes) -> None:
    """Raise `InvalidPush` unless `line` is valid UTF-8."""
    try:
        line.decode()
    except UnicodeDecodeError as error:
        raise InvalidPush("utf8") from error


_PLAIN = bytes(
    byte if 33 <= byte <= 126 and byte not in b"\"'`()[]{}<>" else byte ^ 1 for byte in range(256)
)
"""Translates bytes of usual tokens to themselves, and every other byte to another one."""

_CATEGORIES_NOT_IN_TOKENS = {"Cc", "Cf", "Zs", "Zl", "Zp", "Pi", "Pf", "Ps", "Pe"}
"""Unicode's categories of control and format characters, white space, quotes and brackets."""


def check_token(token: bytes, field: str = "") -> None:
    """Raise `InvalidPush` unless `token`, which is UTF-8, may be a registration or installation ID.

    Google's tokens consist of letters, digits, ``-``, ``_`` and ``:``. Only characters are rejected
    that show that a line was not meant as a push.
    """
    is_plain = token.translate(_PLAIN) == token
    if not 0 < len(token) <= MAX_TOKEN_BYTES or not (is_plain or _is_readable(token.decode())):
        raise InvalidPush("token", field)


def _is_readable(token: str) -> bool:
    """Whether a token with unusual characters contains none that is forbidden."""
    return not any(
        letter in "\"'`<>" or category(letter) in _CATEGORIES_NOT_IN_TOKENS for letter in token
    )


def read_json(line: bytes, received: float) -> tuple[str | None, Push]:
    """Parse the JSON form; see `read_fields`. Raises InvalidPush: also `json` and `utf8`."""
    found = decode_json(line)
    if not isinstance(found, dict):
        raise InvalidPush("json")
    return read_fields(found, received)


def read_fields(found: dict[str, Any], received: float) -> tuple[str | None, Push]:
    """Check the decoded object of the JSON form.

    Returns:
        The route that it names, or None, and the push. The payload of the push is the object
        without route, blanks and nulls.

    Raises:
        InvalidPush: `field`, `token` (no target), `target` (several), or `utf8` and `json` for
            values that cannot be encoded.
    """
    fields = {name: _read_field(name, value) for name, value in found.items() if value is not None}
    route = fields.pop("route", None)
    target = _find_target(fields)
    try:
        device = fields[target].encode()
        key = fields.get("collapse_key", "").encode()
        payload = _dumps(fields).encode()
    except ValueError:
        raise _find_unwritable(fields) from None
    if target in ("token", "fid"):
        check_token(device, target)
    end = len(device)
    return route, Push(b":".join((device, key, payload)), end, end + 1 + len(key), received, True)


def decode_json(line: bytes) -> Any:
    """Decode one line of JSON as in RFC 8259, without NaN and without repeated names.

    Raises:
        InvalidPush: `utf8`, `json`, or `field` for a repeated name.
    """
    try:
        return DECODER.decode(line.decode())
    except UnicodeDecodeError as error:
        raise InvalidPush("utf8") from error
    except (ValueError, RecursionError) as error:
        raise InvalidPush("json") from error


def _reject_repeated_names(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = Counter(name for name, _ in pairs)
        raise InvalidPush("field", names.most_common(1)[0][0], "given once")
    return found


def _reject_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


DECODER = json.JSONDecoder(
    object_pairs_hook=_reject_repeated_names, parse_constant=_reject_constant
)
"""Decodes JSON as in RFC 8259, without NaN; raises InvalidPush for a name that is given twice."""

_dumps = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode


def _find_target(fields: dict[str, Any]) -> str:
    """Return which one of `TARGETS` is in the fields."""
    targets = [name for name in TARGETS if name in fields]
    if not targets or not fields[targets[0]]:
        raise InvalidPush(
            "token", targets[0] if targets else "token", "given, or another target in its place"
        )
    if len(targets) > 1:
        raise InvalidPush("target", targets[1])
    return targets[0]


def _find_unwritable(fields: dict[str, Any]) -> InvalidPush:
    """Find the field that JSON or UTF-8 cannot encode: 1e999, or half of a surrogate pair."""
    for path, value in _paths(fields):
        try:
            _dumps(value).encode()
        except UnicodeEncodeError:
            return InvalidPush("utf8", path)
        except ValueError:
            return InvalidPush("field", path, "a number that JSON can carry")
    return InvalidPush("json")


def _paths(fields: dict[str, Any]) -> list[tuple[str, Any]]:
    """List the fields; the fields of an object are listed as ``name.inner``."""
    return [
        (path, value)
        for name, outer in fields.items()
        for path, value in (
            [(f"{name}.{inner}", {inner: value}) for inner, value in outer.items()]
            if isinstance(outer, dict)
            else [(name, outer)]
        )
    ]


def _read_field(name: str, value: Any) -> Any:
    """Convert the value of a field to the form that the rest of the gateway uses."""
    if name not in _FIELDS:
        raise InvalidPush("field", name, NO_SUCH_FIELD)
    read, expected = _FIELDS[name]
    found = read(value)
    if found is None:
        raise InvalidPush("field", name, expected)
    return found


def _read_text(value: object) -> str | None:
    return value if isinstance(value, str) else None


_ID = re.compile(r"[A-Za-z0-9._:-]{1,64}")


def _read_id(value: object) -> str | None:
    return value if isinstance(value, str) and _ID.fullmatch(value) else None


def _read_data(value: object) -> str | dict[str, str] | None:
    if not isinstance(value, dict):
        return _read_text(value)
    for key, text in value.items():
        if not isinstance(text, str):
            raise InvalidPush("field", f"data.{key}", "a text")
    return None if "" in value else value


def _read_seconds(value: object) -> int | None:
    """Convert a whole number, which some languages write as 60.0."""
    is_whole = isinstance(value, float) and value.is_integer()
    if not is_whole and (not isinstance(value, int) or isinstance(value, bool)):
        return None
    seconds = int(value)  # type: ignore[call-overload]
    return seconds if 0 <= seconds <= MAX_TTL_SECONDS else None


def _read_priority(value: object) -> str | None:
    text = value.lower() if isinstance(value, str) else ""
    return text if text in ("normal", "high") else None


def _read_boolean(value: object) -> bool | None:
    return value if isinstance(value, bool) else None


def _read_notification(value: object) -> dict[str, Any] | None:
    if not isinstance(value, dict) or not _is_shallow(value, MAX_NESTING):
        return None
    return {name: inner for name, inner in value.items() if inner is not None}


def _is_shallow(value: object, levels: int) -> bool:
    if not isinstance(value, dict | list):
        return True
    inner = value.values() if isinstance(value, dict) else value
    return levels > 0 and all(_is_shallow(each, levels - 1) for each in inner)


_FIELDS: dict[str, tuple[Callable[[object], Any], str]] = {
    **dict.fromkeys(("route", *TARGETS, "collapse_key"), (_read_text, "a text")),
    "id": (_read_id, "1 to 64 of the characters A-Z a-z 0-9 . _ : -"),
    "data": (_read_data, "a text, or an object of names, none of them empty, and texts"),
    "ttl": (_read_seconds, f"a whole number of seconds, 0 to {MAX_TTL_SECONDS}"),
    "priority": (_read_priority, "normal or high"),
    "delay_while_idle": (_read_boolean, "true or false"),
    "notification": (_read_notification, f"an object, nested at most {MAX_NESTING} deep"),
}
"""For each field its converter, which returns None for an invalid value, and what is expected."""


def check_size(texts: dict[str, str], most: int, field: str) -> None:
    """Check that names and texts together have at most `most` bytes of UTF-8.

    Raises:
        InvalidPush: `too_large`, with `field`.
    """
    if sum(len(name.encode()) + len(text.encode()) for name, text in texts.items()) > most:
        raise InvalidPush("too_large", field)
