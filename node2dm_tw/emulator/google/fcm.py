"""FCM HTTP v1: what messages:send says to a message."""

import itertools
import json
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

import attrs

from node2dm_tw.emulator.google.accounts import Tokens
from node2dm_tw.emulator.google.fcm_fields import Invalid, read_json
from node2dm_tw.emulator.google.messages import (
    JSON_TYPE,
    Headers,
    IncomingRequest,
    Message,
    Reply,
    json_answer,
)
from node2dm_tw.emulator.google.quotas import Quotas
from node2dm_tw.emulator.google.registrations import LONGEST_LIFE, Registration, Registrations
from node2dm_tw.emulator.google.topics import is_topic, read_condition
from node2dm_tw.emulator.settings import Rate

MOST_BYTES = 4096
"""Keys and values of the data of one message."""

MOST_BYTES_TOPIC = 2048

PROJECT_QUOTA: Rate = (600_000, 60.0)
DEVICE_QUOTA: Sequence[Rate] = ((240, 60.0), (5_000, 3_600.0))

NOT_SIGNED_IN = (
    "Request had invalid authentication credentials. Expected OAuth 2 access token, login cookie "
    "or other valid authentication credential. See "
    "https://developers.google.com/identity/sign-in/web/devconsole-project."
)
BAD_TOKEN = "The registration token is not a valid FCM registration token"  # noqa: S105

_TARGETS = ("token", "fid", "topic", "condition")
_LABEL = re.compile(r"[a-zA-Z0-9_.~%-]{1,50}")
_RESERVED = re.compile(r"from|message_type|(?:google|gcm).*", re.DOTALL)
_TYPE = "type.googleapis.com/google."

FCM_ERRORS = {
    "INVALID_ARGUMENT": (400, "INVALID_ARGUMENT", "Request contains an invalid argument."),
    "THIRD_PARTY_AUTH_ERROR": (401, "UNAUTHENTICATED", "Auth error from APNS or Web Push Service"),
    "SENDER_ID_MISMATCH": (403, "PERMISSION_DENIED", "SenderId mismatch"),
    "UNREGISTERED": (404, "NOT_FOUND", "Requested entity was not found."),
    "QUOTA_EXCEEDED": (429, "RESOURCE_EXHAUSTED", "Quota exceeded."),
    "INTERNAL": (500, "INTERNAL", "Internal error encountered."),
    "UNAVAILABLE": (503, "UNAVAILABLE", "The service is currently unavailable."),
}
"""FcmError.errorCode to HTTP status, status, and message."""

PLAIN_ERRORS = {
    "UNAUTHENTICATED": (401, "UNAUTHENTICATED", NOT_SIGNED_IN),
    "PERMISSION_DENIED": (
        403,
        "PERMISSION_DENIED",
        "Permission 'cloudmessaging.messages.create' denied on resource (or it may not exist).",
    ),
    "NOT_FOUND": (404, "NOT_FOUND", "Requested entity was not found."),
}
"""Errors that come without an FcmError, under their status."""


@attrs.define(eq=False)
class FCM:
    """The send side of FCM.

    Args:
        project: the only one there is.
        tokens: the access tokens that are good.
    """

    _project: str
    _tokens: Tokens
    _phones: Registrations
    _project_quota: Quotas
    _device_quota: Quotas
    _numbers: "itertools.count[int]" = attrs.field(factory=itertools.count, init=False)

    def send(self, project: str, call: IncomingRequest, now: float) -> Reply:
        """Answer a request to ``/v1/projects/PROJECT/messages:send``."""
        scheme, _, token = call.headers.get(b"authorization", b"").partition(b" ")
        if scheme.lower() != b"bearer" or self._tokens.find(token.strip(), now) is None:
            return refuse("UNAUTHENTICATED")
        if project != self._project:
            return refuse("NOT_FOUND")
        wait = self._project_quota.wait(project, now)
        if wait:
            return _over_quota(f"project:{project}", wait)
        try:
            request = read_json(call.body)
            message = request.get("message") or {}
            target = check(message)
        except Invalid as error:
            return _invalid(error)
        dry = request.get("validate_only", False)
        if target in ("topic", "condition"):
            return self._publish(message, dry, now)
        return self._send_one(message, target, dry, now)

    def _send_one(self, message: Mapping[str, Any], target: str, dry: bool, now: float) -> Reply:
        name = message[target]
        phone = (self._phones.find if target == "token" else self._phones.find_by_fid)(name)
        if phone is None:
            if target == "token" and self._phones.was_issued(name):
                return refuse("UNREGISTERED")
            if target == "fid" and re.fullmatch("[A-Za-z0-9_-]{22}", name):
                return refuse("UNREGISTERED")
            return _invalid(Invalid(BAD_TOKEN, "" if target == "token" else "message.fid", True))
        if phone.sender not in (None, self._project):
            return refuse("SENDER_ID_MISMATCH")
        package = message.get("android", {}).get("restricted_package_name", "")
        if package and phone.app and package != phone.app:
            field = "message.android.restricted_package_name"
            return _invalid(Invalid("The package name does not match the token's.", field, True))
        if dry:
            return self._accepted("fake_message_id")
        wait = self._device_quota.wait(phone.registration_id, now)
        if wait:
            return _over_quota(f"device:{name}", wait)
        return self._deliver([phone], message, now)

    def _publish(self, message: Mapping[str, Any], dry: bool, now: float) -> Reply:
        if dry:
            return self._accepted("fake_message_id")
        topic = message.get("topic")
        meets = read_condition(message["condition"] if topic is None else f"'{topic}' in topics")
        phones = [phone for phone in self._phones.subscribers() if meets(phone.topics)]
        return self._deliver(phones, message, now)

    def _deliver(self, phones: list[Registration], message: Mapping[str, Any], now: float) -> Reply:
        android = message.get("android", {})
        number = f"0:{int(now * 1e6):d}%{next(self._numbers):016x}"
        pushed = Message(
            message_id=number,
            collapse_key=android.get("collapse_key", ""),
            data=_data(message),
            expires=now + android.get("ttl", LONGEST_LIFE),
            while_active=android.get("priority") != "HIGH",
            notification=_notification(message) or None,
        )
        for phone in phones:
            self._phones.deliver(phone, pushed, now)
        return self._accepted(number)

    def _accepted(self, number: str) -> Reply:
        return json_answer(200, {"name": f"projects/{self._project}/messages/{number}"})


def check(message: Mapping[str, Any]) -> str:
    """Check what the types of the fields do not say.

    Args:
        message: as `read_json` gives it.

    Returns:
        the name of the field that is the target.

    Raises:
        Invalid: with the first fault.
    """
    targets = [name for name in _TARGETS if message.get(name) is not None]
    if len(targets) > 1:
        raise Invalid(
            f"Invalid value at 'message' (oneof), oneof field 'target' is already set. "
            f"Cannot set '{targets[1]}'",
            "message",
        )
    if not targets or not message[targets[0]]:
        raise Invalid("Recipient of the message is not set.", "message", True)
    (target,) = targets
    _check_target(target, message[target])
    for field, data in (
        ("message.data", message.get("data", {})),
        ("message.android.data", message.get("android", {}).get("data", {})),
    ):
        for key in data:
            if _RESERVED.fullmatch(key) or not key:
                raise Invalid(f"Invalid data payload key: {key[:100]}", field, True)
    _check_sizes(message, target)
    _check_android(message.get("android", {}))
    _check_label(message, "message")
    for part in ("android", "webpush", "apns"):
        if part in message:
            _check_label(message[part], f"message.{part}")
    return target


def refuse(code: str, headers: Headers = ()) -> Reply:
    """Answer with one of `FCM_ERRORS` or `PLAIN_ERRORS`."""
    if code in PLAIN_ERRORS:
        return _error(*PLAIN_ERRORS[code], [], code, headers)
    status, name, message = FCM_ERRORS[code]
    return _error(status, name, message, [_fcm_error(code)], code, headers)


def _check_target(target: str, name: str) -> None:
    if target == "topic" and not is_topic(name):
        raise Invalid("Malformed topic name.", "message.topic", True)
    if target == "condition":
        try:
            read_condition(name)
        except ValueError:
            raise Invalid(
                "Invalid condition expression provided.", "message.condition", True
            ) from None


def _check_label(part: Mapping[str, Any], path: str) -> None:
    label = part.get("fcm_options", {}).get("analytics_label")
    if label is not None and not _LABEL.fullmatch(label):
        raise Invalid("Invalid analytics label.", f"{path}.fcm_options.analytics_label", True)


def _check_sizes(message: Mapping[str, Any], target: str) -> None:
    most = MOST_BYTES_TOPIC if target in ("topic", "condition") else MOST_BYTES
    notification = _notification(message)
    data = sum(len(name.encode()) + len(text.encode()) for name, text in _data(message).items())
    for field, size in (
        ("message.data", data),
        ("message.notification", len(json.dumps(notification)) if notification else 0),
        (
            "message.android.collapse_key",
            len(message.get("android", {}).get("collapse_key", "").encode()),
        ),
    ):
        if size > most:
            raise Invalid("Android message is too big", field, True)


def _check_android(android: Mapping[str, Any]) -> None:
    if not 0 <= android.get("ttl", 0.0) <= LONGEST_LIFE:
        what = f"TTL must be between 0 and {LONGEST_LIFE:.0f} seconds."
        raise Invalid(what, "message.android.ttl", True)
    color = android.get("notification", {}).get("color", "#000000")
    if not re.fullmatch("#[0-9a-fA-F]{6}", color):
        what = "Color must be in #rrggbb format."
        raise Invalid(what, "message.android.notification.color", True)


def _data(message: Mapping[str, Any]) -> dict[str, str]:
    return {**message.get("data", {}), **message.get("android", {}).get("data", {})}


def _notification(message: Mapping[str, Any]) -> dict[str, Any]:
    android = message.get("android", {})
    return {**message.get("notification", {}), **android.get("notification", {})}


def _invalid(error: Invalid) -> Reply:
    details: list[dict[str, Any]] = [_fcm_error("INVALID_ARGUMENT")] if error.fcm else []
    if error.field or not error.fcm:
        violation = {"field": error.field, "description": error.message}
        if not error.field:
            del violation["field"]
        details.append({"@type": f"{_TYPE}rpc.BadRequest", "fieldViolations": [violation]})
    return _error(400, "INVALID_ARGUMENT", error.message, details, "INVALID_ARGUMENT")


def _over_quota(subject: str, wait: float) -> Reply:
    kind, _, _ = subject.partition(":")
    message = f"Quota exceeded for this {kind}."
    failure = {
        "@type": f"{_TYPE}rpc.QuotaFailure",
        "violations": [{"subject": subject, "description": message}],
    }
    details = [_fcm_error("QUOTA_EXCEEDED"), failure]
    after = ((b"Retry-After", b"%d" % max(1, math.ceil(wait))),)
    return _error(429, "RESOURCE_EXHAUSTED", message, details, "QUOTA_EXCEEDED", after)


def _fcm_error(code: str) -> dict[str, Any]:
    return {"@type": f"{_TYPE}firebase.fcm.v1.FcmError", "errorCode": code}


def _error(
    status: int,
    name: str,
    message: str,
    details: list[dict[str, Any]],
    code: str,
    headers: Headers = (),
) -> Reply:
    error: dict[str, Any] = {"code": status, "message": message, "status": name}
    if details:
        error["details"] = details
    answer = json_answer(status, {"error": error}, code)
    return Reply(status, answer.body, JSON_TYPE, headers, code)
