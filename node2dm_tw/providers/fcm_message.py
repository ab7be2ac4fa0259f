"""FCM's Message: what a push in the JSON form may say, and the message that it becomes.

The fields are those of https://firebase.google.com/docs/reference/fcm/rest/v1/projects.messages.
Only what the gateway itself needs of them is checked; everything else is passed on unchanged.
"""

import math
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from node2dm_tw.core.push import (
    MAX_TTL_SECONDS,
    NO_SUCH_FIELD,
    TARGETS,
    InvalidPush,
    Push,
    check_size,
    data_of,
)
from node2dm_tw.providers.fcm_topics import TOPIC

MAX_BYTES = 4096
"""Maximum size of keys and values of a message's data."""

MAX_TOPIC_BYTES = 2048
"""The same for a message to a topic or a condition."""

MAX_TOPICS = 5
"""Maximum number of topics in a condition."""

ANDROID = ("android", "android_v2")
"""The blocks for which `collapse_key`, `ttl` and `priority` are shorthands."""

UNCHANGED = ("notification", *ANDROID, "apns", "webpush", "fcm_options")

_RESERVED = re.compile(r"from|message_type|(?:google|gcm).*", re.DOTALL)
_CONDITION = re.compile(rf"(?:\s*(?:'{TOPIC}'\s+in\s+topics\b|&&|\|\||[!()]))+\s*")
_NOTIFICATION = frozenset(("title", "body", "image"))
_DURATION = re.compile(r"([0-9]{1,8}(?:\.[0-9]{1,9})?)s", re.ASCII)


def check(fields: Mapping[str, Any]) -> int:
    """Check the rules of FCM that the JSON form does not have.

    Returns:
        The maximum size of its data, in bytes.

    Raises:
        InvalidPush: for the first error.
    """
    if "delay_while_idle" in fields:
        raise InvalidPush("unsupported", "delay_while_idle", "left out: FCM cannot carry it")
    most = _check_target(fields)
    for key in data_of(fields):
        if _RESERVED.fullmatch(key):
            raise InvalidPush("reserved", f"data.{key}")
    _check_blocks(fields)
    return most


def _check_blocks(fields: Mapping[str, Any]) -> None:
    """Check what the gateway reads of the blocks, or writes into them."""
    for key, value in fields.get("notification", {}).items():
        field = f"notification.{key}"
        if key not in _NOTIFICATION:
            raise InvalidPush("field", field, NO_SUCH_FIELD)
        if not isinstance(value, str):
            raise InvalidPush("field", field, "a text")
    for name in _READERS:
        _read(fields, name)
    if "priority" in fields.get("android_v2", {}):
        raise InvalidPush("field", "android_v2.priority", "left out: android_v2 has none")
    if "android_v2" in fields and "android" not in fields and "priority" in fields:
        raise InvalidPush("field", "priority", "left out: android_v2 has none")
    if not isinstance(fields.get("apns", {}).get("headers"), dict | None):
        raise InvalidPush("field", "apns.headers", "an object of texts")


def check_sizes(push: Push, most: int) -> None:
    """Check that no part of a message has more than `most` bytes. Raises InvalidPush."""
    check_size(push.data, most, "data")
    if push.is_json:
        check_size(push.fields.get("notification", {}), most, "notification")
    if len(push.collapse_key) > most:
        raise InvalidPush("too_large", "collapse_key")


def read_ttl(fields: Mapping[str, Any]) -> float | None:
    """Return the time to live in seconds, wherever the message has it; None: it has none."""
    ttl: float | None = _read(fields, "ttl")
    return ttl


def build(push: Push, now: float, wall: Callable[[], float]) -> dict[str, Any]:
    """Build the body of `messages:send`.

    Args:
        push: in the JSON form, checked.
        now: seconds of the monotonic clock.
        wall: seconds since the epoch.
    """
    fields = push.fields
    message = {name: fields[name] for name in (*TARGETS, *UNCHANGED) if name in fields}
    if "data" in fields:
        message["data"] = data_of(fields)
    ttl = read_ttl(fields)
    left = None if ttl is None else _left(ttl, push.received, now)
    for name in [name for name in ANDROID if name in fields] or ["android"]:
        if (block := _android(name, fields, left)) or name in fields:
            message[name] = block
    if left is not None and "apns" in fields:
        message["apns"] = _expire(fields["apns"], wall() + left)
    body: dict[str, Any] = {"message": message}
    if "validate_only" in fields:
        body["validate_only"] = fields["validate_only"]
    return body


def _android(name: str, fields: Mapping[str, Any], left: int | None) -> dict[str, Any]:
    """Put the shorthands, and what is left of the time to live, into a block for Android."""
    block = dict(fields.get(name, {}))
    if "collapse_key" in fields:
        block["collapse_key"] = fields["collapse_key"]
    if "priority" in fields and name == "android":
        block["priority"] = fields["priority"].upper()
    if left is not None and ("ttl" in fields or block.get("ttl") is not None):
        block["ttl"] = f"{left}s"
    return block


def _left(ttl: float, received: float, now: float) -> int:
    """Return the rest of the time to live, rounded up, because 0 means "now or never"."""
    return max(0, math.ceil(ttl - (now - received)))


def _expire(apns: dict[str, Any], moment: float) -> dict[str, Any]:
    """Set when APNs gives up a message, unless the sender has.

    Source: apns-expiration of Apple's "Sending notification requests to APNs".
    """
    headers = apns.get("headers") or {}
    if any(name.lower() == "apns-expiration" for name in headers):
        return apns
    return apns | {"headers": headers | {"apns-expiration": str(int(moment))}}


def _check_target(fields: Mapping[str, Any]) -> int:
    if "topic" in fields:
        if not re.fullmatch(TOPIC, fields["topic"]):
            raise InvalidPush("field", "topic", "1 to 900 letters, digits, -, _, ., ~ and %")
        return MAX_TOPIC_BYTES
    if "condition" in fields:
        text = fields["condition"]
        if not _CONDITION.fullmatch(text) or text.count("'") > 2 * MAX_TOPICS:
            expected = f"'TOPIC' in topics, at most {MAX_TOPICS}, joined by && || ! ( )"
            raise InvalidPush("field", "condition", expected)
        return MAX_TOPIC_BYTES
    return MAX_BYTES


def _read(fields: Mapping[str, Any], name: str) -> Any:
    """Return the value of a field that may stand in several places; None: it stands nowhere.

    Raises:
        InvalidPush: `field`: a value is not valid, or differs from an earlier one.
    """
    read, expected = _READERS[name]
    first = None
    for path, value in _places(fields, name):
        found = read(value)
        if found is None:
            raise InvalidPush("field", path, expected)
        if first is None:
            first = path, found
        elif found != first[1]:
            raise InvalidPush("field", path, f"the same as {first[0]}, or left out")
    return None if first is None else first[1]


def _places(fields: Mapping[str, Any], name: str) -> Iterator[tuple[str, Any]]:
    """Yield path and value of a field wherever it is given: as a shorthand, and in the blocks."""
    if name in fields:
        yield name, f"{fields[name]}s" if name == "ttl" else fields[name]
    for block in ANDROID:
        if (value := fields.get(block, {}).get(name)) is not None:
            yield f"{block}.{name}", value


def _read_text(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _read_ttl(value: object) -> float | None:
    """Convert a duration such as 3600s to seconds."""
    match = _DURATION.fullmatch(value) if isinstance(value, str) else None
    seconds = float(match[1]) if match else math.inf
    return seconds if seconds <= MAX_TTL_SECONDS else None


def _read_priority(value: object) -> str | None:
    text = value.upper() if isinstance(value, str) else ""
    return text if text in ("NORMAL", "HIGH") else None


_READERS: dict[str, tuple[Callable[[object], Any], str]] = {
    "collapse_key": (_read_text, "a text"),
    "ttl": (_read_ttl, f"0s to {MAX_TTL_SECONDS}s"),
    "priority": (_read_priority, "NORMAL or HIGH"),
}
"""For each shorthand its converter, which returns None for an invalid value."""
