"""What the answers of FCM HTTP v1 mean.

The code in ``error.details`` decides, not the HTTP status; only where there is none does the
status speak. Any body may be anything: HTML, JSON of another shape, a part of either.
"""

import re
from collections.abc import Iterator
from typing import Any

import attrs

from node2dm_tw.backoff import retry_after
from node2dm_tw.providers.bodies import read_object
from node2dm_tw.providers.interface import (
    Answer,
    BadDevice,
    Delivered,
    DeviceOverQuota,
    Misconfigured,
    Refused,
    Retry,
    SignInAgain,
    Verdict,
)

QUOTA_PAUSE = 60.0
"""Seconds to wait after a 429 that names none."""

SHORTEST_DELAY = 10.0
"""Seconds before one message is tried again, even where fewer were named."""

BAD_TOKEN = "The registration token is not a valid FCM registration token"  # noqa: S105
"""The whole message of an INVALID_ARGUMENT that is the token's fault, where no field is named."""

CODES = frozenset(
    (
        "INVALID_ARGUMENT",
        "THIRD_PARTY_AUTH_ERROR",
        "SENDER_ID_MISMATCH",
        "UNREGISTERED",
        "QUOTA_EXCEEDED",
        "INTERNAL",
        "UNAVAILABLE",
    )
)
"""The values of FcmError.errorCode that say something."""

_IMPLIED = {
    200: "UNREADABLE",
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "OUR_FAULT",
    404: "OUR_FAULT",
    405: "OUR_FAULT",
    407: "OUR_FAULT",
    408: "INTERNAL",
    429: "QUOTA_EXCEEDED",
    501: "OUR_FAULT",
    503: "UNAVAILABLE",
}
"""What a status means by itself; never that a device is at fault. Other 5xx are INTERNAL."""

_HINTS = {
    403: "is FCM's API on in this project, and may this account send for it?",
    404: "are project and url right?",
}
_FIELD = re.compile(r"message\.data|message(?:\.[a-z_]{1,40}){0,3}")


@attrs.frozen
class _Error:
    """What could be read of an answer that is no success; empty where it was not there."""

    status: int
    name: str
    message: str
    details: list[dict[str, Any]]

    def of_type(self, name: str) -> Iterator[dict[str, Any]]:
        """The details of a type, given by the end of its name."""
        for detail in self.details:
            if _text(detail, "@type").endswith(name):
                yield detail

    @property
    def code(self) -> str:
        """FcmError.errorCode, where it is there and known."""
        codes = (_text(detail, "errorCode") for detail in self.of_type(".FcmError"))
        return next((code for code in codes if code in CODES), "")

    @property
    def violations(self) -> list[dict[str, Any]]:
        """What BadRequest says of fields."""
        details = self.of_type("google.rpc.BadRequest")
        return [each for detail in details for each in _objects(detail, "fieldViolations")]

    @property
    def subjects(self) -> list[str]:
        """Whose quota was exceeded."""
        details = self.of_type("google.rpc.QuotaFailure")
        found = [each for detail in details for each in _objects(detail, "violations")]
        return [_text(each, "subject") for each in found]


def judge(answer: Answer, now: float) -> Verdict:
    """Decide what an answer means; `now` is in seconds since the epoch. Never raises."""
    status = answer.status
    if status == 200 and answer.truncated:
        return Refused("too_large")
    content = read_object(answer.body)
    if status == 200 and (name := _text(content, "name")):
        return Delivered(name.encode("utf-8", "replace"))
    error = _read_error(status, content)
    code = error.code or _IMPLIED.get(status) or _implied_by_class(status)
    match code:
        case "INVALID_ARGUMENT":
            return _invalid_argument(error)
        case "SENDER_ID_MISMATCH" | "UNREGISTERED":
            return BadDevice(code)
        case "UNAUTHENTICATED":
            return SignInAgain(once=True)
        case "OUR_FAULT":
            return Misconfigured(_describe(error))
        case "QUOTA_EXCEEDED" | "INTERNAL" | "UNAVAILABLE":
            return _not_now(code, error, retry_after(answer.headers.get(b"retry-after"), now))
        case "UNREADABLE":
            return Refused("unreadable")
        case _:
            return Refused(code)


def _implied_by_class(status: int) -> str:
    if status >= 500:
        return "INTERNAL"
    return "OUR_FAULT" if 300 <= status < 400 else f"http_{status}"


def _invalid_argument(error: _Error) -> Verdict:
    """Tell a bad device from a bad message: FCM has one code for both."""
    fields = [_text(each, "field") for each in error.violations]
    if "message.token" in fields or "message.fid" in fields:
        return BadDevice("INVALID_ARGUMENT")
    if not error.violations and error.message == BAD_TOKEN:
        return BadDevice("INVALID_ARGUMENT")
    named = (match[0] for field in fields if (match := _FIELD.match(field)))
    field = next(named, "")
    return Refused(f"INVALID_ARGUMENT.{field}" if field else "INVALID_ARGUMENT")


def _not_now(code: str, error: _Error, after: float | None) -> Verdict:
    reason = f"{error.status} {code}" + ("" if after is None else ", Retry-After")
    if code == "QUOTA_EXCEEDED":
        wait = QUOTA_PAUSE if after is None else after
        if any(subject.startswith("device:") for subject in error.subjects):
            return DeviceOverQuota(wait)
        return Retry(wait, whole_lane=True, reason=reason, over_quota=True)
    if code == "UNAVAILABLE":
        return Retry(after, whole_lane=True, reason=reason)
    named = None if after is None else max(SHORTEST_DELAY, after)
    return Retry(named, whole_lane=False, reason=reason)


def _describe(error: _Error) -> str:
    """Say on one line what the service holds against us."""
    said = re.sub(r"[^!-~]+", " ", f"{error.name}: {error.message}"[:300]).strip(" :")
    parts = (str(error.status), said, _HINTS.get(error.status, "is url right?"))
    return ", ".join(part for part in parts if part)


def _read_error(status: int, content: dict[str, Any]) -> _Error:
    error = content.get("error")
    if not isinstance(error, dict):
        return _Error(status, "", "", [])
    details = _objects(error, "details")
    return _Error(status, _text(error, "status"), _text(error, "message"), details)


def _text(content: dict[str, Any], name: str) -> str:
    value = content.get(name)
    return value if isinstance(value, str) else ""


def _objects(content: dict[str, Any], name: str) -> list[dict[str, Any]]:
    value = content.get(name)
    return [each for each in value if isinstance(each, dict)] if isinstance(value, list) else []
