"""In-memory twins of what a lane works with; each implements its interface in full."""

import itertools
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, cast

import attrs
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import Clock

from node2dm_tw.core.json_form import read_json
from node2dm_tw.core.outcome import Ended, OnEnded
from node2dm_tw.core.push import Push, split_at_colons
from node2dm_tw.core.stats import TERMINAL_COUNTERS, RouteStats
from node2dm_tw.delivery.admission import Admission, LaneSettings
from node2dm_tw.delivery.blocked_devices import BlockedDevices
from node2dm_tw.delivery.circuit_breaker import CircuitBreaker
from node2dm_tw.delivery.lane import Lane
from node2dm_tw.delivery.rates import DeviceRates, Limit
from node2dm_tw.delivery.retry_queue import RetryQueue
from node2dm_tw.delivery.session import LockReason, Session
from node2dm_tw.delivery.signin import SignIn
from node2dm_tw.delivery.target_delays import TargetDelays
from node2dm_tw.http.interface import (
    Headers,
    NoAnswer,
    OnOutcomes,
    Outcome,
    RequestFailed,
    Response,
    finish_posts,
)
from node2dm_tw.providers.c2dm import C2DM
from node2dm_tw.providers.interface import Credential, Credentials, Provider, SignInFailed
from node2dm_tw.queues.budget import ByteBudget
from node2dm_tw.queues.interface import PushEngine, PushQueue
from node2dm_tw.queues.memory_engine import MemoryEngine

WALL = 1_700_000_000.0
DAY = 86_400.0


def sign_in(credentials: Credentials, clock: Clock, wall: Callable[[], float]) -> SignIn:
    """Make a sign-in of no lane; it is not started."""
    return SignIn("fcm", credentials, clock, wall, no_jitter, lambda: None, lambda reason: None)


def no_jitter() -> float:
    """Random numbers that make every back-off last for the whole of its time."""
    return 1.0 - 2**-53


@attrs.define(eq=False, repr=False)
class Posted:
    """A request that waits for its answer."""

    url: str
    headers: Headers
    body: bytes | None
    on_outcomes: OnOutcomes
    context: Any
    answered: bool = False

    @property
    def auth(self) -> bytes:
        return dict(self.headers)[b"Authorization"]

    def say(self, status: int = 200, body: bytes = b"id=1", **headers: str) -> None:
        """Answer; `Retry_After="3"` makes a header."""
        named = {k.lower().replace("_", "-").encode(): v.encode() for k, v in headers.items()}
        self.end(Response(status, named, body))

    def fail(self, error: RequestFailed) -> None:
        self.end(error)

    def cancel(self) -> None:
        self.end(NoAnswer("cancelled"))

    def end(self, outcome: Outcome) -> None:
        assert not self.answered
        self.answered = True
        self.on_outcomes([(outcome, self.context)])


@attrs.define(eq=False, repr=False)
class MemoryHTTP:
    """An `HTTPClient` whose upstream is the test."""

    on_outcomes: OnOutcomes = finish_posts
    name: str = "memory"
    handshakes: int = 0
    reconnects: int = 0
    posted: list[Posted] = attrs.field(factory=list)

    def send(self, url: str, headers: Headers, body: bytes | None, context: Any) -> Posted:
        self.posted.append(Posted(url, headers, body, self.on_outcomes, context))
        return self.posted[-1]

    def close(self) -> Deferred[None]:
        return succeed(None)

    def waiting(self) -> list[Posted]:
        return [posted for posted in self.posted if not posted.answered]


@attrs.define(eq=False, repr=False)
class MemoryCredentials:
    """Credentials from a script: an exception fails it, a number is its life in seconds."""

    wall: Callable[[], float]
    script: list[Exception | float] = attrs.field(factory=list)
    kept: Credential | None = None
    fetches: int = 0
    kept_writes: int = 0
    forgotten: int = 0
    hold: bool = False
    held: list[Deferred[Credential]] = attrs.field(factory=list)
    _generation: int = 0

    def stored(self) -> Credential | None:
        return self.kept

    def fetch(self) -> Deferred[Credential]:
        self.fetches += 1
        if self.hold:
            self.held.append(Deferred(lambda held: held.errback(NoAnswer("cancelled"))))
            return self.held[-1]
        said = self.script.pop(0) if self.script else 14 * DAY
        return fail(said) if isinstance(said, Exception) else succeed(self.make(said))

    def make(self, life: float = 14 * DAY) -> Credential:
        self._generation += 1
        now = self.wall()
        header = b"GoogleLogin auth=token-%d" % self._generation
        return Credential(header, self._generation, now, now + life)

    def replace(self, token: str) -> Credential:
        if not token:
            raise SignInFailed("no token")
        self._generation += 1
        now = self.wall()
        header = b"GoogleLogin auth=" + token.encode()
        return Credential(header, self._generation, now, now + 14 * DAY)

    def keep(self) -> None:
        self.kept_writes += 1

    def discard_stored(self) -> None:
        self.forgotten += 1


@attrs.define(eq=False, repr=False)
class Bench:
    """A whole lane in memory, and what the tests hold in their hands."""

    clock: Clock
    http: MemoryHTTP
    credentials: MemoryCredentials
    lane: Lane
    stats: RouteStats
    engine: PushEngine
    queue: PushQueue
    bad_devices: list[tuple[bytes, str]]
    reported: Counter[str]
    locked: list[LockReason]
    wall_offset: list[float]
    _numbers: itertools.count = attrs.field(factory=itertools.count)

    def push(self, *lines: bytes) -> None:
        """Take pushes in, as the intake does."""
        received = self.clock.seconds()
        self._put([split_at_colons(line, received) for line in lines])

    def push_json(self, *lines: bytes) -> None:
        """Take pushes in the JSON form in."""
        received = self.clock.seconds()
        self._put([read_json(line, received)[1] for line in lines])

    def _put(self, pushes: list[Push]) -> None:
        """Queue pushes, and count them once they are stored."""

        def count(_: None) -> None:
            self.stats.messages_received += len(pushes)

        stored = self.queue.put(pushes)
        if stored is None:
            count(None)
        else:
            stored.addCallback(count)

    def push_many(self, count: int) -> None:
        """Take in pushes that differ in device and payload."""
        self.push(*(b"d%d:key:%d" % (n, n) for n in itertools.islice(self._numbers, count)))

    def advance(self, seconds: float, step: float = 0.25) -> None:
        """Let time pass in small steps, and check the accounting at each."""
        for _ in range(round(seconds / step)):
            self.clock.advance(step)
            self.check()

    def check(self) -> None:
        """The accounting identity of the design; and every push that ended badly is reported."""
        ended = sum(getattr(self.stats, name) for name in TERMINAL_COUNTERS)
        came = self.stats.messages_received + self.stats.messages_taken_over
        assert came == ended + self.queue.depth, self.stats
        recorded: Counter[str] = Counter()
        for (kind, _), entry in self.lane._settlement.errors._entries.items():
            recorded[kind] += entry.count
        for name in ("refused", "bad_device", "blocked", "expired", "overflowed"):
            counted = getattr(self.stats, f"messages_{name}")
            assert recorded[name.replace("_", " ")] == counted, (name, recorded)
            assert self.reported[name] == counted, (name, self.reported)

    def answer_all(self, status: int = 200, body: bytes = b"id=1", **headers: str) -> int:
        """Answer whatever waits now, but not what is sent meanwhile."""
        waiting = self.http.waiting()
        for posted in waiting:
            posted.say(status, body, **headers)
            self.check()
        return len(waiting)


def make_memory_engine(folder: Path, clock: Clock, wall: Callable[[], float]) -> MemoryEngine:
    """Make the engine of a bench without one of its own."""
    return MemoryEngine(folder, ByteBudget(), clock, wall)


def bench(
    folder: Path,
    *,
    maximum: int = 64,
    max_queued: int = 10_000,
    max_age: float = DAY,
    script: list[Exception | float] | None = None,
    device_rate: tuple[Limit, ...] = (),
    project_rate: Limit | None = None,
    bad_device_alarm: int | None = None,
    provider: Provider | None = None,
    random: Callable[[], float] = no_jitter,
    on_bad_outcome: OnEnded | None = None,
    make_engine: Callable[[Path, Clock, Callable[[], float]], PushEngine] = make_memory_engine,
) -> Bench:
    """Put a lane together around in-memory twins; it is not started."""
    clock = Clock()
    wall_offset = [WALL]

    def wall() -> float:
        return clock.seconds() + wall_offset[0]

    stats = RouteStats()
    credentials = MemoryCredentials(wall, list(script or []))
    engine = make_engine(folder, clock, wall)
    queue = engine.add_queue(
        "c2dm",
        max_queued,
        stats,
        on_ready=lambda: lane.pump(),
        on_overflow=lambda push, limit: lane.on_overflow(push, limit),
    )
    engine.start()
    bad_devices: list[tuple[bytes, str]] = []
    reported: Counter[str] = Counter()
    locked: list[LockReason] = []

    def report(ended: Ended) -> None:
        reported[ended.outcome] += 1
        if ended.outcome == "bad_device":
            bad_devices.append((ended.push.device, ended.reason))
        if on_bad_outcome is not None:
            on_bad_outcome(ended)

    provider = provider or C2DM("http://upstream/send")
    settings = LaneSettings(
        max_in_flight=maximum,
        retry_capacity=max(1, max_queued // 10),
        max_age=max_age,
        device_block=3600.0,
        device_rate=device_rate,
        device_burst=2,
        project_rate=project_rate,
        bad_device_alarm=bad_device_alarm,
    )
    lane = Lane(
        route="c2dm",
        queue=queue,
        provider=provider,
        make_client=MemoryHTTP,
        make_session=partial(
            Session,
            partial(SignIn, "c2dm", credentials, clock, wall, no_jitter),
            partial(CircuitBreaker, "c2dm", clock, random, provider.first_delay, None),
        ),
        admission=Admission(
            provider,
            RetryQueue(
                clock,
                settings.retry_capacity,
                lambda: lane.pump(),
                lambda lease, delay: queue.sleep(lease, wall() + delay),
            ),
            BlockedDevices(clock),
            TargetDelays(clock, random, provider.first_delay),
            DeviceRates(device_rate, settings.device_burst),
            settings,
        ),
        settings=settings,
        stats=stats,
        clock=clock,
        wall=wall,
        random=random,
        on_bad_outcome=report,
        on_locked=locked.append,
    )
    http = cast(MemoryHTTP, lane.http)
    return Bench(
        clock,
        http,
        credentials,
        lane,
        stats,
        engine,
        queue,
        bad_devices,
        reported,
        locked,
        wall_offset,
    )
