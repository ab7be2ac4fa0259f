"""A push, and node2dm's form of it: a line; see `json_form` for the other."""

import functools
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from unicodedata import category

MAX_TOKEN_BYTES = 4096
"""Maximum length of a token or fid; Google's have about 160 bytes."""

MAX_TTL_SECONDS = 2_419_200
"""Maximum time to live: four weeks, the limit of FCM."""

TARGETS = ("token", "fid", "topic", "condition")

SUBSCRIPTIONS = frozenset(("subscribe", "unsubscribe"))
"""Fields of the JSON form that name a topic; the push then has no message."""

REASONS = {
    "ambiguous": "on an FCM route: more than two colons and no `:{`, so that token and collapse key"
    " cannot be told apart: expected the JSON form",
    "collapse_key": "the collapse key is empty, and C2DM needs one: expected"
    " `token:collapse_key:payload`",
    "colons": "fewer than two colons: expected `token:collapse_key:payload`, or a JSON object on"
    " one line",
    "denied": "the datagram comes from an address that `allow` does not name",
    "empty": "the datagram has no line, or the request no push: expected at least one push",
    "field": "the JSON form has an unknown field, one twice, or one of the wrong type",
    "http": "the datagram is a message of HTTP, RTSP or SIP; its lines count as one: expected"
    " `token:collapse_key:payload`, or a JSON object on one line",
    "json": "it begins like JSON, but is not a JSON object: expected one object on one line,"
    " without line feeds",
    "replayed": "a datagram with the same signature came before: expected each datagram once; equal"
    " ones that are signed in the same second need a difference, such as an `id`",
    "reserved": "on an FCM route: data has a key that FCM reserves: expected a key other"
    " than `from`, `message_type`, `google...` and `gcm...`",
    "signature": "the signature is wrong: expected the first line `#v1 SECONDS HEX`, where HEX is"
    " the HMAC-SHA-256 under `datagram_key`, in lower-case hexadecimal, of SECONDS, a line feed and"
    " all that follows the first line",
    "stale": "the time of its signature is more than 60 seconds from the gateway's: expected the"
    " present time in whole seconds since the epoch",
    "target": "the JSON form names more than one target: expected one of token, fid, topic,"
    " condition",
    "token": "the token or fid is empty, too long, or has white space, a quote, a bracket or an"
    " invisible character: expected 1 to 4096 bytes of other characters; or the JSON form names no"
    " target",
    "too_large": "more data than the service takes: expected at most 1024 bytes for C2DM, 4096 for"
    " FCM, 2048 to a topic; or a push in a request has more than 65507 bytes",
    "unknown_route": "it names a route that is not configured",
    "unsigned": "the datagram is not signed, and `datagram_key` is set: expected the first line"
    " `#v1 SECONDS HEX`",
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
        is_urgent: whether it is sent before pushes that are not.
    """

    line: bytes
    device_end: int
    key_end: int
    received: float
    is_json: bool = False
    is_urgent: bool = False

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
        decoded: dict[str, Any] = json.loads(self.payload.decode())  # bytes take longer
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
    def is_subscription(self) -> bool:
        """Whether it changes a subscription of the device instead of sending it a message."""
        is_likely = self.is_json and b'subscribe":"' in self.line
        return is_likely and not SUBSCRIPTIONS.isdisjoint(self.fields)

    @property
    def message_body(self) -> str:
        """The data as a text: a text unchanged, an object as JSON."""
        if not self.is_json:
            return self.payload.decode()
        data = self.fields.get("data", {})
        return data if isinstance(data, str) else json.dumps(data, ensure_ascii=False)


_new_push: Callable[[], Push] = functools.partial(object.__new__, Push)
"""Makes a push without fields, which are set one by one: two thirds of the cost of `Push`."""


def data_of(fields: Mapping[str, Any]) -> dict[str, str]:
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
    push.line, push.received = line, received
    push.is_json = push.is_urgent = False
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


def check_size(texts: dict[str, str], most: int, field: str) -> None:
    """Check that names and texts together have at most `most` bytes of UTF-8.

    Raises:
        InvalidPush: `too_large`, with `field`.
    """
    if sum(len(name.encode()) + len(text.encode()) for name, text in texts.items()) > most:
        raise InvalidPush("too_large", field)
