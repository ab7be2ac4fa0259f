"""The emulator of Google's servers: the handler of each endpoint."""

from collections.abc import Callable
from urllib.parse import parse_qs

import attrs

from node2dm_tw.emulator.google.accounts import Accounts, Tokens
from node2dm_tw.emulator.google.c2dm import C2DM
from node2dm_tw.emulator.google.devices import Devices
from node2dm_tw.emulator.google.fault_responder import FaultResponder, Handler, bearer
from node2dm_tw.emulator.google.faults import Faults
from node2dm_tw.emulator.google.fcm import DEVICE_QUOTA, FCM, PROJECT_QUOTA
from node2dm_tw.emulator.google.federation import METADATA_PATH, Federation
from node2dm_tw.emulator.google.messages import (
    HTML_TYPE,
    EventSink,
    IncomingRequest,
    Outcome,
    Reply,
    json_reply,
    read_form,
    read_object,
)
from node2dm_tw.emulator.google.oauth import NEEDS_EXTRA, OAuth, Verify, find_verifier
from node2dm_tw.emulator.google.quotas import Quotas
from node2dm_tw.emulator.google.registrations import Registrations
from node2dm_tw.emulator.google.request_log import RequestLog
from node2dm_tw.emulator.google.subscriptions import Subscriptions
from node2dm_tw.emulator.settings import PROJECT, EmulatorSettings


@attrs.define(eq=False)
class GoogleEmulator:
    """Answers requests, without I/O; the time is an argument.

    Args:
        settings: its configuration.
        make_sink: makes the sink of each phone of the settings, by name.
        on_tokens: called after each change of the tokens.
        verify: verifies assertions; None: FCM is not available.
    """

    _settings: EmulatorSettings
    _make_sink: Callable[[str], EventSink]
    _on_tokens: Callable[[], None] = lambda: None
    _verify: Verify | None = attrs.field(factory=find_verifier)
    accounts: Accounts = attrs.field(init=False)
    oauth: OAuth = attrs.field(init=False)
    registrations: Registrations = attrs.field(factory=Registrations, init=False)
    request_log: RequestLog = attrs.field(factory=RequestLog, init=False)
    faults: Faults = attrs.field(init=False)
    _fault_responder: FaultResponder = attrs.field(init=False)
    _devices: Devices = attrs.field(init=False)
    _fcm: FCM = attrs.field(init=False)
    _subscriptions: Subscriptions = attrs.field(init=False)
    _federation: Federation = attrs.field(init=False)
    _handlers: dict[tuple[str, str], tuple[str, Handler]] = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        """Build the endpoints."""
        settings = self._settings
        self.accounts = Accounts(settings.accounts, Tokens(on_change=self._on_tokens))
        self.oauth = OAuth(self._verify, tokens=Tokens(on_change=self._on_tokens))
        self._fault_responder = FaultResponder(self.accounts)
        self.faults = Faults(self._fault_responder.errors)
        self._devices = Devices(self.accounts, self.registrations, PROJECT)
        for name in settings.phones:
            self.registrations.add(name, self._make_sink(name))
        senders = [settings.sender_quota] if settings.sender_quota else []
        devices = [settings.device_quota] if settings.device_quota else []
        c2dm = C2DM(self.accounts, self.registrations, Quotas(senders), Quotas(devices))
        self._fcm = FCM(
            PROJECT,
            self.oauth.tokens,
            self.registrations,
            Quotas(senders or [PROJECT_QUOTA]),
            Quotas(devices or DEVICE_QUOTA),
        )
        self._subscriptions = Subscriptions(self._fcm)
        self._federation = Federation(self.oauth)
        self._handlers = {
            ("POST", "/accounts/ClientLogin"): ("login", self._login),
            ("GET", "/accounts/Captcha"): ("captcha", self._captcha),
            ("POST", "/c2dm/send"): ("send", c2dm.send),
            ("POST", "/token"): ("token", self._token),
            ("POST", "/v1/token"): ("sts", self._federation.exchange),
            ("GET", f"{METADATA_PATH}/"): ("metadata", self._federation.metadata),
            ("GET", f"{METADATA_PATH}/token"): ("metadata", self._federation.metadata),
            ("POST", "/device/register"): ("register", self._devices.register),
            ("GET", "/log"): ("", lambda request, now: self.request_log.show(request)),
            ("GET", "/stats"): ("", self._stats),
            ("GET", "/faults"): ("", lambda request, now: self.faults.show()),
            ("POST", "/faults"): ("", lambda request, now: self.faults.add(request)),
            ("DELETE", "/faults"): ("", self._clear_faults),
            ("POST", "/expire"): ("", self._expire),
            ("POST", "/reset"): ("", self._reset),
        }

    def answer(self, request: IncomingRequest, now: float) -> Outcome:
        """Answer a request.

        Args:
            now: seconds since the epoch.
        """
        known = self._handlers.get((request.method, request.path))
        endpoint, handler = known or self._find(request)
        if not endpoint:
            return Outcome(handler(request, now))
        token = self._token_number(endpoint, request, now)
        rule = None
        if self.faults.is_active:
            rule = self.faults.match(endpoint, self._fault_responder.names(endpoint, request, now))
        if rule is None:
            outcome = Outcome(handler(request, now))
        else:
            outcome = self._fault_responder.apply(rule, endpoint, request, now, handler)
        self.request_log.record(endpoint, request, outcome.reply, now, token)
        return outcome

    def _token_number(self, endpoint: str, request: IncomingRequest, now: float) -> int | None:
        if endpoint not in ("send", "fcm", "topics"):
            return None
        tokens = self.accounts.tokens if endpoint == "send" else self.oauth.tokens
        grant = tokens.find(bearer(request), now)
        return None if grant is None else grant.number

    def _find(self, request: IncomingRequest) -> tuple[str, Handler]:
        parts = request.path.split("/")
        match parts[1:]:
            case ["device", *rest] if rest:
                return self._find_device(request, rest)
            case ["v1", "projects", project, "messages:send"]:
                if request.method != "POST":
                    return "", _not_found
                return "fcm", self._if_available(
                    lambda request, now: self._fcm.send(project, request, now)
                )
            case ["v1", "projects", project, "registrations", name, "topicSubscriptions", *rest]:
                return self._find_subscription(request, project, name, rest)
            case ["v1", "projects", "-", "serviceAccounts", resource]:
                account, _, verb = resource.partition(":")
                if request.method == "POST" and verb == "generateAccessToken":
                    impersonate = self._federation.impersonate
                    return "impersonate", lambda request, now: impersonate(account, request, now)
        if any(path == request.path for _, path in self._handlers):
            return "", _wrong_method
        return "", _not_found

    def _find_device(self, request: IncomingRequest, parts: list[str]) -> tuple[str, Handler]:
        name = parts[0]
        devices = self._devices
        match request.method, parts[1:]:
            case "GET", ["messages"]:
                return "messages", lambda request, now: devices.messages(name, request, now)
            case "POST", ["idle"]:
                return "idle", lambda request, now: devices.idle(name, request, now)
            case "POST", ["refresh"]:
                return "refresh", lambda request, now: devices.refresh(name, request, now)
            case "DELETE", []:
                return "unregister", lambda request, now: devices.unregister(name, request, now)
            case _, ["messages" | "idle" | "refresh"] | []:
                return "", _wrong_method
        return "", _not_found

    def _find_subscription(
        self, request: IncomingRequest, project: str, name: str, parts: list[str]
    ) -> tuple[str, Handler]:
        methods = ("GET", "PATCH", "DELETE") if parts else ("GET", "POST")
        if len(parts) > 1:
            return "", _not_found
        if request.method not in methods:
            return "", _wrong_method
        topic = parts[0] if parts else None
        answer = self._subscriptions.answer
        return "topics", self._if_available(
            lambda request, now: answer(project, name, topic, request, now)
        )

    def _stats(self, request: IncomingRequest, now: float) -> Reply:
        registrations = self.registrations
        return json_reply(
            200,
            {
                "answers": self.request_log.counts(),
                "messages": dict(registrations.counters),
                "phones": len(registrations),
                "phones_online": registrations.online(),
                "messages_waiting": registrations.stored,
            },
        )

    def _token(self, request: IncomingRequest, now: float) -> Reply:
        return self.oauth.token(read_form(request.body), now)

    def _if_available(self, handler: Handler) -> Handler:
        """Return a handler of FCM, or one that names the missing package."""
        if self.oauth.is_available:
            return handler
        error = {"code": 501, "message": NEEDS_EXTRA, "status": "UNIMPLEMENTED"}
        return lambda request, now: json_reply(501, {"error": error}, "UNIMPLEMENTED")

    def _clear_faults(self, request: IncomingRequest, now: float) -> Reply:
        self.faults.clear()
        return self.faults.show()

    def _expire(self, request: IncomingRequest, now: float) -> Reply:
        """Expire the tokens of one account, or all."""
        wanted = read_object(request.body or b"{}")
        account = None if wanted is None else wanted.get("account")
        if wanted is None or not (account is None or isinstance(account, str)):
            return json_reply(400, {"error": 'a body such as {"account": "a@example.com"}'})
        expired = self.accounts.tokens.expire(account) + self.oauth.expire(account)
        return json_reply(200, {"expired": expired})

    def _reset(self, request: IncomingRequest, now: float) -> Reply:
        """Forget faults, log, counts, and every registration but those of the settings."""
        self.faults.clear()
        self.request_log.reset()
        self.registrations.reset(self._settings.phones)
        self.accounts.reset()
        for name in self._settings.phones:
            if self.registrations.find(name) is None:
                self.registrations.add(name, self._make_sink(name))
        return json_reply(200, {})

    def _login(self, request: IncomingRequest, now: float) -> Reply:
        return self.accounts.login(read_form(request.body), now)

    def _captcha(self, request: IncomingRequest, now: float) -> Reply:
        token = parse_qs(request.query.decode("latin-1")).get("ctoken", [""])[0]
        letters = self.accounts.captcha(token)
        if letters is None:
            return _not_found(request, now)
        return Reply(200, _picture(letters), b"image/svg+xml")


def _picture(letters: str) -> bytes:
    return (
        '<svg xmlns="http://www.w3.org/2000/svg" width="200" height="70">'
        f'<text x="20" y="45" font-size="32" rotate="12 -9 15 -14 8 -11">{letters}</text></svg>\n'
    ).encode()


def _not_found(request: IncomingRequest, now: float) -> Reply:
    body = b"<!DOCTYPE html>\n<html lang=en>\n<title>Error 404 (Not Found)!!1</title>\n"
    return Reply(404, body, HTML_TYPE)


def _wrong_method(request: IncomingRequest, now: float) -> Reply:
    body = b"<!DOCTYPE html>\n<html lang=en>\n<title>Error 405 (Method Not Allowed)!!1</title>\n"
    return Reply(405, body, HTML_TYPE)
