"""A push, and the two forms it comes in: node2dm's line and the JSON object."""

import functools
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

LEVELS = 16
"""Objects and lists in one another that a notification may have, so that any stack can read it."""

TARGETS = ("token", "fid", "topic", "condition")


class InvalidPush(Exception):
    """These bytes are no push."""

    def __init__(self, reason: str, field: str = "") -> None:
        """Keep why.

        Args:
            reason: one word, the name under which `messages_invalid` counts it.
            field: the field of the JSON form that is at fault, or empty.
        """
        super().__init__(f"{reason}: {field}" if field else reason)
        self.reason = reason
        self.field = field


@dataclass(slots=True)
class Push:
    """One push as it waits: its bytes, where they split, and when they came; never changed.

    Small, because a million of them may wait: fields are cut and decoded when they are asked for.

    Args:
        line: ``device:collapse_key:payload``, valid UTF-8.
        device_end: index of the colon that ends the device.
        key_end: index of the colon that ends the collapse key.
        received: when it came in, in seconds of the monotonic clock.
        is_json: the payload is the JSON form, to be read with `fields`; else it is `data.data`.
    """

    line: bytes
    device_end: int
    key_end: int
    received: float
    is_json: bool = False

    @property
    def device(self) -> bytes:
        """The registration ID, or what the JSON form names in its place."""
        return self.line[: self.device_end]

    @property
    def collapse_key(self) -> bytes:
        """The collapse key; may be empty where the service allows it."""
        return self.line[self.device_end + 1 : self.key_end]

    @property
    def payload(self) -> bytes:
        """Everything after the collapse key."""
        return self.line[self.key_end + 1 :]

    @property
    def fields(self) -> dict[str, Any]:
        """The JSON form's object, checked when it came in."""
        decoded: dict[str, Any] = json.loads(self.payload)
        return decoded

    @property
    def data(self) -> dict[str, str]:
        """What the application on the device is to receive."""
        if self.is_json:
            data: str | dict[str, str] = self.fields.get("data", {})
            return {"data": data} if isinstance(data, str) else data
        return {"data": self.payload.decode()}

    @property
    def names_device(self) -> bool:
        """Whether it goes to one device, not to a topic or to whom a condition fits."""
        return not self.is_json or not {"topic", "condition"} & self.fields.keys()

    @property
    def message_body(self) -> str:
        """The data as a text: as it came where it was one, else as JSON."""
        if not self.is_json:
            return self.payload.decode()
        data = self.fields.get("data", {})
        return data if isinstance(data, str) else json.dumps(data, ensure_ascii=False)


_blank: Callable[[], Push] = functools.partial(object.__new__, Push)
"""Makes a push whose fields are yet to be set, one by one: two thirds of the cost of `Push`."""


def split_at_colons(line: bytes, received: float) -> Push:
    """Read node2dm's form: ``token:collapse_key:payload``, the payload all that follows.

    Raises:
        InvalidPush: `colons`, `token` or `utf8`.
    """
    device_end = line.find(b":")
    return cut(line, device_end, line.find(b":", device_end + 1), received)


def cut(line: bytes, device_end: int, key_end: int, received: float) -> Push:
    """Make a push of a line and its two colons, of which one that is missing is at -1.

    Raises:
        InvalidPush: `colons`, `token` or `utf8`.
    """
    if device_end < 0 or key_end < 0:
        raise InvalidPush("colons")
    if device_end == 0:
        raise InvalidPush("token")
    if not line.isascii():
        check_utf8(line)
    push = _blank()
    push.line, push.received, push.is_json = line, received, False
    push.device_end, push.key_end = device_end, key_end
    return push


def check_utf8(line: bytes) -> None:
    """Raise `InvalidPush` unless `line` is valid UTF-8."""
    try:
        line.decode()
    except UnicodeDecodeError as error:
        raise InvalidPush("utf8") from error


def read_json(line: bytes, received: float) -> tuple[str | None, Push]:
    """Read the JSON form.

    Returns:
        The route it names, or None, and the push; its payload is the object again, without route
        and blanks.

    Raises:
        InvalidPush: `utf8`, `json` (no object), `field`, `token` (no target), `target` (several).
    """
    check_utf8(line)
    try:
        fields = json.loads(line, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise InvalidPush("json") from error
    if not isinstance(fields, dict):
        raise InvalidPush("json")
    _check_fields(fields)
    route = fields.pop("route", None)
    targets = [name for name in TARGETS if name in fields]
    if not targets or not fields[targets[0]]:
        raise InvalidPush("token", targets[0] if targets else "token")
    if len(targets) > 1:
        raise InvalidPush("target", targets[1])
    try:
        device = fields[targets[0]].encode()
        key = fields.get("collapse_key", "").encode()
        payload = _dumps(fields).encode()
    except UnicodeEncodeError as error:  # half of a surrogate pair, written as \ud800
        raise InvalidPush("utf8") from error
    except ValueError as error:  # 1e999 is read as infinite, which JSON cannot say
        raise InvalidPush("json") from error
    end = len(device)
    return route, Push(b":".join((device, key, payload)), end, end + 1 + len(key), received, True)


_dumps = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _is_data(value: object) -> bool:
    return isinstance(value, str) or (
        isinstance(value, dict)
        and all(key and isinstance(text, str) for key, text in value.items())
    )


def _is_seconds(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= 2_419_200


def _is_priority(value: object) -> bool:
    return value in ("normal", "high")


def _is_boolean(value: object) -> bool:
    return isinstance(value, bool)


def _is_object(value: object) -> bool:
    return isinstance(value, dict) and _is_shallow(value, LEVELS)


def _is_shallow(value: object, levels: int) -> bool:
    if not isinstance(value, dict | list):
        return True
    inner = value.values() if isinstance(value, dict) else value
    return levels > 0 and all(_is_shallow(each, levels - 1) for each in inner)


_FIELDS: dict[str, Callable[[object], bool]] = {
    "route": _is_text,
    **dict.fromkeys(TARGETS, _is_text),
    "collapse_key": _is_text,
    "data": _is_data,
    "ttl": _is_seconds,
    "priority": _is_priority,
    "delay_while_idle": _is_boolean,
    "notification": _is_object,
}


def _check_fields(fields: dict[str, Any]) -> None:
    for name, value in fields.items():
        check = _FIELDS.get(name)
        if check is None or not check(value):
            raise InvalidPush("field", name)
