"""FCM HTTP v1: the replies of messages:send."""

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
    json_reply,
)
from node2dm_tw.emulator.google.quotas import Quotas
from node2dm_tw.emulator.google.registrations import MAX_TTL_SECONDS, Registration, Registrations
from node2dm_tw.emulator.google.topics import is_topic, read_condition
from node2dm_tw.emulator.settings import Rate

MAX_DATA_BYTES = 4096
"""Limit of the keys and values of a message's data."""

MAX_TOPIC_DATA_BYTES = 2048

PROJECT_QUOTA: Rate = (600_000, 60.0)
DEVICE_QUOTA: Sequence[Rate] = ((240, 60.0), (5_000, 3_600.0))

NOT_SIGNED_IN = (
    "Request had invalid authentication credentials. Expected OAuth 2 access token, login cookie "
    "or other valid authentication credential. See "
    "https://developers.google.com/identity/sign-in/web/devconsole-project."
)
BAD_TOKEN = "The registration token is not a valid FCM registration token"  # noqa: S105

_ANDROID = ("android", "android_v2")
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
"""FcmError.errorCode to HTTP status, status and message."""

PLAIN_ERRORS = {
    "UNAUTHENTICATED": (401, "UNAUTHENTICATED", NOT_SIGNED_IN),
    "PERMISSION_DENIED": (
        403,
        "PERMISSION_DENIED",
        "Permission 'cloudmessaging.messages.create' denied on resource (or it may not exist).",
    ),
    "NOT_FOUND": (404, "NOT_FOUND", "Requested entity was not found."),
}
"""Errors without an FcmError, by their status."""


@attrs.define(eq=False)
class FCM:
    """The send endpoint of FCM.

    Args:
        project: the only project.
        tokens: the valid access tokens.
    """

    _project: str
    _tokens: Tokens
    _registrations: Registrations
    _project_quota: Quotas
    _device_quota: Quotas
    _numbers: "itertools.count[int]" = attrs.field(factory=itertools.count, init=False)

    def send(self, project: str, request: IncomingRequest, now: float) -> Reply:
        """Answer ``POST /v1/projects/PROJECT/messages:send``."""
        refusal = self.refuse_sender(project, request, now)
        if refusal is not None:
            return refusal
        try:
            content = read_json(request.body)
            message = content.get("message") or {}
            target = check_message(message)
        except Invalid as error:
            return invalid_reply(error)
        is_dry_run = content.get("validate_only", False)
        if target in ("topic", "condition"):
            return self._publish(message, is_dry_run, now)
        return self._send_one(message, target, is_dry_run, now)

    def refuse_sender(self, project: str, request: IncomingRequest, now: float) -> Reply | None:
        """Return the error of a request that may not be made, or not now; None: it may."""
        scheme, _, token = request.headers.get(b"authorization", b"").partition(b" ")
        if scheme.lower() != b"bearer" or self._tokens.find(token.strip(), now) is None:
            return error_reply("UNAUTHENTICATED")
        if project != self._project:
            return error_reply("NOT_FOUND")
        wait = self._project_quota.consume(project, now)
        return _over_quota(f"project:{project}", wait) if wait else None

    def find_registration(self, name: str, field: str = "") -> Registration | Reply:
        """Look up a registration by its token or installation ID.

        Args:
            field: the field to blame for a malformed name; empty: none.

        Returns:
            The registration, or the error if there is none to which the project may send.
        """
        registration = self._registrations.find_by_fid(name)
        if registration is None:
            if self._registrations.was_issued(name) or re.fullmatch("[A-Za-z0-9_-]{22}", name):
                return error_reply("UNREGISTERED")
            return invalid_reply(Invalid(BAD_TOKEN, field, True))
        if registration.sender not in (None, self._project):
            return error_reply("SENDER_ID_MISMATCH")
        return registration

    def _send_one(
        self, message: Mapping[str, Any], target: str, is_dry_run: bool, now: float
    ) -> Reply:
        name = message[target]
        registration = self.find_registration(name, "message.fid" if target == "fid" else "")
        if isinstance(registration, Reply):
            return registration
        for block in _ANDROID:
            package = message.get(block, {}).get("restricted_package_name", "")
            if package and registration.app and package != registration.app:
                field = f"message.{block}.restricted_package_name"
                what = "The package name does not match the token's."
                return invalid_reply(Invalid(what, field, True))
        if is_dry_run:
            return self._accepted("fake_message_id")
        wait = self._device_quota.consume(registration.registration_id, now)
        if wait:
            return _over_quota(f"device:{name}", wait)
        return self._deliver([registration], message, now)

    def _publish(self, message: Mapping[str, Any], is_dry_run: bool, now: float) -> Reply:
        if is_dry_run:
            return self._accepted("fake_message_id")
        topic = message.get("topic")
        meets = read_condition(message["condition"] if topic is None else f"'{topic}' in topics")
        registrations = [
            registration
            for registration in self._registrations.subscribers()
            if meets(registration.topics)
        ]
        return self._deliver(registrations, message, now)

    def _deliver(
        self, registrations: list[Registration], message: Mapping[str, Any], now: float
    ) -> Reply:
        android = message.get("android_v2", message.get("android", {}))
        message_id = f"0:{int(now * 1e6):d}%{next(self._numbers):016x}"
        sent = Message(
            message_id=message_id,
            collapse_key=android.get("collapse_key", ""),
            data=_data(message),
            expires=now + android.get("ttl", MAX_TTL_SECONDS),
            while_active=not _is_urgent(message),
            notification=_notification(message) or None,
        )
        for registration in registrations:
            self._registrations.deliver(registration, sent, now)
        return self._accepted(message_id)

    def _accepted(self, message_id: str) -> Reply:
        return json_reply(200, {"name": f"projects/{self._project}/messages/{message_id}"})


def check_message(message: Mapping[str, Any]) -> str:
    """Check the rules that the types of the fields do not express.

    Args:
        message: as `read_json` returns it.

    Returns:
        the name of the field that is the target.

    Raises:
        Invalid: the first error.
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
    _check_data(message, "message")
    for block in _ANDROID:
        _check_data(message.get(block, {}), f"message.{block}")
    _check_sizes(message, target)
    for block in _ANDROID:
        _check_android(message.get(block, {}), f"message.{block}")
    _check_label(message, "message")
    for part in (*_ANDROID, "webpush", "apns"):
        if part in message:
            _check_label(message[part], f"message.{part}")
    return target


def error_reply(code: str) -> Reply:
    """Build the reply for one of `FCM_ERRORS` or `PLAIN_ERRORS`."""
    if code in PLAIN_ERRORS:
        return status_reply(*PLAIN_ERRORS[code])
    status, name, message = FCM_ERRORS[code]
    return _error(status, name, message, [_fcm_error(code)], code)


def status_reply(status: int, name: str, message: str, resource: str = "") -> Reply:
    """Build an error without an FcmError.

    Args:
        resource: the name of the resource that it concerns; empty: it names none.
    """
    info = {"@type": f"{_TYPE}rpc.ResourceInfo", "resourceName": resource}
    return _error(status, name, message, [info] if resource else [], name)


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


def _check_data(part: Mapping[str, Any], path: str) -> None:
    for key in part.get("data", {}):
        if _RESERVED.fullmatch(key) or not key:
            raise Invalid(f"Invalid data payload key: {key[:100]}", f"{path}.data", True)


def _check_label(part: Mapping[str, Any], path: str) -> None:
    label = part.get("fcm_options", {}).get("analytics_label")
    if label is not None and not _LABEL.fullmatch(label):
        raise Invalid("Invalid analytics label.", f"{path}.fcm_options.analytics_label", True)


def _check_sizes(message: Mapping[str, Any], target: str) -> None:
    maximum = MAX_TOPIC_DATA_BYTES if target in ("topic", "condition") else MAX_DATA_BYTES
    notification = _notification(message)
    data = sum(len(name.encode()) + len(text.encode()) for name, text in _data(message).items())
    sizes = [
        ("message.data", data),
        ("message.notification", len(json.dumps(notification)) if notification else 0),
    ]
    for block in _ANDROID:
        key = message.get(block, {}).get("collapse_key", "")
        sizes.append((f"message.{block}.collapse_key", len(key.encode())))
    for field, size in sizes:
        if size > maximum:
            raise Invalid("Android message is too big", field, True)


def _check_android(android: Mapping[str, Any], path: str) -> None:
    if "remote_notification" in android and "background_sync" in android:
        raise Invalid(
            f"Invalid value at '{path}' (oneof), oneof field 'message_type' is already set. "
            "Cannot set 'background_sync'",
            path,
        )
    if not 0 <= android.get("ttl", 0.0) <= MAX_TTL_SECONDS:
        what = f"TTL must be between 0 and {MAX_TTL_SECONDS:.0f} seconds."
        raise Invalid(what, f"{path}.ttl", True)
    color = android.get("notification", {}).get("color", "#000000")
    if not re.fullmatch("#[0-9a-fA-F]{6}", color):
        what = "Color must be in #rrggbb format."
        raise Invalid(what, f"{path}.notification.color", True)


def _data(message: Mapping[str, Any]) -> dict[str, str]:
    return {
        **message.get("data", {}),
        **message.get("android", {}).get("data", {}),
        **message.get("android_v2", {}).get("data", {}),
    }


def _notification(message: Mapping[str, Any]) -> dict[str, Any]:
    remote = message.get("android_v2", {}).get("remote_notification", {}).get("notification")
    return {
        **message.get("notification", {}),
        **message.get("android", {}).get("notification", {}),
        **(remote if isinstance(remote, dict) else {}),
    }


def _is_urgent(message: Mapping[str, Any]) -> bool:
    """Whether an idle phone gets the message; in android_v2 its kind says so."""
    if "android_v2" in message:
        return "remote_notification" in message["android_v2"]
    return bool(message.get("android", {}).get("priority") == "HIGH")


def invalid_reply(error: Invalid) -> Reply:
    """Build the reply for an invalid request."""
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
    reply = json_reply(status, {"error": error}, code)
    return Reply(status, reply.body, JSON_TYPE, headers, code)
