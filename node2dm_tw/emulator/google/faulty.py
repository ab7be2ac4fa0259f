"""What a rule makes of a request."""

from collections.abc import Callable, Mapping

import attrs

from node2dm_tw.emulator.google import c2dm, devices, fcm, oauth
from node2dm_tw.emulator.google.accounts import LOGIN_ERRORS, TOKEN_LIFE, Accounts
from node2dm_tw.emulator.google.faults import Rule
from node2dm_tw.emulator.google.messages import (
    Headers,
    IncomingRequest,
    Outcome,
    Reply,
    Stream,
    read_form,
    read_object,
)

Handler = Callable[[IncomingRequest, float], Reply | Stream]

_NO_ANSWER = Reply(0)
"""In the log of a request whose connection was cut before it was looked at."""


def bearer(call: IncomingRequest) -> bytes:
    """Give the token of a request, ClientLogin's or OAuth's; empty for none."""
    header = call.headers.get(b"authorization", b"")
    mark = b"auth=" if header.startswith(b"GoogleLogin ") else b" "
    return header.partition(mark)[2].strip()


@attrs.define(eq=False)
class FaultResponder:
    """Turns rules into outcomes.

    Args:
        accounts: for the tokens and captchas that some answers bring.
    """

    _accounts: Accounts

    @property
    def errors(self) -> Mapping[str, frozenset[str]]:
        """The error codes each endpoint has."""
        return {
            "login": LOGIN_ERRORS,
            "send": c2dm.SEND_ERRORS,
            "token": oauth.TOKEN_ERRORS,
            "fcm": frozenset({*fcm.FCM_ERRORS, *fcm.PLAIN_ERRORS}),
            "register": frozenset(devices.REGISTRATION_ERRORS),
        }

    def names(self, endpoint: str, call: IncomingRequest, now: float) -> frozenset[str]:
        """Give the devices and accounts a request speaks of."""
        names = set(call.path.split("/")[2:4])
        if endpoint in ("send", "login"):
            form = read_form(call.body)
            names |= {form.get("registration_id", ""), form.get("Email", "")}
        elif endpoint in ("fcm", "register"):
            content = read_object(call.body) or {}
            message = content.get("message")
            for part in (content, message if isinstance(message, dict) else {}):
                names |= {each for each in part.values() if isinstance(each, str)}
        grant = self._accounts.tokens.find(bearer(call), now)
        if grant is not None:
            names.add(grant.account)
        return frozenset(names)

    def outcome(
        self, rule: Rule, endpoint: str, call: IncomingRequest, now: float, handler: Handler
    ) -> Outcome:
        """Do to a request what the rule says."""
        if rule.cut == "request":
            return Outcome(_NO_ANSWER, rule.delay, rule.cut)
        if rule.error:
            answer: Reply | Stream = self._refusal(endpoint, rule.error, call)
        elif rule.status is not None or rule.body is not None:
            answer = Reply(200)
        else:
            answer = handler(call, now)
        if isinstance(answer, Reply):
            more = self._new_token(call, now) if rule.update_client_auth else ()
            answer = _changed(answer, rule, rule.headers + more)
        return Outcome(answer, rule.delay, rule.cut)

    def _refusal(self, endpoint: str, error: str, call: IncomingRequest) -> Reply:
        if endpoint == "login":
            return self._accounts.refuse(error, read_form(call.body).get("Email", ""))
        refuse: Mapping[str, Callable[[str], Reply]] = {
            "send": c2dm.refuse,
            "token": oauth.refuse,
            "fcm": fcm.refuse,
            "register": devices.refuse,
        }
        return refuse[endpoint](error)

    def _new_token(self, call: IncomingRequest, now: float) -> Headers:
        tokens = self._accounts.tokens
        grant = tokens.find(bearer(call), now)
        if grant is None:
            return ()
        tokens.expire(grant.account)
        fresh = tokens.issue(grant.account, now, TOKEN_LIFE)
        return ((b"Update-Client-Auth", fresh.encode()),)


def _changed(answer: Reply, rule: Rule, headers: Headers) -> Reply:
    body = answer.body if rule.body is None else rule.body.encode("utf-8", "replace")
    status = answer.status if rule.status is None else rule.status
    given = {name.lower(): value for name, value in headers}
    content_type = given.pop(b"content-type", answer.content_type)
    rest = tuple((name, value) for name, value in headers if name.lower() in given)
    return Reply(status, body, content_type, answer.headers + rest, rule.error or answer.error)
