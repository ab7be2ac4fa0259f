"""Judges the answers of FCM HTTP v1.

The code in ``error.details`` decides, not the HTTP status. The status decides only if there is no
code. A body may be anything: HTML, other JSON, or a part of either.
"""

import re
from collections.abc import Iterator

import attrs

from node2dm_tw.core.backoff import retry_after
from node2dm_tw.core.response import Response
from node2dm_tw.providers.bodies import read_object
from node2dm_tw.providers.interface import (
    BadDevice,
    Delivered,
    DeviceOverQuota,
    Rejected,
    Retry,
    Unauthorized,
    Unexplained,
    Verdict,
    delivered,
)

QUOTA_PAUSE = 60.0
"""Seconds to wait after a 429 without a time."""

REFUSAL_PAUSE = 60.0
"""Seconds between probes if every push is answered with 3xx or 4xx."""

BAD_TOKEN = "The registration token is not a valid FCM registration token"  # noqa: S105
"""The message of an INVALID_ARGUMENT about the token, if it names no field."""

CODES = frozenset(
    (
        "INVALID_ARGUMENT",
        "THIRD_PARTY_AUTH_ERROR",
        "APNS_AUTH_ERROR",
        "SENDER_ID_MISMATCH",
        "UNREGISTERED",
        "QUOTA_EXCEEDED",
        "INTERNAL",
        "UNAVAILABLE",
    )
)
"""The known values of FcmError.errorCode, except the unspecified one."""

_DEFAULT_CODES = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    408: "TRANSIENT",
    425: "TRANSIENT",
    429: "QUOTA_EXCEEDED",
    503: "UNAVAILABLE",
}
"""The meaning of a status without a code. Other statuses are unexplained."""

_HINTS = {
    400: "is url right?",
    403: "is FCM's API on in this project, and may this account send for it?",
    404: "are project and url right?",
}
_AROUND_NAME = b"{", b":", b"}"
_PLAIN = bytes(byte if 32 <= byte < 127 and byte != 92 else byte ^ 1 for byte in range(256))
"""Translates bytes that a JSON string contains unescaped to themselves, others to another."""

_FIELD = re.compile(r"message\.data|message(?:\.[a-z_]{1,40}){0,3}")


@attrs.frozen
class FCMError:
    """The fields of an error answer; missing ones are empty."""

    status: int
    is_json: bool
    name: str
    message: str
    details: list[dict[str, object]]

    def of_type(self, name: str) -> Iterator[dict[str, object]]:
        """Yield the details of a type, given by the end of its name."""
        for detail in self.details:
            if _text(detail, "@type").endswith(name):
                yield detail

    @property
    def code(self) -> str:
        """FcmError.errorCode, if present and known."""
        codes = (_text(detail, "errorCode") for detail in self.of_type(".FcmError"))
        return next((code for code in codes if code in CODES), "")

    @property
    def violations(self) -> list[dict[str, object]]:
        """The field violations of BadRequest."""
        details = self.of_type("google.rpc.BadRequest")
        return [each for detail in details for each in _objects(detail, "fieldViolations")]

    @property
    def subjects(self) -> list[str]:
        """The subjects whose quota was exceeded."""
        details = self.of_type("google.rpc.QuotaFailure")
        found = [each for detail in details for each in _objects(detail, "violations")]
        return [_text(each, "subject") for each in found]

    @property
    def resources(self) -> list[str]:
        """The names of the resources that the error concerns."""
        return [_text(each, "resourceName") for each in self.of_type("google.rpc.ResourceInfo")]


def judge(response: Response, now: float) -> Verdict:
    """Decide what an answer means; `now` is in seconds since the epoch. Never raises."""
    status, _, body, truncated = response
    is_success = status == 200 and not truncated
    if is_success and (plain_name := _read_plain_success(body)):
        return delivered((plain_name,))
    content = read_object(body)
    if is_success and (name := _text(content, "name")):
        return Delivered(name.encode("utf-8", "replace"))
    error = read_error(status, content)
    code = error.code or _DEFAULT_CODES.get(error.status, "")
    if 200 <= error.status < 300 and not code:
        return _unreadable(response)
    after = _named_delay(response, error, now)
    match code:
        case "INVALID_ARGUMENT" if error.is_json:
            return _invalid_argument(error)
        case "SENDER_ID_MISMATCH" | "UNREGISTERED":
            return BadDevice(code)
        case "UNAUTHENTICATED":
            return Unauthorized()
        case "THIRD_PARTY_AUTH_ERROR" | "APNS_AUTH_ERROR":
            return Rejected(code)
        case "QUOTA_EXCEEDED":
            return _over_quota(error, after)
        case "UNAVAILABLE" | "TRANSIENT":
            reason = _describe(error.status, "" if code == "TRANSIENT" else code, after)
            return Retry(after, whole_lane=code == "UNAVAILABLE", reason=reason)
        case _:
            return _unexplained(error, after)


def _read_plain_success(body: bytes) -> bytes | None:
    """Read the name in the body of a usual success, without parsing JSON."""
    parts = body.split(b'"')
    if len(parts) != 5:
        return None
    begin, member, colon, name, end = parts
    is_alone = member == b"name" and (begin.strip(), colon.strip(), end.strip()) == _AROUND_NAME
    return name if is_alone and name and name.translate(_PLAIN) == name else None


def _unreadable(response: Response) -> Rejected:
    """Reject a push that may have been delivered; the answer says nothing about the service."""
    reason = "too_large" if response.truncated else "unreadable"
    if response.status != 200:
        reason = f"http_{response.status}"
    return Rejected(reason, is_explained=False)


def _unexplained(error: FCMError, after: float | None) -> Unexplained:
    """Describe an answer without a cause. INTERNAL names none either."""
    pause = REFUSAL_PAUSE if 300 <= error.status < 500 else None
    said = re.sub(r"[^!-~]+", " ", f"{error.name}: {error.message}"[:300]).strip(" :")
    hint = _HINTS.get(error.status, "is url right?" if pause else "")
    parts = (_describe(error.status, error.code, after), said, hint)
    reason = error.code or f"http_{error.status}"
    return Unexplained(reason, ", ".join(part for part in parts if part), after, pause)


def _named_delay(response: Response, error: FCMError, now: float) -> float | None:
    """Return the longer of the times in Retry-After and google.rpc.RetryInfo."""
    details = error.of_type("google.rpc.RetryInfo")
    values = [_text(detail, "retryDelay").encode("ascii", "replace") for detail in details]
    values.append(response.headers.get(b"retry-after", b""))
    named = [retry_after(value, now) for value in values]
    return max((seconds for seconds in named if seconds is not None), default=None)


def _invalid_argument(error: FCMError) -> Verdict:
    """Distinguish a bad device from a bad message, because FCM has one code for both."""
    fields = [_text(each, "field") for each in error.violations]
    if "message.token" in fields or "message.fid" in fields:
        return BadDevice("INVALID_ARGUMENT")
    if not error.violations and error.message == BAD_TOKEN:
        return BadDevice("INVALID_ARGUMENT")
    named = (match[0] for field in fields if (match := _FIELD.match(field)))
    field = next(named, "")
    return Rejected(f"INVALID_ARGUMENT.{field}" if field else "INVALID_ARGUMENT")


def _over_quota(error: FCMError, after: float | None) -> Verdict:
    wait = QUOTA_PAUSE if after is None else after
    if any(subject.startswith("device:") for subject in error.subjects):
        return DeviceOverQuota(wait)
    reason = _describe(error.status, "QUOTA_EXCEEDED", after)
    return Retry(wait, whole_lane=True, reason=reason, over_quota=True)


def _describe(status: int, code: str, after: float | None) -> str:
    return f"{status} {code}".strip() + ("" if after is None else ", Retry-After")


def read_error(status: int, content: dict[str, object]) -> FCMError:
    """Read the error of an answer; of an answer without one only the status is known."""
    error = content.get("error")
    if not isinstance(error, dict):
        return FCMError(status, False, "", "", [])
    details = _objects(error, "details")
    return FCMError(status, True, _text(error, "status"), _text(error, "message"), details)


def _text(content: dict[str, object], name: str) -> str:
    value = content.get(name)
    return value if isinstance(value, str) else ""


def _objects(content: dict[str, object], name: str) -> list[dict[str, object]]:
    value = content.get(name)
    return [each for each in value if isinstance(each, dict)] if isinstance(value, list) else []
