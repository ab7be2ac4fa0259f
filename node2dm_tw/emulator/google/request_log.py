"""What the emulator was asked and what it answered: the last thousand, and counts of all."""

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
    json_answer,
    read_form,
    read_object,
)

KEPT = 1_000
"""Requests that are remembered."""

KEPT_BYTES = 8_192
"""Bytes of a body that are remembered."""

_SECRET_FIELDS = ("Passwd", "assertion", "password", "logincaptcha")
_SECRET_ANSWERS = ("login", "token", "captcha")
_SECRET_HEADERS = (b"authorization", b"cookie", b"proxy-authorization")
_FORM_ENDPOINTS = ("login", "send", "token")


@attrs.frozen
class Entry:
    """One request.

    Args:
        number: counts requests since the last reset, from 1.
        time: seconds since the epoch.
        token: the number of the token it was sent with, if that was good.
    """

    number: int
    time: float
    endpoint: str
    call: IncomingRequest = attrs.field(repr=False)
    status: int
    answer: bytes = attrs.field(repr=False)
    token: int | None


@attrs.define(eq=False)
class RequestLog:
    """The memory of the emulator."""

    _entries: deque[Entry] = attrs.field(factory=lambda: deque(maxlen=KEPT), init=False)
    _number: int = attrs.field(default=0, init=False)
    _answers: Counter[tuple[str, int, str]] = attrs.field(factory=Counter, init=False)

    def record(
        self,
        endpoint: str,
        call: IncomingRequest,
        answer: Reply | Stream,
        now: float,
        token: int | None,
    ) -> None:
        """Remember a request."""
        self._number += 1
        if len(call.body) > KEPT_BYTES:
            call = attrs.evolve(call, body=call.body[:KEPT_BYTES])
        status, body, error = 200, b"", ""
        if isinstance(answer, Reply):
            status, body, error = answer.status, answer.body[:KEPT_BYTES], answer.error
        self._answers[endpoint, status, error] += 1
        self._entries.append(Entry(self._number, now, endpoint, call, status, body, token))

    def reset(self) -> None:
        """Forget everything."""
        self._entries.clear()
        self._answers.clear()
        self._number = 0

    def counts(self) -> dict[str, dict[str, int]]:
        """Count the answers: of each endpoint by error code, or by status where there is none."""
        counts: dict[str, dict[str, int]] = {}
        for (endpoint, status, error), count in self._answers.items():
            of_endpoint = counts.setdefault(endpoint, {})
            name = error or str(status)
            of_endpoint[name] = of_endpoint.get(name, 0) + count
        return counts

    def show(self, call: IncomingRequest) -> Reply:
        """Answer with the entries the query asks for.

        ``endpoint=`` names one, ``after=`` a number, ``limit=`` how many of the newest.
        """
        query = dict(parse_qsl(call.query.decode("latin-1")))
        after, limit = (
            int(text) if (text := query.get(name, "")).isdecimal() else otherwise
            for name, otherwise in (("after", 0), ("limit", KEPT))
        )
        wanted = (
            entry
            for entry in reversed(self._entries)
            if entry.number > after and query.get("endpoint", entry.endpoint) == entry.endpoint
        )
        return json_answer(200, {"entries": [_shown(each) for each in islice(wanted, limit)][::-1]})


def _shown(entry: Entry) -> dict[str, Any]:
    call = entry.call
    hidden = entry.endpoint in _SECRET_ANSWERS and entry.status == 200
    shown: dict[str, Any] = {
        "number": entry.number,
        "time": entry.time,
        "endpoint": entry.endpoint,
        "method": call.method,
        "path": call.path,
        "headers": {
            name.decode("latin-1"): "***" if name in _SECRET_HEADERS else value.decode("latin-1")
            for name, value in call.headers.items()
        },
        "status": entry.status,
        "answer": "***" if hidden else entry.answer.decode("utf-8", "replace"),
    }
    if entry.token is not None:
        shown["token"] = entry.token
    if entry.endpoint in _FORM_ENDPOINTS:
        shown["form"] = _masked(read_form(call.body))
    elif entry.endpoint == "register":
        shown["json"] = _masked(read_object(call.body) or {})
    else:
        shown["body"] = call.body.decode("utf-8", "replace")
    return shown


def _masked(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {name: "***" if name in _SECRET_FIELDS else value for name, value in fields.items()}
