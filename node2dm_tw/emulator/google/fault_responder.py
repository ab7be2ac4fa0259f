"""Applies the rules of /faults to requests."""

from collections.abc import Callable, Mapping
from urllib.parse import parse_qsl

import attrs

from node2dm_tw.emulator.google import c2dm, devices, fcm, federation, oauth, subscriptions
from node2dm_tw.emulator.google.accounts import LOGIN_ERRORS, TOKEN_SECONDS, Accounts
from node2dm_tw.emulator.google.faults import FaultRule
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

_NO_REPLY = Reply(0)
"""The log entry of a request whose connection was cut before it was handled."""


def bearer(request: IncomingRequest) -> bytes:
    """Return the token of a request, of ClientLogin or OAuth; empty without one."""
    header = request.headers.get(b"authorization", b"")
    mark = b"auth=" if header.startswith(b"GoogleLogin ") else b" "
    return header.partition(mark)[2].strip()


@attrs.define(eq=False)
class FaultResponder:
    """Turns rules into outcomes.

    Args:
        accounts: issue the tokens and captchas of some replies.
    """

    _accounts: Accounts

    @property
    def errors(self) -> Mapping[str, frozenset[str]]:
        """The error codes of each endpoint."""
        return {
            "login": LOGIN_ERRORS,
            "send": c2dm.SEND_ERRORS,
            "token": oauth.TOKEN_ERRORS,
            "sts": oauth.TOKEN_ERRORS,
            "impersonate": frozenset(federation.IMPERSONATION_ERRORS),
            "fcm": frozenset({*fcm.FCM_ERRORS, *fcm.PLAIN_ERRORS}),
            "topics": subscriptions.SUBSCRIPTION_ERRORS,
            "register": frozenset(devices.REGISTRATION_ERRORS),
        }

    def names(self, endpoint: str, request: IncomingRequest, now: float) -> frozenset[str]:
        """Return the devices and accounts that a request names."""
        names = set(request.path.split("/")[2:4])
        if endpoint in ("send", "login"):
            form = read_form(request.body)
            names |= {form.get("registration_id", ""), form.get("Email", "")}
        elif endpoint == "topics":
            names |= {
                *request.path.split("/")[5:],
                *dict(parse_qsl(request.query.decode("latin-1"))).values(),
            }
        elif endpoint in ("fcm", "register"):
            content = read_object(request.body) or {}
            message = content.get("message")
            for part in (content, message if isinstance(message, dict) else {}):
                names |= {each for each in part.values() if isinstance(each, str)}
        grant = self._accounts.tokens.find(bearer(request), now)
        if grant is not None:
            names.add(grant.account)
        return frozenset(names)

    def apply(
        self, rule: FaultRule, endpoint: str, request: IncomingRequest, now: float, handler: Handler
    ) -> Outcome:
        """Apply a rule to a request."""
        if rule.cut == "request":
            return Outcome(_NO_REPLY, rule.delay, rule.cut)
        if rule.error:
            reply: Reply | Stream = self._error_reply(endpoint, rule.error, request)
        elif rule.status is not None or rule.body is not None:
            reply = Reply(200)
        else:
            reply = handler(request, now)
        if isinstance(reply, Reply):
            renewal = self._new_token(request, now) if rule.update_client_auth else ()
            reply = _apply_rule(reply, rule, rule.headers + renewal)
        return Outcome(reply, rule.delay, rule.cut)

    def _error_reply(self, endpoint: str, error: str, request: IncomingRequest) -> Reply:
        if endpoint == "login":
            return self._accounts.error_reply(error, read_form(request.body).get("Email", ""))
        error_reply: Mapping[str, Callable[[str], Reply]] = {
            "send": c2dm.error_reply,
            "token": oauth.error_reply,
            "sts": oauth.error_reply,
            "impersonate": federation.impersonation_error,
            "fcm": fcm.error_reply,
            "topics": subscriptions.error_reply,
            "register": devices.error_reply,
        }
        return error_reply[endpoint](error)

    def _new_token(self, request: IncomingRequest, now: float) -> Headers:
        tokens = self._accounts.tokens
        grant = tokens.find(bearer(request), now)
        if grant is None:
            return ()
        tokens.expire(grant.account)
        fresh = tokens.issue(grant.account, now, TOKEN_SECONDS)
        return ((b"Update-Client-Auth", fresh.encode()),)


def _apply_rule(reply: Reply, rule: FaultRule, headers: Headers) -> Reply:
    body = reply.body if rule.body is None else rule.body.encode("utf-8", "replace")
    status = reply.status if rule.status is None else rule.status
    given = {name.lower(): value for name, value in headers}
    content_type = given.pop(b"content-type", reply.content_type)
    rest = tuple((name, value) for name, value in headers if name.lower() in given)
    return Reply(status, body, content_type, reply.headers + rest, rule.error or reply.error)
