"""The last thousand requests and replies, and the counts of all."""

from collections import Counter, deque
from collections.abc import Mapping
from itertools import islice
from typing import Any
from urllib.parse import parse_qsl

import attrs

from node2dm_tw.emulator.google.messages import (
    IncomingRequest,
    Reply,
    Stream,
    json_reply,
    read_form,
    read_object,
)

MAX_ENTRIES = 1_000
"""Limit of the requests that are kept."""

MAX_BODY_BYTES = 8_192
"""Bytes of each body that are kept."""

_SECRET_FIELDS = (
    "Passwd",
    "assertion",
    "password",
    "logincaptcha",
    "subject_token",
    "refresh_token",
    "client_secret",
)
_SECRET_REPLIES = ("login", "token", "captcha", "sts", "impersonate", "metadata")
_SECRET_HEADERS = (b"authorization", b"cookie", b"proxy-authorization")
_FORM_ENDPOINTS = ("login", "send", "token", "sts")


@attrs.frozen
class Entry:
    """One request and its reply.

    Args:
        number: counts requests since the last reset, from 1.
        time: seconds since the epoch.
        token: the number of its token, if that was valid.
    """

    number: int
    time: float
    endpoint: str
    request: IncomingRequest = attrs.field(repr=False)
    status: int
    reply: bytes = attrs.field(repr=False)
    token: int | None


@attrs.define(eq=False)
class RequestLog:
    """Records requests for /log and /stats."""

    _entries: deque[Entry] = attrs.field(factory=lambda: deque(maxlen=MAX_ENTRIES), init=False)
    _number: int = attrs.field(default=0, init=False)
    _counts: Counter[tuple[str, int, str]] = attrs.field(factory=Counter, init=False)

    def record(
        self,
        endpoint: str,
        request: IncomingRequest,
        reply: Reply | Stream,
        now: float,
        token: int | None,
    ) -> None:
        """Record a request."""
        self._number += 1
        if len(request.body) > MAX_BODY_BYTES:
            request = attrs.evolve(request, body=request.body[:MAX_BODY_BYTES])
        status, body, error = 200, b"", ""
        if isinstance(reply, Reply):
            status, body, error = reply.status, reply.body[:MAX_BODY_BYTES], reply.error
        self._counts[endpoint, status, error] += 1
        self._entries.append(Entry(self._number, now, endpoint, request, status, body, token))

    def reset(self) -> None:
        """Forget everything."""
        self._entries.clear()
        self._counts.clear()
        self._number = 0

    def counts(self) -> dict[str, dict[str, int]]:
        """Count the replies of each endpoint by error code, or by status without one."""
        counts: dict[str, dict[str, int]] = {}
        for (endpoint, status, error), count in self._counts.items():
            of_endpoint = counts.setdefault(endpoint, {})
            name = error or str(status)
            of_endpoint[name] = of_endpoint.get(name, 0) + count
        return counts

    def show(self, request: IncomingRequest) -> Reply:
        """Answer ``GET /log`` with the entries that the query selects.

        ``endpoint=`` names one, ``after=`` a number, ``limit=`` how many of the newest.
        """
        query = dict(parse_qsl(request.query.decode("latin-1")))
        after, limit = (
            int(text) if (text := query.get(name, "")).isdecimal() else otherwise
            for name, otherwise in (("after", 0), ("limit", MAX_ENTRIES))
        )
        chosen = (
            entry
            for entry in reversed(self._entries)
            if entry.number > after and query.get("endpoint", entry.endpoint) == entry.endpoint
        )
        return json_reply(
            200, {"entries": [_as_json(each) for each in islice(chosen, limit)][::-1]}
        )


def _as_json(entry: Entry) -> dict[str, Any]:
    request = entry.request
    is_secret = entry.endpoint in _SECRET_REPLIES and entry.status == 200
    shown: dict[str, Any] = {
        "number": entry.number,
        "time": entry.time,
        "endpoint": entry.endpoint,
        "method": request.method,
        "path": request.path,
        "headers": {
            name.decode("latin-1"): "***" if name in _SECRET_HEADERS else value.decode("latin-1")
            for name, value in request.headers.items()
        },
        "status": entry.status,
        "answer": "***" if is_secret else entry.reply.decode("utf-8", "replace"),
    }
    if entry.token is not None:
        shown["token"] = entry.token
    if entry.endpoint in _FORM_ENDPOINTS:
        shown["form"] = _mask(read_form(request.body))
    elif entry.endpoint == "register":
        shown["json"] = _mask(read_object(request.body) or {})
    else:
        shown["body"] = request.body.decode("utf-8", "replace")
    return shown


def _mask(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {name: "***" if name in _SECRET_FIELDS else value for name, value in fields.items()}
