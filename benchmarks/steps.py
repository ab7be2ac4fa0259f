"""The steps of a push, each alone, a thousand times, to be run under callgrind.

`python -m benchmarks.steps` calls `getppid` before each step and after it: callgrind, told to
`--dump-before=getppid`, writes what it has counted since the last call.
"""

import os
import tempfile
from collections.abc import Callable
from functools import partial
from itertools import count, cycle
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import attrs
from twisted.internet.task import Clock

from benchmarks.pushes import datagram
from benchmarks.upstream import FCM_SENT
from node2dm_tw.core.stats import Stats
from node2dm_tw.delivery.rates import DeviceRates, ProjectRate
from node2dm_tw.http.head import parse_head
from node2dm_tw.http.interface import OnOutcomes, Outcome, Response
from node2dm_tw.intake.parser import LineParser
from node2dm_tw.providers.c2dm import C2DM
from node2dm_tw.providers.fcm import FCM, send_url
from node2dm_tw.providers.interface import Credential, Provider
from tests.support.routes import build_route, load_settings

TIMES, TOGETHER = 1_000, 100
"""How often each step runs; datagrams read in one wake-up, at the rates that matter."""

Step = Callable[[], object]
NOW = 1_000_000.0
CREDENTIAL = Credential(b"GoogleLogin auth=a-token", 1, NOW, 2 * NOW)
_C2DM = C2DM("https://localhost/c2dm/send")
_FCM = FCM(send_url("project"), lambda: 0.0)
_CONFIGURATION = f"""
[node2dm]
state_dir = .
[c2dm]
username = sender@example.com
password = benchmark
login_url = https://localhost/login
send_url = {_C2DM.send_url}
[fcm]
service_account = config.ini
"""
_HEAD = (
    b"HTTP/1.1 200 OK\r\nServer: nginx/1.22.1\r\nDate: Mon, 23 Nov 2026 03:00:00 GMT\r\n"
    b"Content-Type: text/plain\r\nContent-Length: 9\r\nConnection: keep-alive\r\n\r\n"
)


with tempfile.TemporaryDirectory() as folder:
    SETTINGS = load_settings(Path(folder), _CONFIGURATION)

_SENT = Response(*parse_head(_HEAD), b"id=0:1234")
_SIGNED_IN = Response(*parse_head(_HEAD), b"Auth=a-token\n")


class _Client:
    """Signs in at once and keeps pushes; as what is in flight, it cannot be cancelled."""

    name = "none"
    handshakes = reconnects = 0

    def __init__(self, on_outcomes: OnOutcomes = lambda outcomes: None) -> None:
        self.on_outcomes = on_outcomes
        self.waiting: list[tuple[Outcome, Any]] = []

    def send(self, url: str, headers: object, body: bytes, context: object) -> "_Client | None":
        if url != _C2DM.send_url:
            self.on_outcomes([(_SIGNED_IN, context)])
            return None
        self.waiting.append((_SENT, context))
        return self


def parse() -> Step:
    """A datagram, of many that come together, becomes a push; reading the socket is not in it."""
    nowhere: Any = SimpleNamespace(put=lambda pushes: None)
    wired = build_route(SETTINGS, Clock(), lambda: NOW, _Client).route
    route = attrs.evolve(wired, queue=nowhere)
    parser = LineParser({b"c2dm": route}, route, Stats(lambda: 0.0), Clock())
    together = [(datagram(number), ("127.0.0.1", 9)) for number in range(TOGETHER)]
    turns = cycle(range(TOGETHER))
    return lambda: next(turns) or parser.datagrams(together)


def queue() -> Step:
    """A push, of many that come together, is put on the queue, taken, and settled."""
    way = build_route(SETTINGS, Clock(), lambda: NOW, _Client)
    waiting, together = way.queue, [way.route.provider.split(datagram(1), NOW)] * TOGETHER
    waiting.on_ready = lambda: None

    def once() -> None:
        if not waiting.depth:
            waiting.put(together)
        lease = waiting.take()
        assert lease is not None
        waiting.settle(lease)

    return once


def build(provider: Provider) -> Step:
    """The request of a push."""
    push = provider.split(datagram(1), NOW)
    return lambda: provider.request(push, CREDENTIAL, NOW)


def judge(provider: Provider, body: bytes) -> Step:
    """An answer, and what it means."""

    def once() -> None:
        answer = Response(*parse_head(_HEAD), body)
        provider.judge(answer, NOW)

    return once


def lane() -> Step:
    """All from the queue to the client and back, with the steps above but parse; put is not."""
    way = build_route(SETTINGS, Clock(), lambda: NOW, _Client)
    for number in range(3 * TIMES):
        way.queue.put((way.route.provider.split(datagram(number), NOW),))
    way.start()
    http = cast(_Client, way.lane.http)
    left = 0

    def once() -> None:
        nonlocal left
        if not left:  # As many as the window lets out end in one batch.
            outcomes, http.waiting = http.waiting, []
            http.on_outcomes(outcomes)
            left = len(outcomes)
        left -= 1

    return once


def rates() -> Step:
    """FCM's own limits are kept, of devices and of the project; each push is another device's."""
    section: Any = SETTINGS.routes[1]
    seconds = count(1_000.0, 0.001).__next__
    devices = DeviceRates(section.device_rate, section.device_burst)
    project = ProjectRate(section.project_rate, seconds)
    pushes = iter([_FCM.split(datagram(number), NOW) for number in range(2 * TIMES)])

    def once() -> None:
        project.wait()
        devices.take(next(pushes).device, seconds())
        project.available -= 1.0

    return once


STEPS: dict[str, Callable[[], Step]] = {
    "nothing": lambda: lambda: None,
    "parse": parse,
    "queue": queue,
    "build": partial(build, _C2DM),
    "judge": partial(judge, _C2DM, b"id=0:1234"),
    "lane": lane,
    "fcm_build": partial(build, _FCM),
    "fcm_judge": partial(judge, _FCM, FCM_SENT.encode()),
    "fcm_rates": rates,
}
"""The first is the loop itself, whose cost is taken off the others'."""


if __name__ == "__main__":
    for step in STEPS.values():
        once = step()
        for _ in range(TIMES // 2):
            once()
        os.getppid()
        for _ in range(TIMES):
            once()
        os.getppid()
