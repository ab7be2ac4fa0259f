"""The JSON form of a push: from the bytes or the object to a checked `Push`."""

import json
import re
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

from node2dm_tw.core.push import (
    MAX_TTL_SECONDS,
    NO_SUCH_FIELD,
    SUBSCRIPTIONS,
    TARGETS,
    InvalidPush,
    Push,
    check_token,
)

MANY_TARGETS = ("tokens", "fids")

MAX_DEVICES = 500
"""Maximum number of `tokens` or `fids` of one object."""

MAX_NESTING = 16
"""Maximum nesting depth of an object, far below any JSON parser's recursion limit."""


def read_json(line: bytes, received: float) -> tuple[str | None, Push]:
    """Parse the JSON form; see `read_fields`. Raises InvalidPush: also `json` and `utf8`."""
    found = decode_json(line)
    if not isinstance(found, dict):
        raise InvalidPush("json")
    return read_fields(found, received)


def read_fields(found: dict[str, Any], received: float) -> tuple[str | None, Push]:
    """Make a push of the decoded object of the JSON form.

    Returns:
        The route that it names, or None, and the push.

    Raises:
        InvalidPush: see `check_fields` and `make_push`.
    """
    fields = check_fields(found)
    route = fields.pop("route", None)
    return route, make_push(fields, received)


def check_fields(found: dict[str, Any]) -> dict[str, Any]:
    """Return the fields of a decoded object in the form that the gateway uses, without nulls.

    Raises:
        InvalidPush: `field`.
    """
    fields = {}
    for name, value in found.items():
        if value is None:
            continue
        if name not in _FIELDS:
            raise InvalidPush("field", name, NO_SUCH_FIELD)
        read, expected = _FIELDS[name]
        fields[name] = read(value)
        if fields[name] is None:
            raise InvalidPush("field", name, expected)
    return fields


def split_targets(fields: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the fields of each push: one for each of `tokens` or `fids`, otherwise one in all.

    Raises:
        InvalidPush: `target` (there is another target), or `token` (one is empty).
    """
    many = next((name for name in MANY_TARGETS if name in fields), None)
    if many is None:
        return [fields]
    rest = {name: value for name, value in fields.items() if name != many}
    if other := next((name for name in (*TARGETS, *MANY_TARGETS) if name in rest), None):
        raise InvalidPush("target", other)
    devices = fields[many]
    if "" in devices:
        raise InvalidPush("token", f"{many}[{devices.index('')}]")
    split = [{many[:-1]: device} | rest for device in devices]
    if "id" in rest:
        for each, id_ in zip(split, list_ids(fields), strict=True):
            each["id"] = id_
    return split


def list_ids(fields: Mapping[str, Any]) -> list[str]:
    """Return the ids of the pushes that `split_targets` makes of fields with an id."""
    many = next((fields[name] for name in MANY_TARGETS if fields.get(name)), None)
    if many is None:
        return [fields["id"]]
    return [f"{fields['id']}/{index}" for index in range(len(many))]


def make_push(fields: dict[str, Any], received: float) -> Push:
    """Make a push of what `check_fields` returned, without the route. That is its payload.

    Raises:
        InvalidPush: `token` (no target), `target` (several), or `utf8` and `json` for values that
            cannot be encoded.
    """
    target = _find_target(fields)
    try:
        device = fields[target].encode()
        key = _find_collapse_key(fields).encode()
        payload = _dumps(fields).encode()
    except ValueError:
        raise _find_unwritable(fields) from None
    if target in ("token", "fid"):
        check_token(device, target)
    end = len(device)
    line, key_end = b":".join((device, key, payload)), end + 1 + len(key)
    return Push(line, end, key_end, received, True, fields.get("urgent", False))


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


def _find_collapse_key(fields: dict[str, Any]) -> str:
    """Return the collapse key, which may also stand in FCM's blocks for Android."""
    places = (fields, fields.get("android", {}), fields.get("android_v2", {}))
    found = (place.get("collapse_key") for place in places)
    return next((key for key in found if isinstance(key, str)), "")


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


def _read_text(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _read_topic(value: object) -> str | None:
    return value.removeprefix("/topics/") if isinstance(value, str) else None


_ID = re.compile(r"[A-Za-z0-9._:-]{1,64}(?:/[0-9]{1,3})?")
"""What is after the slash is ours: the index of one of many targets."""


def _read_id(value: object) -> str | None:
    return value if isinstance(value, str) and _ID.fullmatch(value) else None


def _read_devices(value: object) -> list[str] | None:
    if not isinstance(value, list) or not 0 < len(value) <= MAX_DEVICES:
        return None
    return value if all(isinstance(each, str) for each in value) else None


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


def _read_object(value: object) -> dict[str, Any] | None:
    return value if isinstance(value, dict) and _is_shallow(value, MAX_NESTING) else None


def _read_notification(value: object) -> dict[str, Any] | None:
    found = _read_object(value)
    return found and {name: inner for name, inner in found.items() if inner is not None}


def _is_shallow(value: object, levels: int) -> bool:
    if not isinstance(value, dict | list):
        return True
    inner = value.values() if isinstance(value, dict) else value
    return levels > 0 and all(_is_shallow(each, levels - 1) for each in inner)


_OBJECT = f"an object, nested at most {MAX_NESTING} deep"

_FIELDS: dict[str, tuple[Callable[[object], Any], str]] = {
    **dict.fromkeys(("route", *TARGETS, "collapse_key"), (_read_text, "a text")),
    **dict.fromkeys(MANY_TARGETS, (_read_devices, f"a list of 1 to {MAX_DEVICES} texts")),
    **dict.fromkeys(sorted(SUBSCRIPTIONS), (_read_topic, "a text")),
    "id": (_read_id, "1 to 64 of the characters A-Z a-z 0-9 . _ : -"),
    "data": (_read_data, "a text, or an object of names, none of them empty, and texts"),
    "ttl": (_read_seconds, f"a whole number of seconds, 0 to {MAX_TTL_SECONDS}"),
    "priority": (_read_priority, "normal or high"),
    "delay_while_idle": (_read_boolean, "true or false"),
    "notification": (_read_notification, _OBJECT),
    **dict.fromkeys(
        ("android", "android_v2", "apns", "webpush", "fcm_options"), (_read_object, _OBJECT)
    ),
    **dict.fromkeys(("validate_only", "urgent"), (_read_boolean, "true or false")),
}
"""For each field its converter, which returns None for an invalid value, and what is expected."""
