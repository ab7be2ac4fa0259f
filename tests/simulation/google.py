"""Google's side in simulated time: `HTTPClient`s whose other end is the emulator's rules."""

import json
from array import array
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from random import Random
from typing import Any

import attrs
from twisted.internet.defer import Deferred, succeed

from node2dm_tw.emulator.google.emulator import GoogleEmulator
from node2dm_tw.emulator.google.messages import IncomingRequest, Message, Reply
from node2dm_tw.emulator.settings import PROJECT, EmulatorSettings
from node2dm_tw.http.interface import Headers, NotSent, OnOutcomes, Response
from tests.support.doubles import Posted
from tests.support.heap_clock import HeapClock
from tests.unit.emulator.support import ACCOUNT

BASE = "https://127.0.0.1:8443"
TOKEN = b'"token":"'


def most_in_any(moments: "array[float]", seconds: float) -> int:
    """The most of these moments, in order, that any stretch of `seconds` holds."""
    most = begin = 0
    for end, moment in enumerate(moments):
        while moments[begin] <= moment - seconds:
            begin += 1
        most = max(most, end + 1 - begin)
    return most


@attrs.define
class Manners:
    """Watches that nothing comes in a pause that an answer asked for, and but a probe after it."""

    breaches: list[str] = attrs.field(factory=list)
    quiet_until: float = 0.0
    probe: str = ""

    def posted(self, now: float) -> None:
        if now < self.quiet_until - 1e-6:
            self.breaches.append(f"{now:.3f}: within a pause until {self.quiet_until:.3f}")
        elif self.probe == "out":
            self.breaches.append(f"{now:.3f}: more than a probe")
        elif self.probe == "due":
            self.probe = "out"

    def failed(self) -> None:
        """A request without an answer tells nothing: the next one is a probe as well."""
        self.probe = self.probe and "due"

    def answered(self, now: float, answer: Reply) -> None:
        if answer.status in (429, 503):
            named = dict(answer.headers).get(b"Retry-After")
            if named is not None:
                self.quiet_until = max(self.quiet_until, now + float(named))
            elif now >= self.quiet_until or answer.status == 429:
                least = 60.0 if answer.status == 429 else 10.0
                self.quiet_until = max(self.quiet_until, now + least)
            self.probe = "due"
        else:
            self.probe = "due" if self.probe and answer.status == 401 else ""


@attrs.define(eq=False)
class SimulatedGoogle:
    """The emulator's rules behind a network that takes its time, and may be down.

    Args:
        clock: simulated.
        wall: seconds since the epoch.
        project_rate: what the project may send.
        devices: phones that are registered, every one online.

    Attributes:
        refusing: no connection comes about.
        deliveries: how often each push, by its number, was shown by a phone.
        project_times: when each message reached us, whatever was answered.
        device_times: the same, for each device.
        granted: when each sign-in succeeded.
        answers: of messages:send, by status and error code.
    """

    clock: HeapClock
    wall: Callable[[], float]
    project_rate: tuple[int, float]
    devices: int
    refusing: bool = False
    refused: int = 0
    manners: Manners = attrs.field(factory=Manners)
    deliveries: Counter[int] = attrs.field(factory=Counter)
    project_times: "array[float]" = attrs.field(factory=lambda: array("d"))
    device_times: "dict[bytes, array[float]]" = attrs.field(
        factory=lambda: defaultdict(lambda: array("d"))
    )
    granted: list[float] = attrs.field(factory=list)
    sign_ins: int = 0
    answers: Counter[tuple[int, str]] = attrs.field(factory=Counter)
    tokens: list[bytes] = attrs.field(factory=list)
    _random: Random = attrs.field(factory=lambda: Random(443))
    _google: GoogleEmulator = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        settings = EmulatorSettings("/nonexistent", phones=(), sender_quota=self.project_rate)
        self._google = GoogleEmulator(settings, lambda name: self._show)
        self._google.oauth.account = ACCOUNT
        for _ in range(self.devices):
            phone = self._google.registrations.register(PROJECT, "app", firebase=True)
            assert phone is not None
            self._google.registrations.connect(phone, self._show, self.wall())
            self.tokens.append(phone.registration_id.encode())

    def unregister(self, devices: Iterable[int]) -> None:
        """Have the application taken off some devices."""
        for number in devices:
            phone = self._google.registrations.find(self.tokens[number].decode())
            assert phone is not None
            self._google.registrations.unregister(phone)

    def faults(self, *rules: dict[str, Any]) -> None:
        """Have these things go wrong from now on, and nothing else."""
        self._call("DELETE", "/faults")
        if rules:
            said = self._call("POST", "/faults", json.dumps(rules).encode())
            assert said.status == 200, said.body

    def send(self, posted: Posted) -> None:
        path = posted.url.removeprefix(BASE)
        if path != "/token":
            self.manners.posted(self.clock.seconds())
        if self.refusing:
            self.refused += 1
            self.clock.callLater(0.002, self._refuse, posted)
        else:
            self.clock.callLater(self._way(), self._arrive, path, posted)

    def most_of_project(self, seconds: float) -> int:
        """The most messages that came in any stretch of `seconds`."""
        return most_in_any(self.project_times, seconds)

    def most_of_device(self, seconds: float) -> int:
        """The same, of the device that got the most."""
        return max(most_in_any(times, seconds) for times in self.device_times.values())

    def _way(self) -> float:
        """Seconds from there to here, or back: mostly short."""
        late = 0.5 * self._random.random() if self._random.random() < 0.01 else 0.0
        return 0.01 + 0.05 * self._random.random() + late

    def _refuse(self, posted: Posted) -> None:
        if not posted.answered:
            self.manners.failed()
            posted.fail(NotSent("connection refused"))

    def _call(self, method: str, path: str, body: bytes = b"", headers: Headers = ()) -> Reply:
        named = {name.lower(): value for name, value in headers}
        outcome = self._google.answer(IncomingRequest(method, path, b"", named, body), self.wall())
        assert isinstance(outcome.reply, Reply)
        return outcome.reply

    def _arrive(self, path: str, posted: Posted) -> None:
        said = self._call("POST", path, posted.body, posted.headers)
        if path == "/token":
            self.sign_ins += 1
            if said.status == 200:
                self.granted.append(self.clock.seconds())
        else:
            self._count(posted.body, said)
        self.clock.callLater(self._way(), self._return, path, said, posted)

    def _count(self, body: bytes, said: Reply) -> None:
        begin = body.index(TOKEN) + len(TOKEN)
        now = self.clock.seconds()
        self.project_times.append(now)
        self.device_times[body[begin : body.index(b'"', begin)]].append(now)
        self.answers[said.status, said.error] += 1

    def _return(self, path: str, said: Reply, posted: Posted) -> None:
        if posted.answered:
            return
        if path != "/token":
            self.manners.answered(self.clock.seconds(), said)
        named = {name.lower(): value for name, value in said.headers}
        posted.end(Response(said.status, named, said.body))

    def _show(self, event: object) -> None:
        if isinstance(event, Message):
            self.deliveries[json.loads(event.data["data"])["n"]] += 1


@attrs.define(eq=False)
class SimulatedClient:
    """An `HTTPClient` whose requests go to the simulated Google."""

    google: SimulatedGoogle
    on_outcomes: OnOutcomes
    name: str = "simulated"
    handshakes: int = 0
    reconnects: int = 0

    def send(self, url: str, headers: Headers, body: bytes | None, context: Any) -> Posted:
        posted = Posted(url, headers, body, self.on_outcomes, context)
        self.google.send(posted)
        return posted

    def close(self) -> Deferred[None]:
        return succeed(None)
