"""Google's side as a whole: which rules answer which request."""

from collections.abc import Callable
from urllib.parse import parse_qs

import attrs

from node2dm_tw.emulator.accounts import Accounts
from node2dm_tw.emulator.c2dm import C2DM
from node2dm_tw.emulator.certificates import PROJECT
from node2dm_tw.emulator.devices import Devices
from node2dm_tw.emulator.journal import Journal
from node2dm_tw.emulator.messages import (
    HTML_TYPE,
    Answer,
    Call,
    Outcome,
    Screen,
    Stream,
    json_answer,
    read_form,
)
from node2dm_tw.emulator.phones import Phones
from node2dm_tw.emulator.quotas import Quotas
from node2dm_tw.emulator.settings import EmulatorSettings

Handler = Callable[[Call, float], Answer | Stream]


@attrs.define(eq=False)
class Google:
    """Answers requests; knows nothing of sockets, and the time only by being told.

    Args:
        settings: what it is started with.
        screens: gives each phone of the settings its screen, by name.
    """

    _settings: EmulatorSettings
    _screens: Callable[[str], Screen]
    accounts: Accounts = attrs.field(init=False)
    phones: Phones = attrs.field(factory=Phones, init=False)
    journal: Journal = attrs.field(factory=Journal, init=False)
    _devices: Devices = attrs.field(init=False)
    _handlers: dict[tuple[str, str], tuple[str, Handler]] = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        """Put the parts together."""
        settings = self._settings
        self.accounts = Accounts(settings.accounts)
        self._devices = Devices(self.accounts, self.phones, PROJECT)
        for name in settings.phones:
            self.phones.add(name, self._screens(name))
        c2dm = C2DM(
            self.accounts,
            self.phones,
            Quotas([settings.sender_quota] if settings.sender_quota else []),
            Quotas([settings.device_quota] if settings.device_quota else []),
        )
        self._handlers = {
            ("POST", "/accounts/ClientLogin"): ("login", self._login),
            ("GET", "/accounts/Captcha"): ("captcha", self._captcha),
            ("POST", "/c2dm/send"): ("send", c2dm.send),
            ("POST", "/device/register"): ("register", self._devices.register),
            ("GET", "/log"): ("", lambda call, now: self.journal.show(call)),
            ("GET", "/stats"): ("", self._stats),
        }

    def answer(self, call: Call, now: float) -> Outcome:
        """Answer a request.

        Args:
            call: the request.
            now: seconds since the epoch.
        """
        endpoint, handler = self._handlers.get((call.method, call.path)) or self._find(call)
        answer = handler(call, now)
        if endpoint:
            self.journal.record(endpoint, call, answer, now, None)
        return Outcome(answer)

    def _find(self, call: Call) -> tuple[str, Handler]:
        parts = call.path.split("/")
        if parts[1:2] == ["device"]:
            return self._find_device(call, parts[2:])
        if any(path == call.path for _, path in self._handlers):
            return "", _wrong_method
        return "", _not_found

    def _find_device(self, call: Call, parts: list[str]) -> tuple[str, Handler]:
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

    def _stats(self, call: Call, now: float) -> Answer:
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

    def _login(self, call: Call, now: float) -> Answer:
        return self.accounts.login(read_form(call.body), now)

    def _captcha(self, call: Call, now: float) -> Answer:
        token = parse_qs(call.query.decode("latin-1")).get("ctoken", [""])[0]
        letters = self.accounts.captcha(token)
        if letters is None:
            return _not_found(call, now)
        return Answer(200, _picture(letters), b"image/svg+xml")


def _picture(letters: str) -> bytes:
    return (
        '<svg xmlns="http://www.w3.org/2000/svg" width="200" height="70">'
        f'<text x="20" y="45" font-size="32" rotate="12 -9 15 -14 8 -11">{letters}</text></svg>\n'
    ).encode()


def _not_found(call: Call, now: float) -> Answer:
    body = b"<!DOCTYPE html>\n<html lang=en>\n<title>Error 404 (Not Found)!!1</title>\n"
    return Answer(404, body, HTML_TYPE)


def _wrong_method(call: Call, now: float) -> Answer:
    body = b"<!DOCTYPE html>\n<html lang=en>\n<title>Error 405 (Method Not Allowed)!!1</title>\n"
    return Answer(405, body, HTML_TYPE)
