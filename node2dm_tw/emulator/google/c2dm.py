"""C2DM: what /c2dm/send says to a push."""

import itertools

import attrs

from node2dm_tw.emulator.google.accounts import Accounts, replacement
from node2dm_tw.emulator.google.messages import (
    TEXT_TYPE,
    Headers,
    IncomingRequest,
    Message,
    Reply,
    read_form,
)
from node2dm_tw.emulator.google.quotas import Quotas
from node2dm_tw.emulator.google.registrations import LONGEST_LIFE, Registration, Registrations

MOST_BYTES = 1024
"""Keys and values of the data of one message, in UTF-8, ``data.`` not counted.

The collapse key is counted apart, up to the same limit.
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
    """The send side of C2DM."""

    _accounts: Accounts
    _phones: Registrations
    _sender_quota: Quotas
    _device_quota: Quotas
    _numbers: "itertools.count[int]" = attrs.field(factory=itertools.count, init=False)

    def send(self, call: IncomingRequest, now: float) -> Reply:
        """Answer a send request, and show or store the message if it is accepted."""
        header = call.headers.get(b"authorization", b"")
        tokens = self._accounts.tokens
        grant = tokens.find(header[len(_SCHEME) :], now) if header.startswith(_SCHEME) else None
        if grant is None:
            return unauthorized()
        headers = replacement(grant, tokens, now)
        form = read_form(call.body)
        phone = self._phones.find(form.get("registration_id", ""))
        error = self._refusal(form, phone, grant.account, now)
        if error or phone is None:
            return refuse(error, headers)
        message = self._message(form, now)
        self._phones.deliver(phone, message, now)
        return Reply(200, f"id={message.message_id}\n".encode(), TEXT_TYPE, headers)

    def _refusal(
        self, form: dict[str, str], phone: Registration | None, account: str, now: float
    ) -> str:
        """Give the error code, or an empty string."""
        registration_id = form.get("registration_id", "")
        if not registration_id:
            return "MissingRegistration"
        if not form.get("collapse_key"):
            return "MissingCollapseKey"
        if phone is None:
            gone = self._phones.was_issued(registration_id)
            return "NotRegistered" if gone else "InvalidRegistration"
        if phone.sender not in (None, account):
            return "MismatchSenderId"
        if _size(form) > MOST_BYTES or len(form["collapse_key"].encode()) > MOST_BYTES:
            return "MessageTooBig"
        if self._sender_quota.wait(account, now):
            return "QuotaExceeded"
        if self._device_quota.wait(registration_id, now):
            return "DeviceQuotaExceeded"
        return ""

    def _message(self, form: dict[str, str], now: float) -> Message:
        return Message(
            message_id=f"0:{int(now * 1000):d}%{next(self._numbers):x}",
            collapse_key=form["collapse_key"],
            data={name[5:]: value for name, value in form.items() if name.startswith("data.")},
            expires=now + LONGEST_LIFE,
            while_active="delay_while_idle" in form,
        )


def refuse(error: str, headers: Headers = ()) -> Reply:
    """Answer with one of `SEND_ERRORS`."""
    return Reply(200, f"Error={error}\n".encode(), TEXT_TYPE, headers, error)


def unauthorized() -> Reply:
    """Answer that the token is not good."""
    body = b"<HTML>\n<HEAD>\n<TITLE>Unauthorized</TITLE>\n</HEAD>\n</HTML>\n"
    return Reply(401, body, b"text/html; charset=UTF-8")


def _size(form: dict[str, str]) -> int:
    return sum(
        len(name.encode()) - 5 + len(value.encode())
        for name, value in form.items()
        if name.startswith("data.")
    )
