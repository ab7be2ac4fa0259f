"""A whole working day of one FCM route, put together as the gateway does it, in simulated time."""

import json
import time
from array import array
from collections.abc import Callable
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import attrs

from node2dm_tw.app.route import Route
from node2dm_tw.config.load import Settings
from node2dm_tw.core.outcome import Ended
from node2dm_tw.core.push import Push
from node2dm_tw.core.stats import TERMINAL_COUNTERS, RouteStats
from node2dm_tw.emulator.settings import PROJECT
from tests.simulation.google import BASE, SimulatedClient, SimulatedGoogle
from tests.simulation.load import HOUR, Load, Wanted
from tests.support.heap_clock import HeapClock
from tests.support.routes import build_route, load_settings
from tests.unit.emulator.support import ACCOUNT, KEY, NOW

OUTAGE = 16_000.0
"""Seconds after midnight. The token is due for renewal in it, and ends before it does."""

STORM = 10.5 * HOUR
CAMPAIGNS = (OUTAGE + 600, 8 * HOUR, STORM + 120, 16 * HOUR, 18 * HOUR, 20 * HOUR)
GATHERED = 0.02
"""Seconds of pushes that come in one wake-up."""


def write_config(folder: Path, project_rate: int) -> Settings:
    """Read the settings as the gateway does, from a file."""
    key = {
        "type": "service_account",
        "project_id": PROJECT,
        "private_key_id": "0a1b2c",
        "private_key": KEY,
        "client_email": ACCOUNT.client_email,
        "token_uri": ACCOUNT.token_uri,
    }
    (folder / "key.json").write_text(json.dumps(key))
    (folder / "key.json").chmod(0o600)
    return load_settings(
        folder,
        f"[node2dm]\n[fcm]\nservice_account = key.json\nurl = {BASE}\n"
        f"project_rate = {project_rate}/m\n",
    )


@attrs.define(eq=False)
class Day:
    """The gateway's route, the load on one side of it and Google on the other."""

    folder: Path
    load: Load
    clock: HeapClock = attrs.field(factory=HeapClock)
    google: SimulatedGoogle = attrs.field(init=False)
    way: Route = attrs.field(init=False)
    device_of: "array[int]" = attrs.field(factory=lambda: array("i"))
    gone: frozenset[int] = attrs.field(init=False)
    bad_devices: set[bytes] = attrs.field(factory=set)
    cpu_seconds: float = 0.0
    _wanted: Any = attrs.field(init=False)
    _next: Wanted | None = None

    def __attrs_post_init__(self) -> None:
        rate = self.load.pushes * 3 // 100
        self.google = SimulatedGoogle(self.clock, self.wall, (rate, 60.0), self.load.devices)
        settings = write_config(self.folder, rate)
        random = Random(self.load.seed)
        self.way = build_route(
            settings,
            self.clock,
            self.wall,
            partial(SimulatedClient, self.google),
            random=random.random,
            on_bad_outcome=self._on_bad_outcome,
        )
        ordinary = range(1 + len(self.load.flooded), self.load.devices)
        self.gone = frozenset(random.sample(ordinary, self.load.devices // 100))
        self.google.unregister(self.gone)
        self._wanted = iter(self.load)
        self._next = next(self._wanted)

    def wall(self) -> float:
        return NOW + self.clock.seconds()

    @property
    def stats(self) -> RouteStats:
        return self.way.lane.stats

    def run(self, tell: Callable[[str], None]) -> None:
        """Let the day pass, and what is left after it be sent."""
        begun = time.process_time()
        self._plan()
        self.way.start()
        self._take_in()
        for hour in range(25):
            self._pass(hour * HOUR + HOUR)
            tell(self.progress(hour + 1, time.process_time() - begun))
        self.way.lane.stop(10.0)
        self._pass(self.clock.seconds() + 11)
        self.cpu_seconds = time.process_time() - begun

    def progress(self, hour: int, cpu: float) -> str:
        stats = self.stats
        return (
            f"hour {hour:2}: {stats.messages_received:,} received, {stats.messages_sent:,} sent, "
            f"{self.way.queue.depth:,} in queue, {self.google.sign_ins} sign-ins, {cpu:.0f} s CPU"
        )

    def endings(self) -> dict[str, int]:
        return {name: getattr(self.stats, name) for name in TERMINAL_COUNTERS}

    def check(self) -> None:
        """The accounting identity of the design."""
        ended = sum(self.endings().values())
        assert self.stats.messages_received == ended + self.way.queue.depth, self.stats

    def _plan(self) -> None:
        """Have the upstream go down, and say at other times that we send too much."""
        down = {"endpoint": "", "times": None, "status": 503, "body": "<html>"}
        over = {"endpoint": "fcm", "times": None, "error": "QUOTA_EXCEEDED"}
        named = {**over, "probability": 0.5, "headers": {"Retry-After": "20"}, "seed": 1}
        unnamed = {**over, "probability": 0.5, "seed": 2}
        faults = self.google.faults
        for moment, happens in (
            (OUTAGE, partial(faults, {**down, "headers": {"Retry-After": "45"}})),
            (OUTAGE + 100, partial(faults, down)),
            (OUTAGE + 200, partial(self._refuse, True)),
            (OUTAGE + 900, partial(self._refuse, False)),
            (OUTAGE + 1_200, faults),
            (STORM, partial(faults, named, unnamed)),
            (STORM + 600, faults),
        ):
            self.clock.callLater(moment, happens)

    def _refuse(self, refusing: bool) -> None:
        self.google.refusing = refusing

    def _pass(self, moment: float) -> None:
        """Let time pass, the accounts checked all along."""
        while self.clock.seconds() < moment:
            self.clock.advance_to(min(moment, self.clock.seconds() + 10))
            self.check()

    def _take_in(self) -> None:
        """Do what the intake does with the datagrams of one wake-up."""
        if self._next is None:
            return
        until, pushes = self.clock.seconds() + GATHERED, []
        while self._next is not None and self._next[0] <= until:
            pushes.append(self._push(*self._next))
            self._next = next(self._wanted, None)
        self.stats.messages_received += len(pushes)
        self.way.queue.put(pushes)
        if self._next is not None:
            self.clock.callLater(self._next[0] - self.clock.seconds(), self._take_in)

    def _push(self, moment: float, device: int, key: bytes) -> Push:
        payload = b'{"n":%d}' % len(self.device_of)
        self.device_of.append(device)
        provider = self.way.route.provider
        line = b":".join((self.google.tokens[device], key, payload))
        push = provider.split(line, self.clock.seconds())
        provider.validate(push)
        return push

    def _on_bad_outcome(self, ended: Ended) -> None:
        if ended.outcome == "bad_device":
            assert ended.reason == "UNREGISTERED"
            self.bad_devices.add(ended.push.device)
