"""The steps of a push, each alone, to be run again and again under a counter of instructions.

`python -m benchmarks.steps` runs them one by one: it prints ``NAME begins`` and ``NAME ended``
and waits for a line each time, so that whoever counts can read the counter.
"""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from benchmarks.pushes import datagram
from node2dm_tw.delivery.lane import Lane, Limits
from node2dm_tw.delivery.session import Session
from node2dm_tw.delivery.shared import BlockedDevices
from node2dm_tw.delivery.signin import SignIn
from node2dm_tw.delivery.waiting import WaitingRoom
from node2dm_tw.delivery.window import Window
from node2dm_tw.http.head import Fields
from node2dm_tw.http.interface import Response
from node2dm_tw.intake.lines import Lines, Route
from node2dm_tw.providers.c2dm import C2DM
from node2dm_tw.providers.interface import Credential
from node2dm_tw.queues.memory import MemoryQueue
from node2dm_tw.queues.spool import Spool
from node2dm_tw.stats import RouteStats, Stats

TIMES = 1000
WINDOW = 64
PROVIDER = C2DM("https://localhost/c2dm/send")
NOW = 1_000_000.0
CREDENTIAL = Credential(b"GoogleLogin auth=a-token", 1, NOW, 2 * NOW)
_HEAD = (
    b"HTTP/1.1 200 OK\r\nServer: nginx/1.22.1\r\nDate: Mon, 23 Nov 2026 03:00:00 GMT\r\n"
    b"Content-Type: text/plain\r\nContent-Length: 9\r\nConnection: keep-alive\r\n\r\n"
)
ANSWER = Response(200, Fields(_HEAD), b"id=0:1234")


def _wall() -> float:
    return NOW


class _Nowhere:
    """A queue that keeps nothing."""

    depth = 0

    def put(self, pushes: object) -> None:
        """Forget them."""


class _Signed:
    """Credentials that were there before."""

    def stored(self) -> Credential:
        return CREDENTIAL


class _Answering:
    """A client that answers a window of requests at once, as libcurl's wake-ups do."""

    name = "none"

    def __init__(self) -> None:
        self.waiting: list[Deferred[Response]] = []

    def post(self, url: str, headers: object, body: bytes) -> Deferred[Response]:
        result: Deferred[Response] = Deferred()
        self.waiting.append(result)
        return result

    def answer(self) -> bool:
        """Answer all; tell whether there were any."""
        waiting, self.waiting = self.waiting, []
        for each in waiting:
            each.callback(ANSWER)
        return bool(waiting)


def _queue() -> MemoryQueue:
    return MemoryQueue(1_000_000, RouteStats(), Spool(Path("/nonexistent/spool")), Clock())


def _lines(queue: Any) -> Lines:
    stats = Stats(lambda: 0.0, "0")
    route = Route("c2dm", PROVIDER, queue, stats.route("c2dm"))
    return Lines({b"c2dm": route}, route, stats, Clock(), _wall)


def nothing() -> Callable[[], object]:
    """The loop itself, whose cost is taken off the others'."""
    return lambda: None


def parse() -> Callable[[], object]:
    """A datagram becomes a push; reading the socket is not in it."""
    lines, one = _lines(_Nowhere()), datagram(1)
    return lambda: lines.datagram(one, "127.0.0.1")


def queue() -> Callable[[], object]:
    """A push is put on the queue, taken, and settled."""
    waiting = _queue()
    push = PROVIDER.split(datagram(1), NOW)

    def once() -> None:
        waiting.put((push,))
        lease = waiting.take()
        assert lease is not None
        waiting.settle(lease)

    return once


def build() -> Callable[[], object]:
    """The request of a push."""
    push = PROVIDER.split(datagram(1), NOW)
    return lambda: PROVIDER.request(push, CREDENTIAL)


def judge() -> Callable[[], object]:
    """What an answer means."""

    def once() -> None:
        answer = Response(200, Fields(_HEAD), b"id=0:1234")
        PROVIDER.replacement(answer)
        PROVIDER.judge(answer, NOW)

    return once


def deferred() -> Callable[[], object]:
    """A Deferred, its callback, and its firing."""

    def once() -> None:
        result: Deferred[Response] = Deferred(print)
        result.addCallbacks(_same, _same, callbackArgs=(1,), errbackArgs=(1,))
        result.callback(ANSWER)

    return once


def _same(answer: Response, _: int) -> None:
    return None


def lane() -> Callable[[], object]:
    """All from the queue to the client and back: the queue, build, judge and Deferred included."""
    http, waiting, clock = _Answering(), _queue(), Clock()
    for number in range(TIMES * 2):
        waiting.put((PROVIDER.split(datagram(number), NOW),))
    signin = SignIn("c2dm", _Signed(), clock, _wall, lambda: 0.5)  # type: ignore[arg-type]
    way = Lane(
        route="c2dm",
        queue=waiting,
        provider=PROVIDER,
        http=http,  # type: ignore[arg-type]
        session=Session("c2dm", signin, clock, lambda: 0.5),
        window=Window(WINDOW),
        waiting=WaitingRoom(clock, 1000),
        blocked=BlockedDevices(clock),
        stats=RouteStats(),
        clock=clock,
        wall=_wall,
        random=lambda: 0.5,
        limits=Limits(86_400, 3600),
        on_bad_device=lambda push, reason: None,
        on_locked=lambda why: None,
    )
    way.start()
    left: Iterator[Deferred[Response]] = iter(())

    def once() -> None:
        nonlocal left
        for one in left:
            one.callback(ANSWER)
            return
        taken, http.waiting = http.waiting, []
        left = iter(taken)
        next(left).callback(ANSWER)

    return once


NOTHING = nothing.__name__
STEPS = (nothing, parse, queue, build, judge, deferred, lane)


def main() -> None:
    """Run each, waiting for a line before and after."""
    for step in STEPS:
        once = step()
        for _ in range(TIMES // 2):
            once()
        _tell(f"{step.__name__} begins")
        for _ in range(TIMES):
            once()
        _tell(f"{step.__name__} ended")


def _tell(what: str) -> None:
    print(what, flush=True)  # noqa: T201 - this is how the two speak
    sys.stdin.readline()


if __name__ == "__main__":
    main()
