"""Pushes to the gateway by HTTP, which keeps them before it answers (see docs/http-intake.md).

This module needs `client.py` and the standard library. Both files may be copied together into
another project.
"""

import contextlib
import http.client
import json
import os
import re
import secrets
import ssl
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass
from typing import Any, Unpack
from urllib.parse import quote

try:
    from node2dm_tw.client import Data, MoreFields, Push, open_web, pack
except ModuleNotFoundError:  # the two files were copied
    from client import (  # type: ignore[no-redef,import-not-found]
        Data,
        MoreFields,
        Push,
        open_web,
        pack,
    )

MAX_PUSHES = 1_000  # of a request
MAX_BODY_BYTES = 1_048_576  # of a request
MAX_ANSWER_BYTES = 4_194_304
RETRY_SECONDS = 0.5  # between two tries, where the gateway names no other time
RETRIED = (408, 409, 425, 429, 500, 502, 503, 504)  # a repetition may be answered otherwise


@dataclass(frozen=True, slots=True)
class PushFault:
    """What is wrong with one push."""

    index: int  # of the push, among those that were passed
    field: str  # empty: none in particular
    reason: str  # as `messages_invalid` of the gateway's stats counts it
    detail: str


class InvalidPushes(ValueError):
    """The gateway took no push of a request, because some are invalid."""

    def __init__(self, faults: Sequence[PushFault]) -> None:
        """Store the invalid pushes, of which the gateway names at most a hundred."""
        shown = [f"push {each.index}: {each.reason}: {each.detail}" for each in faults[:3]]
        super().__init__("; ".join(shown + ["..."] * (len(faults) > 3)))
        self.faults = faults
        self.accepted: list[str] = []  # ids of the pushes before, in requests of their own


class RequestError(OSError):
    """The gateway refused a request, or has not answered it in time."""

    def __init__(self, text: str, status: int | None = None) -> None:
        """Store the reason, and the status of the answer; None: none came."""
        super().__init__(text)
        self.status = status
        self.accepted: list[str] = []  # ids of the pushes before, in requests of their own


@dataclass(eq=False, repr=False)
class HTTPPushClient(contextlib.AbstractContextManager["HTTPPushClient"]):
    """Posts pushes to one gateway over kept-alive connections. Threads may share it.

    A request that is not answered, or that the gateway cannot take now, is repeated for
    `retry_for` seconds. The gateway keeps its pushes once: each request has an Idempotency-Key.
    """

    url: str  # of the gateway's option `web`
    token: str  # the gateway's push_token
    _: KW_ONLY
    route: str = ""  # of pushes that name none
    ca_file: str | os.PathLike[str] | None = None  # whom to trust with https; None: the system's
    timeout: float = 10.0  # seconds to connect, and for each part of an answer
    retry_for: float = 10.0

    def __post_init__(self) -> None:
        if not isinstance(self.token, str) or not re.fullmatch("[!-~]+", self.token):
            raise ValueError("token = ***: expected visible ASCII characters, without blanks")
        is_https = self.url.startswith("https:")
        if self.ca_file is not None and not is_https:
            raise ValueError(f"url = {self.url!r}: expected https://HOST:PORT, as ca_file is given")
        tls = ssl.create_default_context(cafile=self.ca_file) if is_https else None
        self._tls = {} if tls is None else {"context": tls}
        self._closed = False
        connection, path, _ = open_web(self.url, self.timeout, **self._tls)
        self._idle = [connection]
        self._path = path.rstrip("/")

    def push(
        self, token: str = "", data: Data = None, collapse_key: str = "", **more: Unpack[MoreFields]
    ) -> str:
        """Post one push; return its id."""
        return self.push_many([Push(token, data, collapse_key, **more)])[0]

    def push_many(self, pushes: Iterable[Push]) -> list[str]:
        """Post pushes in as few requests as possible; return their ids in order.

        Raises:
            ValueError: a push is faulty; nothing was sent.
            InvalidPushes, RequestError: see `send`; the requests before it are accepted.
        """
        lines = [push.line(self.route, is_json=True) for push in pushes]
        chunks = (lines[n : n + MAX_PUSHES] for n in range(0, len(lines), MAX_PUSHES))
        ids: list[str] = []
        for request in (each for chunk in chunks for each in pack(chunk, MAX_BODY_BYTES)):
            try:
                ids += self.send(request, len(ids))
            except (InvalidPushes, RequestError) as error:
                error.accepted = ids
                raise
        return ids

    def send(self, lines: Sequence[bytes], first: int = 0) -> list[str]:
        """Post one request of ready lines in the JSON form; return their ids in order.

        Args:
            lines: at most `MAX_PUSHES`, with `MAX_BODY_BYTES`.
            first: the index of the first one, for errors.

        Raises:
            InvalidPushes: some are invalid, and none is accepted.
            RequestError: the gateway refuses the request. Where no answer came, `status` is None,
                and the pushes may be accepted or not.
        """
        key = {"Content-Type": "application/x-ndjson", "Idempotency-Key": secrets.token_urlsafe(24)}
        status, answer = self._request("POST", "/v1/push", b"\n".join(lines), key)
        found = _read_object(answer)
        ids = found.get("ids")
        if status == 202 and isinstance(ids, list) and len(ids) == len(lines):
            return ids
        if status == 400 and (faults := _read_faults(found, first, len(lines))):
            raise InvalidPushes(faults)
        raise self._failure(status, answer)

    def get(self, push_id: str) -> dict[str, Any] | None:
        """Return the outcome of a push; None: it has not ended, or is not among the latest.

        Raises RequestError: the gateway refuses the request, or does not answer.
        """
        status, answer = self._request("GET", f"/v1/push/{quote(push_id, safe='')}")
        found = _read_object(answer)
        if status == 200 and found:
            return found
        if status == 404 and "error" in found:
            return None
        raise self._failure(status, answer)

    def close(self) -> None:
        """Close the connections; requests from now on fail. Closing twice is allowed."""
        self._closed = True
        while self._idle:
            self._idle.pop().close()

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _request(
        self, method: str, path: str, body: bytes | None = None, headers: Mapping[str, str] = {}
    ) -> tuple[int, bytes]:
        """Send a request until it is answered for good; return the status and the body."""
        headers = {"Authorization": f"Bearer {self.token}", **headers}
        end = time.monotonic() + self.retry_for
        while True:
            connection = self._take_connection()
            is_reused = connection.sock is not None
            wait = RETRY_SECONDS
            try:
                connection.request(method, self._path + path, body, headers)
                response = connection.getresponse()
                answer = response.read(MAX_ANSWER_BYTES)
                is_sized = response.chunked or "Content-Length" in response.headers
                if response.length or not is_sized:  # http.client takes an end for the whole
                    raise http.client.IncompleteRead(answer)
            except (OSError, UnicodeError, http.client.HTTPException) as fault:
                connection.close()
                failure = RequestError(f"{self.url}: {getattr(fault, 'strerror', None) or fault}")
                if isinstance(fault, ssl.SSLCertVerificationError):
                    raise failure from None
                if is_reused and not isinstance(fault, TimeoutError):
                    continue  # the gateway closed it while it was idle
            else:
                self._keep(connection, response)
                if response.status not in RETRIED:
                    return response.status, answer
                failure = self._failure(response.status, answer)
                named = response.headers.get("Retry-After", "")
                wait = float(named) if named.isdecimal() else RETRY_SECONDS
            if time.monotonic() + wait > end:
                raise failure
            time.sleep(wait)

    def _take_connection(self) -> http.client.HTTPConnection:
        if self._closed:
            raise RequestError(f"{self.url}: the client is closed")
        with contextlib.suppress(IndexError):
            return self._idle.pop()
        return open_web(self.url, self.timeout, **self._tls)[0]

    def _keep(
        self, connection: http.client.HTTPConnection, response: http.client.HTTPResponse
    ) -> None:
        """Keep a connection for the next request; close it where the answer was not read whole."""
        if self._closed or not response.isclosed():
            connection.close()
        else:
            self._idle.append(connection)

    def _failure(self, status: int, answer: bytes) -> RequestError:
        text = answer.decode("utf-8", "replace").strip()[:300]
        return RequestError(f"{self.url}: {status} {text or 'without a reason'}", status)


def _read_faults(found: dict[str, Any], first: int, count: int) -> list[PushFault]:
    """Read the list `errors` of the answer to `count` pushes; empty where there is none."""
    with contextlib.suppress(TypeError, KeyError):
        return [
            PushFault(first + each["index"], each["field"], each["reason"], each["detail"])
            for each in found["errors"]
            if 0 <= each["index"] < count
        ]
    return []


def _read_object(body: bytes) -> dict[str, Any]:
    """Decode a JSON object; an empty one where it is none."""
    with contextlib.suppress(ValueError, RecursionError):
        found = json.loads(body)
        return found if isinstance(found, dict) else {}
    return {}
