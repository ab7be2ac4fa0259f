"""The content of a callback, its request, and its record in the spool."""

import base64
import hashlib
import hmac
import json
import re
import sys
from urllib.parse import urlencode

import attrs

from node2dm_tw.http.interface import Headers
from node2dm_tw.state.atomic import parse_json

OVERHEAD_BYTES = 500
"""Bytes that a callback takes in addition to its texts. Measured: 445."""

MAX_RECORD_BYTES = 500_000
"""Maximum length of a record; the longest push, with every byte escaped, is shorter."""

MAX_ATTEMPTS = 1_000
"""A record with more attempts is damaged; `retries` allows fewer."""

BAD_DEVICE = "bad_device"
"""The outcome of callbacks saved by versions that had no other."""


@attrs.define(eq=False, weakref_slot=False)
class Callback:
    """Information for the application about a push that ended badly. Bytes take the least memory.

    Args:
        route: name of the push's route.
        device: its registration ID or other target.
        message: its data.
        reason: why it ended.
        callback_id: ID, the same for every attempt.
        attempts: number of failed attempts.
        outcome: the name of the push's terminal counter, without `messages_`.
        received: when the push was received, as in RFC 3339; empty if an old version saved it.
        push_id: ID that the sender gave the push; empty if it gave none.
    """

    route: str
    device: bytes
    message: bytes
    reason: bytes
    callback_id: bytes
    attempts: int = 0
    outcome: str = BAD_DEVICE
    received: bytes = b""
    push_id: bytes = b""

    @property
    def size(self) -> int:
        """Approximate memory in bytes."""
        texts = (self.route, self.device, self.message, self.reason)
        return OVERHEAD_BYTES + sum(map(len, texts))


@attrs.frozen
class CallbackTarget:
    """A webhook, and the format of its callbacks.

    Args:
        url: address of the webhook.
        shared_secret: authenticates a form, as in node2dm; never sent in JSON.
        signing_key: signs callbacks as in Standard Webhooks 1.0; None: unsigned.
        retries: maximum number of retries of a callback.
        is_json: whether the body is JSON; otherwise it is a form.
        outcomes: the outcomes for which callbacks are sent.
    """

    url: str
    shared_secret: str = attrs.field(repr=False)
    signing_key: bytes | None = attrs.field(repr=False)
    retries: int
    is_json: bool = False
    outcomes: frozenset[str] = frozenset({BAD_DEVICE})

    def body(self, callback: Callback) -> bytes:
        """Build the body."""
        fields = {
            "device_token": callback.device.decode(),
            "message_body": callback.message.decode(),
            "reason": callback.reason.decode(),
            "route": callback.route,
            "outcome": callback.outcome,
            "received": callback.received.decode(),
            "id": callback.push_id.decode(),
        }
        if not self.is_json:
            return urlencode(fields | {"shared_secret": self.shared_secret}).encode()
        # What is unknown is null, because the empty text is neither a time nor an ID.
        fields_or_null = fields | {name: fields[name] or None for name in ("received", "id")}
        return json.dumps(fields_or_null, ensure_ascii=False, separators=(",", ":")).encode()

    def headers(self, callback: Callback, moment: int, body: bytes) -> Headers:
        """Build the headers of one attempt.

        Args:
            moment: time of this attempt, seconds since the epoch.
        """
        content = b"application/json" if self.is_json else b"application/x-www-form-urlencoded"
        headers = (
            (b"Content-Type", content),
            (b"Webhook-Id", callback.callback_id),
            (b"Webhook-Timestamp", b"%d" % moment),
        )
        if self.signing_key is None:
            return headers
        signed = b"%b.%d.%b" % (callback.callback_id, moment, body)
        signature = base64.b64encode(hmac.digest(self.signing_key, signed, hashlib.sha256))
        return (*headers, (b"Webhook-Signature", b"v1," + signature))


def to_record(callback: Callback) -> bytes:
    """Encode a callback for the spool: a JSON array of its fields."""
    fields = (callback.device, callback.message, callback.reason, callback.callback_id)
    texts = [field.decode(errors="replace") for field in fields]
    rest = (
        callback.attempts,
        callback.outcome,
        callback.received.decode(),
        callback.push_id.decode(),
    )
    return json.dumps([callback.route, *texts, *rest], ensure_ascii=False).encode()


_TYPES = [str, str, str, str, str, int, str, str, str]
_DEFAULTS = (BAD_DEVICE, "", "")
"""The types of a record's fields, and the values of those that earlier versions did not have."""

_ID = re.compile(rb"[A-Za-z0-9_-]{1,64}")
"""The ID is sent in a header."""

_OUTCOME = re.compile(r"[a-z_]{1,32}")

_RECEIVED = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z)?", re.ASCII)


_PUSH_ID = re.compile(r"[A-Za-z0-9._:-]{0,64}")


def from_record(record: bytes) -> Callback | None:
    """Decode an untrusted record; None if it is not a callback."""
    fields = parse_json(record) if len(record) <= MAX_RECORD_BYTES else None
    if not isinstance(fields, list) or len(fields) not in (6, 8, 9):
        return None
    fields += _DEFAULTS[len(fields) - 6 :]
    if [type(field) for field in fields] != _TYPES:
        return None
    route, *texts, attempts, outcome, received, push_id = fields
    try:
        device, message, reason, callback_id = (text.encode() for text in texts)
        route.encode()
    except UnicodeEncodeError:  # half of a surrogate pair
        return None
    if _ID.fullmatch(callback_id) is None or not 0 <= attempts <= MAX_ATTEMPTS:
        return None
    if _OUTCOME.fullmatch(outcome) is None or _RECEIVED.fullmatch(received) is None:
        return None
    if _PUSH_ID.fullmatch(push_id) is None:
        return None
    return Callback(
        sys.intern(route),  # one of a few texts, as the outcome: shared by thousands of callbacks
        device,
        message,
        reason,
        callback_id,
        attempts,
        sys.intern(outcome),
        received.encode(),
        push_id.encode(),
    )
