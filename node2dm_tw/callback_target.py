"""What a callback says, how it is posted, and how it is kept."""

import base64
import hashlib
import hmac
import json
import re
from urllib.parse import urlencode

import attrs

from node2dm_tw.files import parse_json
from node2dm_tw.http.interface import Headers

OVERHEAD_BYTES = 500
"""What a callback takes beside its texts: its objects and its place in the heap. Measured: 420."""

MAX_RECORD_BYTES = 500_000
"""The longest push of a datagram, each of its bytes escaped, is a shorter record."""

MAX_ATTEMPTS = 1_000
"""A record that claims more is damaged; `retries` allows fewer."""


@attrs.define(eq=False, weakref_slot=False)
class Callback:
    """A push that ended badly, as the application is told of it; in bytes, which take least memory.

    Args:
        route: of the push.
        device: its registration ID.
        message: what was not delivered.
        reason: why.
        callback_id: the same for every attempt.
        attempts: that have failed.
    """

    route: str
    device: bytes
    message: bytes
    reason: bytes
    callback_id: bytes
    attempts: int = 0

    @property
    def size(self) -> int:
        """Bytes of memory it takes, roughly."""
        texts = (self.route, self.device, self.message, self.reason)
        return OVERHEAD_BYTES + sum(map(len, texts))


@attrs.frozen
class CallbackTarget:
    """Where callbacks go, and how.

    Args:
        url: of the application.
        shared_secret: sent along, node2dm's way of showing who sends.
        signing_key: signs callbacks as Standard Webhooks 1.0 says; None: unsigned.
        retries: how often a callback is sent again.
    """

    url: str
    shared_secret: str = attrs.field(repr=False)
    signing_key: bytes | None = attrs.field(repr=False)
    retries: int

    def body(self, callback: Callback) -> bytes:
        """Build the form that is posted."""
        form = {
            "device_token": callback.device,
            "message_body": callback.message,
            "shared_secret": self.shared_secret,
            "reason": callback.reason,
        }
        return urlencode(form).encode()

    def headers(self, callback: Callback, moment: int, body: bytes) -> Headers:
        """Build the headers of one attempt.

        Args:
            moment: of this attempt, seconds since the epoch.
        """
        content = (b"Content-Type", b"application/x-www-form-urlencoded")
        if self.signing_key is None:
            return (content,)
        signed = b"%b.%d.%b" % (callback.callback_id, moment, body)
        signature = base64.b64encode(hmac.digest(self.signing_key, signed, hashlib.sha256))
        return (
            content,
            (b"Webhook-Id", callback.callback_id),
            (b"Webhook-Timestamp", b"%d" % moment),
            (b"Webhook-Signature", b"v1," + signature),
        )


def to_record(callback: Callback) -> bytes:
    """Write a callback for the spool: a JSON array of its fields."""
    fields = (callback.device, callback.message, callback.reason, callback.callback_id)
    texts = [field.decode(errors="replace") for field in fields]
    return json.dumps([callback.route, *texts, callback.attempts], ensure_ascii=False).encode()


_FORM = [str, str, str, str, str, int]

_ID = re.compile(rb"[A-Za-z0-9_-]{1,64}")
"""It goes into a header."""


def from_record(record: bytes) -> Callback | None:
    """Read a record that anybody may have written; None where it is no callback."""
    fields = parse_json(record) if len(record) <= MAX_RECORD_BYTES else None
    if not isinstance(fields, list) or [type(field) for field in fields] != _FORM:
        return None
    route, *texts, attempts = fields
    try:
        device, message, reason, callback_id = (text.encode() for text in texts)
    except UnicodeEncodeError:  # half of a surrogate pair
        return None
    if _ID.fullmatch(callback_id) is None or not 0 <= attempts <= MAX_ATTEMPTS:
        return None
    return Callback(route, device, message, reason, callback_id, attempts)
