"""FCM HTTP v1, Firebase Cloud Messaging: validates pushes and builds requests."""

import functools
import json
import math
import re
from collections.abc import Mapping
from typing import Any, ClassVar
from urllib.parse import quote as quote_path

import attrs

from node2dm_tw.core.push import (
    NO_SUCH_FIELD,
    TARGETS,
    InvalidPush,
    Push,
    check_size,
    check_token,
    check_utf8,
    data_of,
    split_at_colons,
)
from node2dm_tw.providers import fcm_answers
from node2dm_tw.providers.interface import (
    DEFAULT_UNIVERSE,
    Credential,
    Request,
    request_headers,
)

SERVICE_URL = f"https://fcm.{DEFAULT_UNIVERSE}"
"""The address of the service in Google's own cloud."""

MAX_BYTES = 4096
"""Maximum size of keys and values of a message's data."""

MAX_TOPIC_BYTES = 2048
"""The same for a message to a topic or a condition."""

MAX_TOPICS = 5
"""Maximum number of topics in a condition."""

_RESERVED = re.compile(r"from|message_type|(?:google|gcm).*", re.DOTALL)
_TOPIC = r"[a-zA-Z0-9_.~%-]{1,900}"
_CONDITION = re.compile(rf"(?:\s*(?:'{_TOPIC}'\s+in\s+topics\b|&&|\|\||[!()]))+\s*")
_NOTIFICATION = frozenset(("title", "body", "image"))

_CONTENT_TYPE = b"application/json; charset=UTF-8"
_NO_CONTROLS = bytes(byte if byte >= 32 else 255 for byte in range(256))
"""Translates control characters, and leaves other bytes unchanged."""

_request = functools.partial(tuple.__new__, Request)  # Calling the class costs half as much again.
_dumps = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


def send_url(project: str, url: str = SERVICE_URL, universe: str = DEFAULT_UNIVERSE) -> str:
    """Return the address of messages:send.

    Args:
        url: the address of the service, or the whole address, which is returned unchanged.
        universe: the domain of the cloud, in place of Google's own in `SERVICE_URL`.
    """
    if url == SERVICE_URL:
        url = f"https://fcm.{universe}"
    if url.endswith("/messages:send"):
        return url
    return f"{url.rstrip('/')}/v1/projects/{quote_path(project, safe=':')}/messages:send"


@attrs.frozen
class FCM:
    """FCM as documented, for pushes to `url`: see `send_url`."""

    url: str
    first_delay: ClassVar[float] = 20.0  # half of it is FCM's "wait at least 10 s before retrying"
    judge = staticmethod(fcm_answers.judge)

    def split(self, line: bytes, received: float) -> Push:
        """Find the payload at the first ``:{``, because tokens contain a colon."""
        key_end = line.find(b":{")
        if key_end < 0:
            if line.count(b":") > 2:
                check_utf8(line)
                check_token(line[: line.find(b":")])
                raise InvalidPush("ambiguous")
            return split_at_colons(line, received)
        return split_at_colons(line, received, key_end)

    def validate(self, push: Push, fields: Mapping[str, Any] | None = None) -> None:
        most = _check_fields(fields or push.fields) if push.is_json else MAX_BYTES
        if len(push.line) >= most:  # no part of a shorter line is too large
            _check_sizes(push, most)

    def ttl(self, push: Push) -> float | None:
        return push.fields.get("ttl")

    def request(self, push: Push, credential: Credential, now: float) -> Request:
        body = _json_body(push, now) if push.is_json else _line_body(push)
        headers = request_headers(credential.header, _CONTENT_TYPE, credential.user_project)
        return _request((self.url, headers, body))


def _line_body(push: Push) -> bytes:
    """Build the body of a push in node2dm's form, without `json` in half the time."""
    line, device_end = push.line, push.device_end
    token = _escape_plain(line[:device_end])  # the intake rejects control characters
    rest = line[device_end + 1 :]
    is_plain = rest.translate(_NO_CONTROLS) == rest
    # Escape both first: the collapse key contains no colon.
    key, _, data = (_escape_plain(rest) if is_plain else _escape(rest)).partition(b":")
    android = b'"},"android":{"collapse_key":"%b"}}}' % key if key else b'"}}}'
    return b"".join((b'{"message":{"token":"', token, b'","data":{"data":"', data, android))


def _escape_plain(text: bytes) -> bytes:
    """Escape a text without control characters for a JSON string."""
    return text.replace(b"\\", b"\\\\").replace(b'"', b'\\"')


def _escape(text: bytes) -> bytes:
    """Escape a text for a JSON string."""
    return _dumps(text.decode())[1:-1].encode()


def _json_body(push: Push, now: float) -> bytes:
    return _dumps({"message": _message(push, now)}).encode()


def _message(push: Push, now: float) -> dict[str, object]:
    """Convert a push in the JSON form to FCM's message."""
    fields = push.fields
    message: dict[str, object] = {name: fields[name] for name in TARGETS if name in fields}
    android: dict[str, str] = {}
    if key := push.collapse_key:
        android["collapse_key"] = key.decode()
    if "ttl" in fields:
        android["ttl"] = f"{_remaining_ttl(fields['ttl'], push.received, now)}s"
    if "priority" in fields:
        android["priority"] = fields["priority"].upper()
    if "data" in fields:
        data = fields["data"]
        message["data"] = {"data": data} if isinstance(data, str) else data
    if "notification" in fields:
        message["notification"] = fields["notification"]
    if android:
        message["android"] = android
    return message


def _remaining_ttl(ttl: int, received: float, now: float) -> int:
    """Return the rest of the time to live, rounded up, because 0 means "now or never"."""
    return max(0, math.ceil(ttl - (now - received)))


def _check_fields(fields: Mapping[str, Any]) -> int:
    """Check the rules of FCM that the JSON form does not have.

    Returns:
        The maximum size of its data.

    Raises:
        InvalidPush: for the first error.
    """
    if "delay_while_idle" in fields:
        raise InvalidPush("unsupported", "delay_while_idle", "left out: FCM cannot carry it")
    most = _check_target(fields)
    for key in data_of(fields):
        if _RESERVED.fullmatch(key):
            raise InvalidPush("reserved", f"data.{key}")
    notification = fields.get("notification", {})
    for key, value in notification.items():
        field = f"notification.{key}"
        if key not in _NOTIFICATION:
            raise InvalidPush("field", field, NO_SUCH_FIELD)
        if not isinstance(value, str):
            raise InvalidPush("field", field, "a text")
    return most


def _check_sizes(push: Push, most: int) -> None:
    check_size(push.data, most, "data")
    if push.is_json:
        check_size(push.fields.get("notification", {}), most, "notification")
    if len(push.collapse_key) > most:
        raise InvalidPush("too_large", "collapse_key")


def _check_target(fields: Mapping[str, Any]) -> int:
    if "topic" in fields:
        if not re.fullmatch(_TOPIC, fields["topic"]):
            raise InvalidPush("field", "topic", "1 to 900 letters, digits, -, _, ., ~ and %")
        return MAX_TOPIC_BYTES
    if "condition" in fields:
        text = fields["condition"]
        if not _CONDITION.fullmatch(text) or text.count("'") > 2 * MAX_TOPICS:
            expected = f"'TOPIC' in topics, at most {MAX_TOPICS}, joined by && || ! ( )"
            raise InvalidPush("field", "condition", expected)
        return MAX_TOPIC_BYTES
    return MAX_BYTES
