"""C2DM: the replies of /c2dm/send."""

import itertools

import attrs

from node2dm_tw.emulator.google.accounts import Accounts, renewal_headers
from node2dm_tw.emulator.google.messages import (
    TEXT_TYPE,
    Headers,
    IncomingRequest,
    Message,
    Reply,
    read_form,
)
from node2dm_tw.emulator.google.quotas import Quotas
from node2dm_tw.emulator.google.registrations import MAX_TTL_SECONDS, Registration, Registrations

MAX_DATA_BYTES = 1024
"""Limit of the keys and values of a message's data, in UTF-8, without ``data.``.

The same limit holds for the collapse key by itself.
"""

SEND_ERRORS = frozenset(
    {
        "QuotaExceeded",
        "DeviceQuotaExceeded",
        "MissingRegistration",
        "InvalidRegistration",
        "MismatchSenderId",
        "NotRegistered",
        "MessageTooBig",
        "MissingCollapseKey",
    }
)

_SCHEME = b"GoogleLogin auth="


@attrs.define(eq=False)
class C2DM:
    """The send endpoint of C2DM."""

    _accounts: Accounts
    _registrations: Registrations
    _sender_quota: Quotas
    _device_quota: Quotas
    _numbers: "itertools.count[int]" = attrs.field(factory=itertools.count, init=False)

    def send(self, request: IncomingRequest, now: float) -> Reply:
        """Answer a send request; deliver or store the message if it is accepted."""
        header = request.headers.get(b"authorization", b"")
        tokens = self._accounts.tokens
        grant = tokens.find(header[len(_SCHEME) :], now) if header.startswith(_SCHEME) else None
        if grant is None:
            return unauthorized()
        headers = renewal_headers(grant, tokens, now)
        form = read_form(request.body)
        registration = self._registrations.find(form.get("registration_id", ""))
        error = self._find_error(form, registration, grant.account, now)
        if error or registration is None:
            return error_reply(error, headers)
        message = self._message(form, now)
        self._registrations.deliver(registration, message, now)
        return Reply(200, f"id={message.message_id}\n".encode(), TEXT_TYPE, headers)

    def _find_error(
        self, form: dict[str, str], registration: Registration | None, account: str, now: float
    ) -> str:
        """Return the error code, or an empty string."""
        registration_id = form.get("registration_id", "")
        if not registration_id:
            return "MissingRegistration"
        if not form.get("collapse_key"):
            return "MissingCollapseKey"
        if registration is None:
            is_former = self._registrations.was_issued(registration_id)
            return "NotRegistered" if is_former else "InvalidRegistration"
        if registration.sender not in (None, account):
            return "MismatchSenderId"
        if _data_size(form) > MAX_DATA_BYTES or len(form["collapse_key"].encode()) > MAX_DATA_BYTES:
            return "MessageTooBig"
        if self._sender_quota.consume(account, now):
            return "QuotaExceeded"
        if self._device_quota.consume(registration_id, now):
            return "DeviceQuotaExceeded"
        return ""

    def _message(self, form: dict[str, str], now: float) -> Message:
        return Message(
            message_id=f"0:{int(now * 1000):d}%{next(self._numbers):x}",
            collapse_key=form["collapse_key"],
            data={name[5:]: value for name, value in form.items() if name.startswith("data.")},
            expires=now + MAX_TTL_SECONDS,
            while_active="delay_while_idle" in form,
        )


def error_reply(error: str, headers: Headers = ()) -> Reply:
    """Build the reply for one of `SEND_ERRORS`."""
    return Reply(200, f"Error={error}\n".encode(), TEXT_TYPE, headers, error)


def unauthorized() -> Reply:
    """Build the reply for an invalid token."""
    body = b"<HTML>\n<HEAD>\n<TITLE>Unauthorized</TITLE>\n</HEAD>\n</HTML>\n"
    return Reply(401, body, b"text/html; charset=UTF-8")


def _data_size(form: dict[str, str]) -> int:
    return sum(
        len(name.encode()) - 5 + len(value.encode())
        for name, value in form.items()
        if name.startswith("data.")
    )
