"""Google's side as a whole: which rules answer which request."""

from collections.abc import Callable
from urllib.parse import parse_qs

import attrs

from node2dm_tw.emulator.google.accounts import Accounts, Tokens
from node2dm_tw.emulator.google.c2dm import C2DM
from node2dm_tw.emulator.google.devices import Devices
from node2dm_tw.emulator.google.faults import Faults
from node2dm_tw.emulator.google.faulty import FaultResponder, Handler, bearer
from node2dm_tw.emulator.google.fcm import DEVICE_QUOTA, FCM, PROJECT_QUOTA
from node2dm_tw.emulator.google.messages import (
    HTML_TYPE,
    EventSink,
    IncomingRequest,
    Outcome,
    Reply,
    json_answer,
    read_form,
    read_object,
)
from node2dm_tw.emulator.google.oauth import NEEDS_EXTRA, OAuth, Verify, find_verifier
from node2dm_tw.emulator.google.quotas import Quotas
from node2dm_tw.emulator.google.registrations import Registrations
from node2dm_tw.emulator.google.request_log import RequestLog
from node2dm_tw.emulator.settings import PROJECT, EmulatorSettings


@attrs.define(eq=False)
class GoogleEmulator:
    """Answers requests; knows nothing of sockets, and the time only by being told.

    Args:
        settings: what it is started with.
        screens: gives each phone of the settings its screen, by name.
        on_tokens: called after each change of the tokens.
        verify: reads assertions; None: there is no FCM.
    """

    _settings: EmulatorSettings
    _screens: Callable[[str], EventSink]
    _on_tokens: Callable[[], None] = lambda: None
    _verify: Verify | None = attrs.field(factory=find_verifier)
    accounts: Accounts = attrs.field(init=False)
    oauth: OAuth = attrs.field(init=False)
    phones: Registrations = attrs.field(factory=Registrations, init=False)
    journal: RequestLog = attrs.field(factory=RequestLog, init=False)
    faults: Faults = attrs.field(init=False)
    _answers: FaultResponder = attrs.field(init=False)
    _devices: Devices = attrs.field(init=False)
    _fcm: FCM = attrs.field(init=False)
    _handlers: dict[tuple[str, str], tuple[str, Handler]] = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        """Put the parts together."""
        settings = self._settings
        self.accounts = Accounts(settings.accounts, Tokens(on_change=self._on_tokens))
        self.oauth = OAuth(self._verify, tokens=Tokens(on_change=self._on_tokens))
        self._answers = FaultResponder(self.accounts)
        self.faults = Faults(self._answers.errors)
        self._devices = Devices(self.accounts, self.phones, PROJECT)
        for name in settings.phones:
            self.phones.add(name, self._screens(name))
        senders = [settings.sender_quota] if settings.sender_quota else []
        devices = [settings.device_quota] if settings.device_quota else []
        c2dm = C2DM(self.accounts, self.phones, Quotas(senders), Quotas(devices))
        self._fcm = FCM(
            PROJECT,
            self.oauth.tokens,
            self.phones,
            Quotas(senders or [PROJECT_QUOTA]),
            Quotas(devices or DEVICE_QUOTA),
        )
        self._handlers = {
            ("POST", "/accounts/ClientLogin"): ("login", self._login),
            ("GET", "/accounts/Captcha"): ("captcha", self._captcha),
            ("POST", "/c2dm/send"): ("send", c2dm.send),
            ("POST", "/token"): ("token", self._token),
            ("POST", "/device/register"): ("register", self._devices.register),
            ("GET", "/log"): ("", lambda call, now: self.journal.show(call)),
            ("GET", "/stats"): ("", self._stats),
            ("GET", "/faults"): ("", lambda call, now: self.faults.show()),
            ("POST", "/faults"): ("", lambda call, now: self.faults.add(call)),
            ("DELETE", "/faults"): ("", self._clear_faults),
            ("POST", "/expire"): ("", self._expire),
            ("POST", "/reset"): ("", self._reset),
        }

    def answer(self, call: IncomingRequest, now: float) -> Outcome:
        """Answer a request.

        Args:
            call: the request.
            now: seconds since the epoch.
        """
        endpoint, handler = self._handlers.get((call.method, call.path)) or self._find(call)
        if not endpoint:
            return Outcome(handler(call, now))
        token = self._token_number(endpoint, call, now)
        rule = None
        if self.faults.active:
            rule = self.faults.take(endpoint, self._answers.names(endpoint, call, now))
        if rule is None:
            outcome = Outcome(handler(call, now))
        else:
            outcome = self._answers.outcome(rule, endpoint, call, now, handler)
        self.journal.record(endpoint, call, outcome.answer, now, token)
        return outcome

    def _token_number(self, endpoint: str, call: IncomingRequest, now: float) -> int | None:
        if endpoint not in ("send", "fcm"):
            return None
        tokens = self.accounts.tokens if endpoint == "send" else self.oauth.tokens
        grant = tokens.find(bearer(call), now)
        return None if grant is None else grant.number

    def _find(self, call: IncomingRequest) -> tuple[str, Handler]:
        parts = call.path.split("/")
        match parts[1:]:
            case ["device", *rest] if rest:
                return self._find_device(call, rest)
            case ["v1", "projects", project, "messages:send"]:
                if call.method != "POST":
                    return "", _not_found
                return "fcm", lambda call, now: self._send_fcm(project, call, now)
        if any(path == call.path for _, path in self._handlers):
            return "", _wrong_method
        return "", _not_found

    def _find_device(self, call: IncomingRequest, parts: list[str]) -> tuple[str, Handler]:
        name = parts[0]
        devices = self._devices
        match call.method, parts[1:]:
            case "GET", ["messages"]:
                return "messages", lambda call, now: devices.messages(name, call, now)
            case "POST", ["idle"]:
                return "idle", lambda call, now: devices.idle(name, call, now)
            case "POST", ["refresh"]:
                return "refresh", lambda call, now: devices.refresh(name, call, now)
            case "DELETE", []:
                return "unregister", lambda call, now: devices.unregister(name, call, now)
            case _, ["messages" | "idle" | "refresh"] | []:
                return "", _wrong_method
        return "", _not_found

    def _stats(self, call: IncomingRequest, now: float) -> Reply:
        phones = self.phones
        return json_answer(
            200,
            {
                "answers": self.journal.counts(),
                "messages": dict(phones.counters),
                "phones": len(phones),
                "phones_online": phones.online(),
                "messages_waiting": phones.stored,
            },
        )

    def _token(self, call: IncomingRequest, now: float) -> Reply:
        return self.oauth.token(read_form(call.body), now)

    def _send_fcm(self, project: str, call: IncomingRequest, now: float) -> Reply:
        if not self.oauth.available:
            error = {"code": 501, "message": NEEDS_EXTRA, "status": "UNIMPLEMENTED"}
            return json_answer(501, {"error": error}, "UNIMPLEMENTED")
        return self._fcm.send(project, call, now)

    def _clear_faults(self, call: IncomingRequest, now: float) -> Reply:
        self.faults.clear()
        return self.faults.show()

    def _expire(self, call: IncomingRequest, now: float) -> Reply:
        """Make tokens worthless: of one account, or all."""
        wanted = read_object(call.body or b"{}")
        account = None if wanted is None else wanted.get("account")
        if wanted is None or not (account is None or isinstance(account, str)):
            return json_answer(400, {"error": 'a body such as {"account": "a@example.com"}'})
        expired = self.accounts.tokens.expire(account) + self.oauth.tokens.expire(account)
        return json_answer(200, {"expired": expired})

    def _reset(self, call: IncomingRequest, now: float) -> Reply:
        """Forget faults, log and counts, and every phone but those of the settings."""
        self.faults.clear()
        self.journal.reset()
        self.phones.reset(self._settings.phones)
        self.accounts.reset()
        for name in self._settings.phones:
            if self.phones.find(name) is None:
                self.phones.add(name, self._screens(name))
        return json_answer(200, {})

    def _login(self, call: IncomingRequest, now: float) -> Reply:
        return self.accounts.login(read_form(call.body), now)

    def _captcha(self, call: IncomingRequest, now: float) -> Reply:
        token = parse_qs(call.query.decode("latin-1")).get("ctoken", [""])[0]
        letters = self.accounts.captcha(token)
        if letters is None:
            return _not_found(call, now)
        return Reply(200, _picture(letters), b"image/svg+xml")


def _picture(letters: str) -> bytes:
    return (
        '<svg xmlns="http://www.w3.org/2000/svg" width="200" height="70">'
        f'<text x="20" y="45" font-size="32" rotate="12 -9 15 -14 8 -11">{letters}</text></svg>\n'
    ).encode()


def _not_found(call: IncomingRequest, now: float) -> Reply:
    body = b"<!DOCTYPE html>\n<html lang=en>\n<title>Error 404 (Not Found)!!1</title>\n"
    return Reply(404, body, HTML_TYPE)


def _wrong_method(call: IncomingRequest, now: float) -> Reply:
    body = b"<!DOCTYPE html>\n<html lang=en>\n<title>Error 405 (Method Not Allowed)!!1</title>\n"
    return Reply(405, body, HTML_TYPE)
