"""What passes between the wire and the rules: calls, answers, and what reaches a phone."""

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
    """A request.

    Args:
        path: without the query, percent signs resolved.
        headers: names in lower case, the last of repeated ones.
        body: whole, transfer coding removed.
    """

    method: str
    path: str
    query: bytes = b""
    headers: Mapping[bytes, bytes] = attrs.field(factory=dict, repr=False)
    body: bytes = attrs.field(default=b"", repr=False)


@attrs.frozen
class Reply:
    """A response; the wire adds Content-Length.

    Args:
        error: the error code in the body, for the statistics.
    """

    status: int
    body: bytes = attrs.field(default=b"", repr=False)
    content_type: bytes = TEXT_TYPE
    headers: Headers = attrs.field(default=(), repr=False)
    error: str = ""


@attrs.frozen
class Stream:
    """Instead of an answer: the events of this phone, from now on."""

    registration_id: str


@attrs.frozen
class Message:
    """A push on its way to a phone.

    Args:
        collapse_key: empty for none.
        expires: seconds since the epoch; after it the message is thrown away.
        while_active: held back as long as the device is idle.
        notification: FCM's, as it was sent.
    """

    message_id: str
    collapse_key: str
    data: Mapping[str, str] = attrs.field(repr=False)
    expires: float
    while_active: bool = False
    notification: Mapping[str, Any] | None = None


@attrs.frozen
class Registered:
    """The phone's registration ID is this one from now on."""

    registration_id: str


@attrs.frozen
class Unregistered:
    """The application is no longer registered; nothing comes after this."""

    registration_id: str


@attrs.frozen
class Deleted:
    """So many stored messages were given up, because too many were waiting."""

    count: int


Event = Message | Registered | Unregistered | Deleted

EventSink = Callable[[Event], None]
"""Where a phone shows its events."""


@attrs.frozen
class Outcome:
    """What is to become of a request.

    Args:
        delay: seconds to wait before answering.
        cut: where the connection breaks; empty: it does not.
    """

    answer: Reply | Stream
    delay: float = 0.0
    cut: str = ""


def json_answer(status: int, content: object, error: str = "") -> Reply:
    """Answer with JSON."""
    return Reply(status, json.dumps(content).encode() + b"\n", JSON_TYPE, error=error)


def read_object(body: bytes) -> dict[str, Any] | None:
    """Read a JSON object; None if it is anything else."""
    try:
        content = json.loads(body)
    except (ValueError, RecursionError):
        return None
    return content if isinstance(content, dict) else None


def read_form(body: bytes) -> dict[str, str]:
    """Read a form-encoded body; of a repeated field the last counts.

    What is not UTF-8 is replaced by U+FFFD, as servlets do it: a form has no invalid bytes.
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
    """Name an event and give what is in it, ready for JSON."""
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
        fields: as `event_fields` gives them.
    """
    line = f"collapse_key={fields['collapse_key']}"
    for name in ("data", "notification"):
        if name in fields:
            line = f"{line} {name}={json.dumps(fields[name], ensure_ascii=False)}"
    return one_line(line)


def one_line(text: str) -> str:
    """Escape, as JSON does, whatever would break a line of the log or act upon a terminal."""
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() else json.dumps(each)[1:-1] for each in text)
