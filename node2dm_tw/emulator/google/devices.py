"""The endpoints for phones: /device/register and /device/ID."""

from collections.abc import Mapping
from typing import Any

import attrs

from node2dm_tw.emulator.google.accounts import Accounts
from node2dm_tw.emulator.google.messages import (
    IncomingRequest,
    Reply,
    Stream,
    json_reply,
    read_object,
)
from node2dm_tw.emulator.google.registrations import Registrations

REGISTRATION_ERRORS = {
    "SERVICE_NOT_AVAILABLE": 503,
    "ACCOUNT_MISSING": 400,
    "AUTHENTICATION_FAILED": 401,
    "TOO_MANY_REGISTRATIONS": 429,
    "INVALID_SENDER": 400,
    "PHONE_REGISTRATION_ERROR": 400,
}
"""The errors of a registration, and the HTTP status of each."""

_MAX_NAME_LENGTH = 200


@attrs.define(eq=False)
class Devices:
    """Answers the requests of phones.

    Args:
        project: the sender of this name is FCM's; all others are C2DM accounts.
    """

    _accounts: Accounts
    _registrations: Registrations
    _project: str

    def register(self, request: IncomingRequest, now: float) -> Reply:
        """Answer ``POST /device/register``."""
        fields = read_object(request.body)
        if fields is None:
            return error_reply("PHONE_REGISTRATION_ERROR")
        app, device, sender = (_name(fields.get(key, "")) for key in ("app", "device", "sender"))
        error = self._find_error(fields, app, device, sender)
        if error:
            return error_reply(error)
        registration = self._registrations.register(
            str(sender),
            str(app),
            device=str(device),
            firebase=sender == self._project,
            topics=fields.get("topics", ()),
            now=now,
        )
        if registration is None:
            return error_reply("TOO_MANY_REGISTRATIONS")
        return json_reply(200, {"registration_id": registration.registration_id})

    def messages(
        self, registration_id: str, request: IncomingRequest, now: float
    ) -> Reply | Stream:
        """Answer ``GET /device/ID/messages``."""
        if self._registrations.find_with_former(registration_id) is None:
            return unknown_device(registration_id)
        return Stream(registration_id)

    def idle(self, registration_id: str, request: IncomingRequest, now: float) -> Reply:
        """Answer ``POST /device/ID/idle``."""
        fields = read_object(request.body) or {}
        idle = fields.get("idle")
        registration = self._registrations.find_with_former(registration_id)
        if registration is None:
            return unknown_device(registration_id)
        if not isinstance(idle, bool):
            return json_reply(400, {"error": 'expected a body such as {"idle": true}'})
        self._registrations.set_idle(registration, idle, now)
        return json_reply(200, {"idle": idle})

    def refresh(self, registration_id: str, request: IncomingRequest, now: float) -> Reply:
        """Answer ``POST /device/ID/refresh``, which replaces the registration ID."""
        registration = self._registrations.find_with_former(registration_id)
        if registration is None:
            return unknown_device(registration_id)
        return json_reply(200, {"registration_id": self._registrations.refresh(registration)})

    def unregister(self, registration_id: str, request: IncomingRequest, now: float) -> Reply:
        """Answer ``DELETE /device/ID``."""
        registration = self._registrations.find_with_former(registration_id)
        if registration is None:
            return unknown_device(registration_id)
        self._registrations.unregister(registration)
        return json_reply(200, {"unregistered": registration.registration_id})

    def _find_error(
        self, fields: Mapping[str, Any], app: str | None, device: str | None, sender: str | None
    ) -> str:
        topics = fields.get("topics", ())
        is_list = isinstance(topics, list | tuple) and len(topics) <= 100
        if not app or device is None or not is_list or not all(map(_name, topics)):
            return "PHONE_REGISTRATION_ERROR"
        if fields.get("account", "an account") in ("", None):
            return "ACCOUNT_MISSING"
        if not sender or not (sender == self._project or self._accounts.knows(sender)):
            return "INVALID_SENDER"
        account, password = fields.get("account"), fields.get("password")
        if password is None:
            return ""
        are_texts = isinstance(account, str) and isinstance(password, str)
        if not are_texts or not self._accounts.has_password(str(account), str(password)):
            return "AUTHENTICATION_FAILED"
        return ""


def error_reply(error: str) -> Reply:
    """Build the reply for one of `REGISTRATION_ERRORS`."""
    return json_reply(REGISTRATION_ERRORS[error], {"error": error}, error)


def unknown_device(registration_id: str) -> Reply:
    """Build the reply for an ID that is not registered."""
    reason = "no phone is registered under this ID"
    return json_reply(404, {"error": reason, "registration_id": registration_id})


def _name(value: object) -> str | None:
    """Return the value if it is a valid name, otherwise None."""
    is_short = isinstance(value, str) and len(value) <= _MAX_NAME_LENGTH
    return str(value) if is_short and str(value).isprintable() else None
