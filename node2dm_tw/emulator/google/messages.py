"""The values between the server and the rules: requests, replies, and the events of phones."""

import json
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import unquote_to_bytes

import attrs

Headers = tuple[tuple[bytes, bytes], ...]

JSON_TYPE = b"application/json; charset=UTF-8"
TEXT_TYPE = b"text/plain; charset=UTF-8"
HTML_TYPE = b"text/html; charset=UTF-8"


@attrs.frozen
class IncomingRequest:
    """A request, as the handlers get it.

    Args:
        path: without the query, percent-decoded.
        headers: by the name in lower case; the last one of repeated headers.
        body: complete, without the transfer coding.
    """

    method: str
    path: str
    query: bytes = b""
    headers: Mapping[bytes, bytes] = attrs.field(factory=dict, repr=False)
    body: bytes = attrs.field(default=b"", repr=False)


@attrs.frozen
class Reply:
    """A response; the server adds Content-Length.

    Args:
        error: the error code in the body, for the counts.
    """

    status: int
    body: bytes = attrs.field(default=b"", repr=False)
    content_type: bytes = TEXT_TYPE
    headers: Headers = attrs.field(default=(), repr=False)
    error: str = ""


@attrs.frozen
class Stream:
    """In place of a reply: the events of this registration, from now on."""

    registration_id: str


@attrs.frozen
class Message:
    """A push on its way to a phone.

    Args:
        collapse_key: empty for none.
        expires: seconds since the epoch; the message is dropped after that.
        while_active: wait while the device is idle.
        notification: FCM's notification, unchanged.
    """

    message_id: str
    collapse_key: str
    data: Mapping[str, str] = attrs.field(repr=False)
    expires: float
    while_active: bool = False
    notification: Mapping[str, Any] | None = None


@attrs.frozen
class Registered:
    """The phone has this registration ID from now on."""

    registration_id: str


@attrs.frozen
class Unregistered:
    """The application is no longer registered; this is the last event."""

    registration_id: str


@attrs.frozen
class Deleted:
    """This number of stored messages was dropped because too many were waiting."""

    count: int


Event = Message | Registered | Unregistered | Deleted

EventSink = Callable[[Event], None]
"""Receives the events of a registration."""


@attrs.frozen
class Outcome:
    """The reply to a request, and how it is sent.

    Args:
        delay: seconds before the reply is sent.
        cut: where the connection breaks; empty: nowhere.
    """

    reply: Reply | Stream
    delay: float = 0.0
    cut: str = ""


def json_reply(status: int, content: object, error: str = "") -> Reply:
    """Build a reply with JSON."""
    return Reply(status, json.dumps(content).encode() + b"\n", JSON_TYPE, error=error)


def read_object(body: bytes) -> dict[str, Any] | None:
    """Read a JSON object; return None if it is anything else."""
    try:
        content = json.loads(body)
    except (ValueError, RecursionError):
        return None
    return content if isinstance(content, dict) else None


def read_form(body: bytes) -> dict[str, str]:
    """Read a form-encoded body; the last one of repeated fields counts.

    Bytes that are not UTF-8 become U+FFFD, as in a servlet: no form is invalid.
    """
    fields = {}
    for part in body.split(b"&"):
        name, _, value = part.partition(b"=")
        if part:
            fields[_unquote(name)] = _unquote(value)
    return fields


def _unquote(text: bytes) -> str:
    if b"+" in text:
        text = text.replace(b"+", b" ")
    if b"%" in text:
        text = unquote_to_bytes(text)
    return text.decode("utf-8", "replace")


def event_fields(event: Event) -> tuple[str, dict[str, Any]]:
    """Return the name of an event, and its fields for JSON."""
    match event:
        case Message():
            content: dict[str, Any] = {
                "message_id": event.message_id,
                "collapse_key": event.collapse_key,
                "data": event.data,
            }
            if event.notification is not None:
                content["notification"] = event.notification
            return "message", content
        case Registered():
            return "registration", {"registration_id": event.registration_id}
        case Unregistered():
            return "unregistered", {"registration_id": event.registration_id}
        case Deleted():
            return "deleted", {"count": event.count}


def describe_message(fields: Mapping[str, Any]) -> str:
    """Describe a message on one line.

    Args:
        fields: as `event_fields` returns them.
    """
    line = f"collapse_key={fields['collapse_key']}"
    for name in ("data", "notification"):
        if name in fields:
            line = f"{line} {name}={json.dumps(fields[name], ensure_ascii=False)}"
    return one_line(line)


def one_line(text: str) -> str:
    """Escape, as JSON does, what would break a log line or control a terminal."""
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() else json.dumps(each)[1:-1] for each in text)
