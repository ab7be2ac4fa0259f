"""The lane: takes leases from its queue, keeps requests in flight, settles each by its verdict."""

import enum
from collections.abc import Callable

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.python.failure import Failure

from node2dm_tw.backoff import exponential
from node2dm_tw.delivery.alarm import BadDeviceAlarm
from node2dm_tw.delivery.gate import Gate
from node2dm_tw.delivery.gauges import gauges
from node2dm_tw.delivery.rates import Pace
from node2dm_tw.delivery.session import Session
from node2dm_tw.delivery.troubles import Troubles
from node2dm_tw.delivery.window import Window
from node2dm_tw.http.interface import (
    HTTPClient,
    InFlight,
    NoAnswer,
    NotSent,
    Outcome,
    RequestFailed,
)
from node2dm_tw.logs import Throttle, logger, shorten
from node2dm_tw.providers.interface import (
    BadDevice,
    Credential,
    Delivered,
    DeviceOverQuota,
    Misconfigured,
    Provider,
    Refused,
    Retry,
    SenderOverQuota,
    SignInAgain,
    Verdict,
)
from node2dm_tw.push import Push
from node2dm_tw.queues.interface import Lease, PushQueue
from node2dm_tw.stats import RouteStats

log = logger()

FAILURES_TO_PAUSE = 5
"""Requests in a row without an answer, or with one of 500, that pause the whole lane."""

MISCONFIGURED_PAUSE = 60.0
"""Seconds between probes of a service that refuses us rather than the push."""

REFUSED_TWICE = "401 with a new credential too: may this account send for this project?"

SHORTEST_WAIT = 0.005
"""Seconds between looks at the pace: a timer for each push would cost more than the push."""

TURN = 500
"""Leases looked at before the reactor gets its turn."""


class Locked(enum.Enum):
    """Why a lane sends nothing more."""

    OVER_QUOTA = "over its quota"
    SIGN_IN_GIVEN_UP = "signing in was given up"


@attrs.define(eq=False)
class Lane:
    """One route's way out. All waiting, retrying, pausing and stopping happens here.

    Args:
        route: its name, for the log.
        queue: where the pushes come from.
        provider: what the push service speaks.
        http: moves the requests.
        session: says when to send.
        window: says how many requests at once.
        gate: says which pushes go, and where they sleep.
        stats: where each push ends in a counter.
        clock: monotonic seconds.
        wall: seconds since the epoch.
        random: numbers in [0, 1), for the jitter.
        pace: how fast all of them may be; None: as fast as can be.
        alarm: notices when too many answers blame devices; None: nobody does.
        on_bad_device: told of a push whose device is gone, and why.
        on_locked: told that nothing more is sent until a person has looked, and why.
    """

    route: str
    queue: PushQueue
    provider: Provider
    http: HTTPClient
    session: Session
    window: Window
    gate: Gate
    stats: RouteStats
    clock: IReactorTime
    wall: Callable[[], float]
    random: Callable[[], float]
    pace: Pace | None
    alarm: BadDeviceAlarm | None
    on_bad_device: Callable[[Push, str], None]
    on_locked: Callable[[Locked], None]
    _in_flight: dict[Lease, InFlight] = attrs.field(factory=dict, init=False)
    _failures: int = attrs.field(default=0, init=False)
    _pumping: bool = attrs.field(default=False, init=False)
    _next_turn: IDelayedCall | None = attrs.field(default=None, init=False)
    _drained: Deferred[None] | None = attrs.field(default=None, init=False)
    _deadline: float = attrs.field(default=0.0, init=False)
    _halted: bool = attrs.field(default=False, init=False)
    _throttle: Throttle = attrs.field(init=False)
    _troubles: Troubles = attrs.field(factory=Troubles, init=False)

    def __attrs_post_init__(self) -> None:
        self._throttle = Throttle(log, self.clock)
        self.queue.on_ready = self._pump
        self.http.on_reported = self._pump
        self.gate.waiting.wake = self._pump
        self.session.on_ready = self._resume
        self.session.signin.on_given_up = self._give_up
        self.stats.gauges |= gauges(
            self.queue, self.gate, self.window, self.session, self._in_flight, self.clock, self.wall
        )
        self.stats.details |= {"errors": self._troubles.latest, "blocked": self.gate.blocked.latest}

    def start(self) -> None:
        """Sign in and send."""
        if self.pace is not None:
            self.pace.restart()
        self.session.start()

    def stop(self, drain: float) -> Deferred[None]:
        """Go on sending for at most `drain` seconds, then give every push back to the queue.

        Returns:
            Fires when nothing is in flight or asleep.
        """
        self._deadline = self.clock.seconds() + drain
        drained: Deferred[None] = Deferred()
        self._drained = drained
        timer = self.clock.callLater(drain, self._halt)
        drained.addBoth(lambda _: timer.cancel() if timer.active() else None)
        self._pump()
        return drained

    def _resume(self, after_pause: bool) -> None:
        if after_pause:
            self.window.reopen()
            if self.pace is not None:
                self.pace.restart()
        self._pump()

    def _pump(self) -> None:
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
        if self._drained is not None and self._nothing_to_wait_for():
            self._halt()

    def _send_some(self) -> float | None:
        """Look at up to a turn of leases.

        Returns:
            seconds after which more may go without anything else happening; None: never.
        """
        now = self.clock.seconds()
        for _ in range(TURN):
            credential = self.session.credential
            if credential is None or len(self._in_flight) >= self.window.size:
                return None
            if self.pace is not None and (wait := self.pace.wait()):
                return max(wait, SHORTEST_WAIT) if self.queue.depth else None
            lease = self.gate.waiting.take_due() if self.gate.waiting.heap else None
            is_fresh = lease is None
            if lease is None:
                lease = self.queue.take()
                if lease is None:
                    return None
            if self.gate.admits(lease, now, is_fresh=is_fresh):
                self._send(lease, credential, now)
        return 0.0

    def _pump_in(self, delay: float) -> None:
        if self._next_turn is None:
            self._next_turn = self.clock.callLater(delay, self._take_turn)
        elif self._next_turn.getTime() > self.clock.seconds() + delay:
            self._next_turn.reset(delay)

    def _take_turn(self) -> None:
        self._next_turn = None
        self._pump()

    def _send(self, lease: Lease, credential: Credential, now: float) -> None:
        lease.generation = credential.generation
        lease.epoch = self.session.epoch
        try:
            request = self.provider.request(lease.push, credential, now)
        except Exception:  # noqa: BLE001 - no push may be lost by a fault of ours
            self._fault(lease, Failure())
            return
        self.stats.queue_age.observe(now - lease.push.received)
        lease.sent = self.clock.seconds()
        if self.pace is not None:
            self.pace.spend()
        in_flight = self.http.send(request.url, request.headers, request.body, self._ended, lease)
        if in_flight is not None:
            self._in_flight[lease] = in_flight

    def _ended(self, outcome: Outcome, lease: Lease) -> None:
        """Settle a push whose request has ended."""
        self._in_flight.pop(lease, None)
        if isinstance(outcome, RequestFailed):
            self._failed(outcome, lease)
        else:
            self.stats.upstream_latency.observe(self.clock.seconds() - lease.sent)
            try:
                token = self.provider.replacement(outcome)
                if token is not None:
                    self.session.signin.replace(token)
                self._act(lease, self.provider.judge(outcome, self.wall()))
            except Exception:  # noqa: BLE001 - no push may be lost by a fault of ours
                self._fault(lease, Failure())

    def _act(self, lease: Lease, verdict: Verdict) -> None:  # noqa: C901 - a table, not a path
        """Do what a verdict asks for: the table of the design, row by row."""
        match verdict:
            case Delivered():
                self.stats.messages_sent += 1
            case Retry(whole_lane=True):
                if verdict.over_quota:
                    self.stats.quota_answers += 1
                else:
                    self.stats.unavailable_answers += 1
                self._note("paused", verdict.reason, lease)
                self._pause(lease, verdict.after, verdict.reason)
                self.queue.release(lease)
                return
            case Retry():
                self.stats.unavailable_answers += 1
                self._note("retried", verdict.reason, lease)
                self._try_later(lease, verdict.after, verdict.reason)
                return
            case SignInAgain():
                self._note("signed out", "401", lease)
                self._sign_in_again(lease, verdict.once)
                return
            case DeviceOverQuota():
                self.stats.quota_answers += 1
                self.stats.messages_blocked += 1
                self._note("blocked", "the device is over its quota", lease)
                self.gate.block(lease.push, verdict.after)
            case BadDevice():
                self.on_bad_device(lease.push, verdict.reason)
                self.stats.messages_bad_device += 1
                self._note("bad device", verdict.reason, lease)
            case Refused():
                self._note("refused", verdict.reason, lease)
                self._refuse(lease.push, verdict.reason)
            case SenderOverQuota():
                self.stats.quota_answers += 1
                self._note("locked", "the sender is over its quota", lease)
                self.queue.release(lease)
                self._lock()
                return
            case Misconfigured():
                self._note("paused", verdict.reason, lease)
                self._pause(lease, MISCONFIGURED_PAUSE, verdict.reason)
                self.queue.release(lease)
                return
        self.queue.settle(lease)
        self._failures = 0
        self.window.good()
        if self.alarm is not None and self.alarm.answered(isinstance(verdict, BadDevice)):
            self._tell_alarm(self.alarm.is_on)
        self.session.answered(lease.epoch, lease.generation)

    def _tell_alarm(self, is_on: bool) -> None:
        if is_on:
            log.error(
                "{route}: too many answers blame devices: callbacks are held back",
                route=self.route,
            )
        else:
            log.info("{route}: fewer answers blame devices: callbacks go", route=self.route)

    def _sign_in_again(self, lease: Lease, once: bool) -> None:
        if once and (lease.refused or self.session.signin.is_in_vain(lease.generation)):
            self._pause(lease, MISCONFIGURED_PAUSE, REFUSED_TWICE)
        else:
            lease.refused = True
            self.session.refused(lease.generation)
        self._failures = 0
        lease.generation = 0  # a refused credential is no try of the push
        self.queue.release(lease)

    def _note(self, kind: str, reason: str, lease: Lease) -> None:
        self._troubles.note(kind, reason, lease.push.device, self.wall())

    def _refuse(self, push: Push, reason: str) -> None:
        self.stats.refuse(reason)
        self._throttle.warn(
            "{route}: a push to {device} was refused: {reason}",
            route=self.route,
            device=shorten(push.device),
            reason=reason,
        )

    def _lock(self) -> None:
        if self.session.state != "locked":
            self.session.lock("QuotaExceeded")
            self.on_locked(Locked.OVER_QUOTA)

    def _give_up(self, reason: str) -> None:
        self.session.lock(reason)
        self.on_locked(Locked.SIGN_IN_GIVEN_UP)
        self._pump()

    def _failed(self, error: RequestFailed, lease: Lease) -> None:
        """No answer came: try this push again after a while, and pause when none gets any."""
        if not isinstance(error, NotSent):
            self.stats.messages_ambiguous += 1
        if self._halted:
            self.queue.release(lease)
            return
        self.stats.network_failures += 1
        self._note("no answer", str(error), lease)
        if error.timed_out:
            self.window.halve(len(self._in_flight))
        if isinstance(error, NoAnswer) and error.reused and not lease.resent:
            lease.resent = True
            self.queue.release(lease)
        else:
            self._throttle.warn("{route}: no answer: {reason}", route=self.route, reason=str(error))
            self._try_later(lease, None, str(error))

    def _pause(self, lease: Lease, after: float | None, reason: str) -> None:
        self.session.unavailable(lease.epoch, after, reason, self.provider.first_delay)

    def _try_later(self, lease: Lease, after: float | None, reason: str) -> None:
        """Let a push sleep, and the whole lane where this is one failure of too many in a row."""
        lease.attempts += 1
        if after is None:
            after = exponential(lease.attempts, self.random, first=self.provider.first_delay)
        self.gate.sleep(lease, after)
        self._failures += 1
        if self._failures >= FAILURES_TO_PAUSE:
            self._pause(lease, None, reason)

    def _fault(self, lease: Lease, failure: Failure) -> None:
        """End a push that met a fault of ours, not the upstream's."""
        log.failure("{route}: a push could not be handled", failure, route=self.route)
        self.stats.refuse("internal_error")
        self.queue.settle(lease)

    def _nothing_to_wait_for(self) -> bool:
        """Whether going on would send nothing more before the deadline."""
        if self._in_flight:
            return False
        if self.queue.depth == 0:
            return True
        if self.session.state == "paused":
            return self.session.paused_until > self._deadline
        if self.session.credential is None:
            return True
        asleep = len(self.gate.waiting)
        return self.queue.depth == asleep and self.gate.waiting.next_due > self._deadline

    def _halt(self) -> None:
        """Stop sending, and give the queue back every push that has not ended."""
        drained, self._drained = self._drained, None
        if drained is None:
            return
        self._halted = True
        self.session.stop()
        if self._next_turn is not None:
            self._next_turn.cancel()
        for in_flight in list(self._in_flight.values()):
            in_flight.cancel()
        for lease in self.gate.waiting.empty():
            self.queue.release(lease)
        drained.callback(None)
