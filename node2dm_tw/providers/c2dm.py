"""C2DM, Google's Cloud to Device Messaging: the requests and answers of POST /c2dm/send."""

import functools
import re
import string
from codecs import BOM_UTF8
from collections.abc import Mapping
from typing import Any, ClassVar
from urllib.parse import urlencode

import attrs

from node2dm_tw.core.backoff import retry_after
from node2dm_tw.core.push import InvalidPush, Push, check_size, split_at_colons
from node2dm_tw.core.response import Response
from node2dm_tw.providers.interface import (
    BadDevice,
    Credential,
    DeviceOverQuota,
    NewToken,
    Rejected,
    Request,
    Retry,
    SenderOverQuota,
    Unauthorized,
    Unexplained,
    Verdict,
    delivered,
    request_headers,
)

MAX_BYTES = 1024
"""Maximum size of keys and values of a message's data, and of its collapse key."""

UNAVAILABLE = frozenset((429, 502, 503, 504, *range(520, 600)))
"""Statuses of an unavailable service or proxy; a CDN uses those from 520 on."""

TRANSIENT = frozenset((408, 425))
"""Statuses that concern only this request (RFC 9110, 15.5.9; RFC 8470, 5.2)."""

REFUSAL_PAUSE = 60.0
"""Seconds between probes if every push is answered with 3xx or 4xx."""

_request = functools.partial(tuple.__new__, Request)  # Calling the class costs half as much again.
_ERROR_WORD = re.compile(rb"[A-Za-z0-9_-]{1,40}$")
_SAFE = (string.ascii_letters + string.digits + '_.-~%": ,{}').encode()
_NEEDS_QUOTING = bytes(byte not in _SAFE for byte in range(256))
"""For each byte 1 if `_quote` must quote it separately."""

_CONTENT_TYPE = b"application/x-www-form-urlencoded;charset=UTF-8"
_UNSUPPORTED = (
    *("fid", "topic", "condition", "priority", "notification", "android", "android_v2", "apns"),
    *("webpush", "fcm_options", "validate_only", "subscribe", "unsubscribe"),
)


@attrs.frozen
class C2DM:
    """C2DM as documented in 2010, for pushes to `send_url`."""

    send_url: str
    first_delay: ClassVar[float] = 1.0
    split = staticmethod(split_at_colons)

    def validate(self, push: Push, fields: Mapping[str, Any] | None = None) -> None:
        if push.key_end - push.device_end == 1 and not push.is_subscription:
            raise InvalidPush("collapse_key", "collapse_key")
        if push.is_json:
            _check_fields(fields or push.fields)
        if len(push.line) >= MAX_BYTES:  # no part of a shorter line is too large
            _check_sizes(push)

    def ttl(self, push: Push) -> float | None:
        return push.fields.get("ttl")

    def request(self, push: Push, credential: Credential, now: float) -> Request:
        body = self._json_body(push) if push.is_json else _line_body(push)
        return _request((self.send_url, request_headers(credential.header, _CONTENT_TYPE), body))

    def _json_body(self, push: Push) -> bytes:
        form = {"registration_id": push.device, "collapse_key": push.collapse_key}
        form |= {f"data.{key}": text.encode() for key, text in push.data.items()}
        if push.fields.get("delay_while_idle"):
            form["delay_while_idle"] = b"1"
        return urlencode(form).encode()

    def judge(self, response: Response, now: float) -> Verdict:
        status, headers, body, truncated = response
        if status == 200:
            verdict = _judge_body(body, truncated)
        else:
            verdict = _judge_status(status, headers, now)
        if token := headers.get(b"update-client-auth"):
            return NewToken(token.decode("ascii", "replace"), verdict)
        return verdict

    def judge_subscription(self, response: Response, push: Push, now: float) -> Verdict:
        raise NotImplementedError("`validate` lets no such push through")


def _judge_status(status: int, headers: Mapping[bytes, bytes], now: float) -> Verdict:
    """Decide by the status, for an answer other than 200."""
    if status == 401:
        return Unauthorized()
    if 200 < status < 300:
        return Rejected(f"http_{status}", is_explained=False)
    after = retry_after(headers.get(b"retry-after"), now)
    reason = f"{status}" if after is None else f"{status}, Retry-After"
    if status in UNAVAILABLE or status in TRANSIENT:
        return Retry(after, whole_lane=status in UNAVAILABLE, reason=reason)
    pause = REFUSAL_PAUSE if 300 <= status < 500 else None
    hint = f"{reason}: is send_url right?" if pause else reason
    return Unexplained(f"http_{status}", hint, after, pause)


def _check_fields(fields: Mapping[str, object]) -> None:
    """Check that C2DM supports the fields of the JSON form."""
    for name in _UNSUPPORTED:
        if name in fields:
            raise InvalidPush("unsupported", name, "left out: C2DM cannot carry it")


def _check_sizes(push: Push) -> None:
    check_size(push.data, MAX_BYTES, "data")
    if len(push.collapse_key) > MAX_BYTES:
        raise InvalidPush("too_large", "collapse_key")


def _line_body(push: Push) -> bytes:
    """Build the body of a push in node2dm's form."""
    # Quote the whole line first: neither device nor collapse key contains a colon.
    device, key, data = _quote(push.line).split(b"%3A", 2)
    return b"".join((b"registration_id=", device, b"&collapse_key=", key, b"&data.data=", data))


def _quote(value: bytes) -> bytes:
    """Quote for a form, one kind of byte at a time, because most lines contain few kinds."""
    quoted = (
        value.replace(b"%", b"%25")
        .replace(b'"', b"%22")
        .replace(b":", b"%3A")
        .replace(b" ", b"%20")
        .replace(b",", b"%2C")
        .replace(b"{", b"%7B")
        .replace(b"}", b"%7D")
    )
    if 1 in value.translate(_NEEDS_QUOTING):
        for byte in set(value.translate(None, _SAFE)):
            quoted = quoted.replace(b"%c" % byte, b"%%%02X" % byte)
    return quoted


def _judge_body(body: bytes, truncated: bool) -> Verdict:
    """Judge the body of a 200: a line ``id=...`` or ``Error=...``, or unreadable."""
    kind, _, value = body.removeprefix(BOM_UTF8).strip().partition(b"=")
    if truncated:
        return Rejected("too_large", is_explained=False)
    if kind == b"id" and value:
        return delivered((value,))
    if kind != b"Error" or not _ERROR_WORD.match(value):
        return Rejected("unreadable", is_explained=False)
    match value:
        case b"QuotaExceeded":
            return SenderOverQuota()
        case b"DeviceQuotaExceeded":
            return DeviceOverQuota(None)
        case b"InvalidRegistration" | b"NotRegistered":
            return BadDevice(value.decode())
        case _:
            return Rejected(value.decode())
