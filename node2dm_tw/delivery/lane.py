"""The lane: takes leases from its queue, keeps requests in flight, applies the verdicts."""

from collections.abc import Callable

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.python.failure import Failure

from node2dm_tw.core.outcome import OnEnded
from node2dm_tw.core.push import Push
from node2dm_tw.core.snapshot import LaneState
from node2dm_tw.core.stats import RouteStats
from node2dm_tw.delivery.admission import ADMIT, Admission, LaneSettings
from node2dm_tw.delivery.alarm import BadDeviceAlarm
from node2dm_tw.delivery.blame import Blame
from node2dm_tw.delivery.circuit_breaker import BreakerState
from node2dm_tw.delivery.rates import Limit, ProjectRate
from node2dm_tw.delivery.recent_errors import RecentErrors
from node2dm_tw.delivery.session import LockReason, Session
from node2dm_tw.delivery.settlement import Settlement
from node2dm_tw.delivery.verdict_applier import VerdictApplier
from node2dm_tw.delivery.window import Window
from node2dm_tw.http.interface import (
    HTTPClient,
    InFlight,
    NotSent,
    OnOutcomes,
    Outcome,
    RequestFailed,
)
from node2dm_tw.providers.interface import Credential, Delivered, Provider
from node2dm_tw.queues.interface import Lease, PushQueue

SHORTEST_WAIT = 0.005
"""Seconds between checks of the project rate: a timer for each push costs more than the push."""

MAX_LEASES_PER_TURN = 500
"""Leases looked at before the reactor gets its turn."""


@attrs.define(eq=False)
class Lane:
    """The sender of one route. All sleeping, retrying, pausing and stopping happens here.

    Queue and retry queue are made before it and call it: `pump` when there is something to take,
    `on_overflow` when the queue drops a push.

    Args:
        route: its name, for the log.
        queue: where the pushes come from.
        provider: what the push service speaks.
        make_client: makes the client that sends the requests, given where outcomes go.
        make_session: makes the session, given its `on_ready`, `on_open` and `on_given_up`.
        admission: decides which pushes go, and holds where they sleep.
        settings: what an operator sets; see `reconfigure`.
        stats: where each push ends in a counter.
        clock: monotonic seconds.
        wall: seconds since the epoch.
        random: numbers in [0, 1), for the jitter.
        on_bad_outcome: called when a push ended that was neither sent nor collapsed.
        on_locked: called when nothing more is sent until a person has acted, and why.

    Attributes:
        session: says when to send.
        http: the client.
        window: says how many requests at once.
        project_rate: limits all pushes of the route together; None: no limit.
        alarm: notices when too many answers blame devices; None: there is no alarm.
    """

    route: str
    queue: PushQueue
    provider: Provider
    make_client: Callable[[OnOutcomes], HTTPClient]
    make_session: Callable[[Callable[[], None], Callable[[], None], Callable[[str], None]], Session]
    admission: Admission
    settings: LaneSettings
    stats: RouteStats
    clock: IReactorTime
    wall: Callable[[], float]
    random: Callable[[], float]
    on_bad_outcome: OnEnded
    on_locked: Callable[[LockReason], None]
    session: Session = attrs.field(init=False)
    http: HTTPClient = attrs.field(init=False)
    window: Window = attrs.field(init=False)
    project_rate: ProjectRate | None = attrs.field(default=None, init=False)
    alarm: BadDeviceAlarm | None = attrs.field(default=None, init=False)
    _settlement: Settlement = attrs.field(init=False)
    _verdicts: VerdictApplier = attrs.field(init=False)
    _in_flight: dict[Lease, InFlight] = attrs.field(factory=dict, init=False)
    _earlier: int = attrs.field(default=0, init=False)
    _took_due: bool = attrs.field(default=False, init=False)
    _pumping: bool = attrs.field(default=False, init=False)
    _next_turn: IDelayedCall | None = attrs.field(default=None, init=False)
    _drained: Deferred[None] | None = attrs.field(default=None, init=False)
    _deadline: float = attrs.field(default=0.0, init=False)
    _aborted: bool = attrs.field(default=False, init=False)

    def __attrs_post_init__(self) -> None:
        settings = self.settings
        self.session = self.make_session(self._resume, self._on_open, self._on_given_up)
        self.http = self.make_client(self._on_outcomes)
        self.window = Window(settings.max_in_flight)
        self._limit_project(settings.project_rate)
        if settings.bad_device_alarm is not None:
            self.alarm = BadDeviceAlarm(settings.bad_device_alarm)
        blame = Blame()
        self._settlement = Settlement(
            self.route,
            self.queue,
            self.stats,
            blame,
            self.clock,
            self.wall,
            self.on_bad_outcome,
        )
        self._verdicts = VerdictApplier(
            self.route,
            self.queue,
            self._settlement,
            blame,
            self.provider,
            self.session,
            self.window,
            self.admission,
            self.stats,
            self.random,
            self.alarm,
            self._lock,
        )

    @property
    def in_flight(self) -> int:
        """Requests under way."""
        return len(self._in_flight)

    @property
    def recent_errors(self) -> RecentErrors:
        """What went wrong of late."""
        return self._settlement.errors

    def report_pushes(self, *, is_traced: bool, on_outcome: OnEnded | None) -> None:
        """Log how each push ends, and call `on_outcome` with it; without both, no push pays."""
        self._settlement.report_pushes(is_traced=is_traced, on_outcome=on_outcome)

    def on_overflow(self, push: Push, limit: str) -> None:
        """End a push that the queue dropped and counted, because `limit` was reached."""
        self._settlement.on_overflow(push, limit)

    def reconfigure(self, settings: LaneSettings) -> None:
        """Apply other settings from now on; `pump` then sends what may go besides."""
        self.settings = settings
        self.window.reconfigure(settings.max_in_flight)
        self.admission.reconfigure(settings)
        self._limit_project(settings.project_rate)
        if self.alarm is not None and settings.bad_device_alarm is not None:
            self.alarm.reconfigure(settings.bad_device_alarm)

    def _limit_project(self, limit: Limit | None) -> None:
        if limit is None:
            self.project_rate = None
        elif self.project_rate is None:
            self.project_rate = ProjectRate(limit, self.clock.seconds)
        else:
            self.project_rate.reconfigure(limit)

    def start(self) -> None:
        """Sign in and send; also once a lock is taken away."""
        if self.project_rate is not None:
            self.project_rate.restart()
        self.session.start()

    def stop(self, drain: float) -> Deferred[None]:
        """Go on sending for at most `drain` seconds, then give every push back to the queue.

        Returns:
            Fires when nothing is in flight or asleep.
        """
        self._deadline = self.clock.seconds() + drain
        drained: Deferred[None] = Deferred()
        self._drained = drained
        timer = self.clock.callLater(drain, self.abort)
        drained.addBoth(lambda _: timer.cancel() if timer.active() else None)
        self.pump()
        return drained

    # Sending

    def _resume(self) -> None:
        is_half_open = self.session.breaker.state is BreakerState.HALF_OPEN
        if is_half_open and self.project_rate is not None:
            self.project_rate.restart()
        self.pump()

    def _on_open(self) -> None:
        """Begin again with one request, once the pause is over."""
        self._earlier = len(self._in_flight)
        self.window.slow_start()

    def pump(self) -> None:
        """Send until the window is full or nothing is left, giving way to the reactor at times."""
        if self._pumping:
            return
        self._pumping = True
        try:
            again_in = self._send_some()
        finally:
            self._pumping = False
        if again_in is not None:
            self._pump_in(again_in)
        if self._drained is not None and self._is_drained():
            self.abort()

    def _send_some(self) -> float | None:
        """Look at up to a turn of leases.

        Returns:
            seconds after which more may go without anything else happening; None: never.
        """
        now = self.clock.seconds()
        breaker, rate = self.session.breaker, self.project_rate
        if rate is not None:
            rate.wait()  # One look at the clock for all that may go now.
        for _ in range(MAX_LEASES_PER_TURN):
            credential = self.session.credential
            limit = self._limit_after_pause() if self._earlier else self.window.size
            if credential is None or len(self._in_flight) >= limit:
                return None
            if rate is not None and rate.available < 1.0 and (wait := rate.wait()):
                return max(wait, SHORTEST_WAIT) if self.queue.depth else None
            due = self._take_due() if self.admission.retry_queue.heap else None
            lease = due or self.queue.take()
            if lease is None:
                lease = due = self._verdicts.take_last()
                if lease is None:
                    return None
            elif breaker.is_troubled and self._verdicts.sets_aside(lease):
                continue
            try:
                self._process(lease, credential, now, due is None)
            except Exception:  # noqa: BLE001 - no push may be lost by a fault of ours
                self._verdicts.fail_internally(lease, Failure())
        return 0.0

    def _process(self, lease: Lease, credential: Credential, now: float, is_fresh: bool) -> None:
        """Send a push, unless it is decided otherwise."""
        if lease.refused == credential.generation:
            self._verdicts.retry_refused(lease)
            return
        decision = self.admission.decide(lease, now, is_fresh)
        if decision is not ADMIT:
            self._verdicts.apply_decision(decision, lease, is_fresh=is_fresh)
            return
        url, headers, body = self.provider.request(lease.push, credential, now)
        lease.generation = credential.generation
        lease.epoch = self.session.breaker.epoch
        self.stats.queue_age.observe(now - lease.push.received)
        lease.sent = self.clock.seconds()
        lease.sends += 1
        if self.project_rate is not None:
            self.project_rate.available -= 1.0
        in_flight = self.http.send(url, headers, body, lease)
        if in_flight is not None:
            self._in_flight[lease] = in_flight

    def _limit_after_pause(self) -> int:
        """Requests that may be in flight where some are left from before it: one more at least."""
        limit = min(self._earlier + self.window.size, self.window.maximum)
        return max(self._earlier + 1, limit)

    def _take_due(self) -> Lease | None:
        """Take a push that has slept long enough: every other one, or many would hold up the fresh.

        As a probe none goes before a fresh one.
        """
        retry_queue = self.admission.retry_queue
        if self.session.breaker.state is BreakerState.CLOSED:
            self._took_due = not self._took_due
            return retry_queue.take_due() if self._took_due else None
        return retry_queue.take_due() if retry_queue.is_full else None

    def _pump_in(self, delay: float) -> None:
        if self._next_turn is None:
            self._next_turn = self.clock.callLater(delay, self._take_turn)
        elif self._next_turn.getTime() > self.clock.seconds() + delay:
            self._next_turn.reset(delay)

    def _take_turn(self) -> None:
        self._next_turn = None
        self.pump()

    # Outcomes

    def _on_outcomes(self, outcomes: list[tuple[Outcome, Lease]]) -> None:
        """Apply what the ends of requests mean for their pushes, then fill the window."""
        now, wall = self.clock.seconds(), self.wall()
        was_pumping, self._pumping = self._pumping, True
        for outcome, lease in outcomes:
            in_flight = self._in_flight.pop(lease, None)
            if in_flight is not None and lease.epoch != self.session.breaker.epoch:
                self._earlier -= 1
            try:
                if isinstance(outcome, RequestFailed):
                    self._on_failure(outcome, lease)
                else:
                    self.stats.upstream_latency.observe(now - lease.sent)
                    lease.answered = now
                    if lease.push.is_json and lease.push.is_subscription:
                        verdict = self.provider.judge_subscription(outcome, lease.push, wall)
                    else:
                        verdict = self.provider.judge(outcome, wall)
                    if type(verdict) is not Delivered and outcome.is_client_error:
                        self.stats.client_error_answers += 1
                    self._verdicts.apply_verdict(verdict, lease)
            except Exception:  # noqa: BLE001 - no push may be lost by a fault of ours
                self._verdicts.fail_internally(lease, Failure())
        self._pumping = was_pumping
        self.pump()

    def _on_failure(self, error: RequestFailed, lease: Lease) -> None:
        lease.answered = None
        if not isinstance(error, NotSent):
            self.stats.messages_ambiguous += 1
        if self._aborted:
            self.queue.release(lease)
        else:
            self._verdicts.apply_failure(error, lease, len(self._in_flight))

    # Locks, and the end

    def _lock(self) -> None:
        if self.session.state is not LaneState.LOCKED:
            self.session.lock(LockReason.OVER_QUOTA, "QuotaExceeded")
            self.on_locked(LockReason.OVER_QUOTA)

    def _on_given_up(self, reason: str) -> None:
        self.session.lock(LockReason.SIGN_IN_GIVEN_UP, reason)
        self.on_locked(LockReason.SIGN_IN_GIVEN_UP)
        self.pump()

    def _is_drained(self) -> bool:
        """Whether going on would send nothing more before the deadline."""
        if self._in_flight:
            return False
        if self.queue.depth == 0:
            return True
        breaker, retry_queue = self.session.breaker, self.admission.retry_queue
        if breaker.state is BreakerState.OPEN:
            return breaker.paused_until > self._deadline
        if self.session.credential is None:
            return True
        if self.queue.depth > len(retry_queue) + self.queue.asleep:
            return False
        return not retry_queue.heap or retry_queue.next_due > self._deadline

    def abort(self) -> None:
        """Stop sending at once, and give the queue back every push that has not ended."""
        if not self._aborted:
            self._aborted = True
            self.session.stop()
            if self._next_turn is not None:
                self._next_turn.cancel()
            for in_flight in list(self._in_flight.values()):
                in_flight.cancel()
            self._verdicts.release_aside()
            for lease in self.admission.retry_queue.empty():
                self.queue.release(lease)
        drained, self._drained = self._drained, None
        if drained is not None:
            drained.callback(None)
