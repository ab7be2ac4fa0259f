"""FCM HTTP v1, Firebase Cloud Messaging: validates pushes and builds requests."""

import functools
import json
from collections.abc import Callable, Mapping
from typing import Any, ClassVar
from urllib.parse import quote as quote_path

import attrs

from node2dm_tw.core.push import InvalidPush, Push, check_token, check_utf8, split_at_colons
from node2dm_tw.providers import fcm_answers, fcm_message, fcm_topics
from node2dm_tw.providers.interface import (
    DEFAULT_UNIVERSE,
    Credential,
    Request,
    request_headers,
)

SERVICE_URL = f"https://fcm.{DEFAULT_UNIVERSE}"
"""The address of the service in Google's own cloud."""

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
    """FCM as documented.

    Args:
        url: see `send_url`.
        wall: seconds since the epoch.
    """

    url: str
    wall: Callable[[], float]
    first_delay: ClassVar[float] = 20.0  # half of it is FCM's "wait at least 10 s before retrying"
    judge = staticmethod(fcm_answers.judge)
    judge_subscription = staticmethod(fcm_topics.judge)

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
        most = fcm_message.MAX_BYTES
        if push.is_json:
            if push.is_subscription:
                fcm_topics.check(fields or push.fields)
                return
            most = fcm_message.check(fields or push.fields)
        if len(push.line) >= most:  # no part of a shorter line is too large
            fcm_message.check_sizes(push, most)

    def ttl(self, push: Push) -> float | None:
        return fcm_message.read_ttl(push.fields)

    def request(self, push: Push, credential: Credential, now: float) -> Request:
        url: str = self.url
        body: bytes | None
        if not push.is_json:
            body = _line_body(push)
        elif push.is_subscription:
            url, body = fcm_topics.build(push, url)
        else:
            body = _dumps(fcm_message.build(push, now, self.wall)).encode()
        headers = request_headers(credential.header, _CONTENT_TYPE, credential.user_project)
        return _request((url, headers, body))


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
