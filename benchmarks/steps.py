"""The steps of a push, each alone, to be run again and again under a counter of instructions.

`python -m benchmarks.steps TIMES` runs them one by one: it prints ``NAME begins`` and ``NAME
ended`` and waits for a line each time, so that whoever counts can read the counter.
"""

import sys
import tempfile
from collections.abc import Callable
from functools import partial
from itertools import count, cycle
from pathlib import Path
from typing import Any, cast

import attrs
from twisted.internet.task import Clock

from benchmarks.pushes import datagram
from benchmarks.upstream import FCM_SENT
from node2dm_tw import config
from node2dm_tw.config import Settings
from node2dm_tw.delivery.rates import DeviceRates, ProjectRate
from node2dm_tw.http.head import parse_head
from node2dm_tw.http.interface import OnOutcomes, Outcome, Response
from node2dm_tw.intake.lines import LineParser
from node2dm_tw.providers.c2dm import C2DM
from node2dm_tw.providers.fcm import FCM, send_url
from node2dm_tw.providers.interface import Credential, Provider
from node2dm_tw.queues.budget import ByteBudget
from node2dm_tw.routes import Surroundings, Way, make_way
from node2dm_tw.stats import Stats

TOGETHER = 100
"""Datagrams read in one wake-up, at the rates that matter."""

NOW = 1_000_000.0
CREDENTIAL = Credential(b"GoogleLogin auth=a-token", 1, NOW, 2 * NOW)
_C2DM = C2DM("https://localhost/c2dm/send")
_FCM = FCM(send_url("project"))
_ID = b"id=0:1234"
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
_SENT = Response(*parse_head(_HEAD), _ID)
_SIGNED_IN = Response(*parse_head(_HEAD), b"Auth=a-token\n")


class _Client:
    """Signs in at once and keeps pushes; as what is in flight, it cannot be cancelled."""

    name = "none"
    handshakes = reconnects = 0

    def __init__(self, *_: object, on_outcomes: OnOutcomes, **__: object) -> None:
        self.on_outcomes = on_outcomes
        self.waiting: list[tuple[Outcome, Any]] = []

    def send(self, url: str, headers: object, body: bytes, context: object) -> "_Client | None":
        if url != _C2DM.send_url:
            self.on_outcomes([(_SIGNED_IN, context)])
            return None
        self.waiting.append((_SENT, context))
        return self


class _Nowhere:
    """A queue that keeps nothing."""

    def put(self, pushes: object) -> None:
        """Forget them."""


def _wall() -> float:
    return NOW


def _settings() -> Settings:
    """Read what the gateway would be told; all else is as it is by default."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        file = folder / "config.ini"
        file.write_text(_CONFIGURATION, encoding="utf-8")
        file.chmod(0o600)
        return config.load(file, folder, lambda *_: {}, lambda *_: None)


def _way() -> Way:
    """Wire the route of C2DM as the gateway does, round a client of ours."""
    make_client: Any = _Client
    settings = _settings()
    around = Surroundings(
        settings,
        Clock(),
        _wall,
        lambda: 0.5,
        Stats(lambda: 0.0, "0"),
        ByteBudget(),
        make_client,
        on_bad_device=lambda *_: None,
        on_locked=lambda *_: None,
    )
    return make_way(around, settings.routes[0])


def nothing() -> Callable[[], object]:
    """The loop itself, whose cost is taken off the others'."""
    return lambda: None


def parse() -> Callable[[], object]:
    """A datagram, of many that come together, becomes a push; reading the socket is not in it."""
    nowhere: Any = _Nowhere()
    route = attrs.evolve(_way().route, queue=nowhere)
    parser = LineParser({b"c2dm": route}, route, Stats(lambda: 0.0, "0"), Clock())
    together = [(datagram(number), ("127.0.0.1", 9)) for number in range(TOGETHER)]
    turns = cycle(range(TOGETHER))

    def once() -> None:
        if next(turns) == 0:
            parser.datagrams(together)

    return once


def queue() -> Callable[[], object]:
    """A push, of many that come together, is put on the queue, taken, and settled."""
    way = _way()
    waiting, push = way.queue, way.route.provider.split(datagram(1), NOW)
    waiting.on_ready = lambda: None
    together = [push] * TOGETHER

    def once() -> None:
        if not waiting.depth:
            waiting.put(together)
        lease = waiting.take()
        assert lease is not None
        waiting.settle(lease)

    return once


def build(provider: Provider) -> Callable[[], object]:
    """The request of a push."""
    push = provider.split(datagram(1), NOW)
    return lambda: provider.request(push, CREDENTIAL, NOW)


def judge(provider: Provider, body: bytes) -> Callable[[], object]:
    """An answer, and what it means."""

    def once() -> None:
        answer = Response(*parse_head(_HEAD), body)
        provider.judge(answer, NOW)

    return once


def lane() -> Callable[[], object]:
    """All from the queue to the client and back, with the steps above but parse; put is not."""
    way = _way()
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


def rates() -> Callable[[], object]:
    """FCM's own limits are kept, of devices and of the project; each push is another device's."""
    section: Any = _settings().routes[1]
    seconds = count(1_000.0, 0.001).__next__
    devices = DeviceRates(section.device_rate, section.device_burst, seconds)
    project = ProjectRate(section.project_rate, seconds)
    pushes = iter([_FCM.split(datagram(number), NOW) for number in range(2 * TIMES)])

    def once() -> None:
        project.wait()
        devices.take(next(pushes).device)
        project.consume()

    return once


TIMES = int(sys.argv[1]) if sys.argv[1:] else 1
STEPS: dict[str, Callable[[], Callable[[], object]]] = {
    "nothing": nothing,
    "parse": parse,
    "queue": queue,
    "build": partial(build, _C2DM),
    "judge": partial(judge, _C2DM, _ID),
    "lane": lane,
    "fcm_build": partial(build, _FCM),
    "fcm_judge": partial(judge, _FCM, FCM_SENT.encode()),
    "fcm_rates": rates,
}


def main() -> None:
    """Run each, waiting for a line before and after."""
    for name, step in STEPS.items():
        once = step()
        for _ in range(TIMES // 2):
            once()
        _tell(f"{name} begins")
        for _ in range(TIMES):
            once()
        _tell(f"{name} ended")


def _tell(what: str) -> None:
    print(what, flush=True)  # noqa: T201 - this is how the two speak
    sys.stdin.readline()


if __name__ == "__main__":
    main()
