"""The phone's side: /device/register and what follows it."""

from collections.abc import Mapping
from typing import Any

import attrs

from node2dm_tw.emulator.google.accounts import Accounts
from node2dm_tw.emulator.google.messages import (
    IncomingRequest,
    Reply,
    Stream,
    json_answer,
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
"""The errors a registering phone can get, with the status they come with."""

_LONGEST_NAME = 200


@attrs.define(eq=False)
class Devices:
    """What phones ask for.

    Args:
        project: senders of this name are FCM's, all others are C2DM accounts.
    """

    _accounts: Accounts
    _phones: Registrations
    _project: str

    def register(self, call: IncomingRequest, now: float) -> Reply:
        """Answer ``POST /device/register`` with an ID or with one of the errors."""
        wanted = read_object(call.body)
        if wanted is None:
            return refuse("PHONE_REGISTRATION_ERROR")
        app, device, sender = (_name(wanted.get(key, "")) for key in ("app", "device", "sender"))
        error = self._refusal(wanted, app, device, sender)
        if error:
            return refuse(error)
        phone = self._phones.register(
            str(sender),
            str(app),
            device=str(device),
            firebase=sender == self._project,
            topics=wanted.get("topics", ()),
        )
        if phone is None:
            return refuse("TOO_MANY_REGISTRATIONS")
        return json_answer(200, {"registration_id": phone.registration_id})

    def messages(self, registration_id: str, call: IncomingRequest, now: float) -> Reply | Stream:
        """Answer ``GET /device/ID/messages``."""
        if self._phones.reach(registration_id) is None:
            return unknown(registration_id)
        return Stream(registration_id)

    def idle(self, registration_id: str, call: IncomingRequest, now: float) -> Reply:
        """Answer ``POST /device/ID/idle``."""
        wanted = read_object(call.body) or {}
        idle = wanted.get("idle")
        phone = self._phones.reach(registration_id)
        if phone is None:
            return unknown(registration_id)
        if not isinstance(idle, bool):
            return json_answer(400, {"error": 'expected a body such as {"idle": true}'})
        self._phones.set_idle(phone, idle, now)
        return json_answer(200, {"idle": idle})

    def refresh(self, registration_id: str, call: IncomingRequest, now: float) -> Reply:
        """Answer ``POST /device/ID/refresh``, which does what Google does of its own accord."""
        phone = self._phones.reach(registration_id)
        if phone is None:
            return unknown(registration_id)
        return json_answer(200, {"registration_id": self._phones.refresh(phone)})

    def unregister(self, registration_id: str, call: IncomingRequest, now: float) -> Reply:
        """Answer ``DELETE /device/ID``."""
        phone = self._phones.reach(registration_id)
        if phone is None:
            return unknown(registration_id)
        self._phones.unregister(phone)
        return json_answer(200, {"unregistered": phone.registration_id})

    def _refusal(
        self, wanted: Mapping[str, Any], app: str | None, device: str | None, sender: str | None
    ) -> str:
        topics = wanted.get("topics", ())
        listed = isinstance(topics, list | tuple) and len(topics) <= 100
        if not app or device is None or not listed or not all(map(_name, topics)):
            return "PHONE_REGISTRATION_ERROR"
        if wanted.get("account", "an account") in ("", None):
            return "ACCOUNT_MISSING"
        if not sender or not (sender == self._project or self._accounts.knows(sender)):
            return "INVALID_SENDER"
        account, password = wanted.get("account"), wanted.get("password")
        if password is None:
            return ""
        texts = isinstance(account, str) and isinstance(password, str)
        if not texts or not self._accounts.has_password(str(account), str(password)):
            return "AUTHENTICATION_FAILED"
        return ""


def refuse(error: str) -> Reply:
    """Answer with one of `REGISTRATION_ERRORS`."""
    return json_answer(REGISTRATION_ERRORS[error], {"error": error}, error)


def unknown(registration_id: str) -> Reply:
    """Answer that there is no such phone."""
    reason = "no phone is registered under this ID"
    return json_answer(404, {"error": reason, "registration_id": registration_id})


def _name(value: object) -> str | None:
    """Give a text back if it can be a name."""
    short = isinstance(value, str) and len(value) <= _LONGEST_NAME
    return str(value) if short and str(value).isprintable() else None
