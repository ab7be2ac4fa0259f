"""What becomes of a push: the table of the design, applied row by row."""

from collections import deque
from collections.abc import Callable, Hashable

import attrs
from twisted.python.failure import Failure

from node2dm_tw.core.backoff import exponential
from node2dm_tw.core.logs import logger
from node2dm_tw.core.snapshot import LaneState
from node2dm_tw.core.stats import RouteStats
from node2dm_tw.delivery.admission import (
    Admission,
    Blocked,
    Collapsed,
    Decision,
    Delayed,
    Expired,
)
from node2dm_tw.delivery.alarm import BadDeviceAlarm
from node2dm_tw.delivery.blame import Blame
from node2dm_tw.delivery.circuit_breaker import BreakerState, Event, Fate
from node2dm_tw.delivery.retry_queue import MAX_PER_DEVICE
from node2dm_tw.delivery.session import Session
from node2dm_tw.delivery.settlement import Settlement
from node2dm_tw.delivery.signin import Refusal
from node2dm_tw.delivery.window import Window
from node2dm_tw.http.interface import RequestFailed
from node2dm_tw.providers.interface import (
    BadDevice,
    Delivered,
    DeviceOverQuota,
    NewToken,
    Provider,
    Rejected,
    Retry,
    SenderOverQuota,
    TargetDelayed,
    Unauthorized,
    Unexplained,
    Verdict,
)
from node2dm_tw.queues.interface import Lease, PushQueue

log = logger()

UNAUTHORIZED = Unexplained(
    "unauthorized", "401, while others are accepted: may this account send this push?", pause=60.0
)
"""What a push draws that is refused with a credential with which others may be accepted."""

UNAVAILABLE = "unavailable"
"""Counts a push that always draws an answer for the whole route, while others are delivered."""

QUOTA_DELAY = 60.0
"""Seconds that a target over its quota waits where the answer names none."""

MAX_PASSED_OVER = 1_000
"""Pushes set aside at the most in search of a probe."""

FULL = "the retry queue is full"
OVER_QUOTA = "the device is over its quota"


@attrs.define(eq=False)
class VerdictApplier:
    """Applies decisions and verdicts to the pushes of one lane.

    Args:
        route: its name, for the log.
        queue: takes pushes back.
        settlement: ends pushes.
        blame: decides whether a push is at fault or the service.
        provider: knows how long to leave the service alone at first.
        session: takes refusals, and has the circuit breaker.
        window: follows successes and time-outs.
        admission: holds what delays pushes, and where they sleep.
        stats: counts answers and failures.
        random: numbers in [0, 1), for the jitter.
        alarm: notices when too many answers blame devices; None: there is no alarm.
        on_over_quota: called when the sender is over its quota.
    """

    route: str
    queue: PushQueue
    settlement: Settlement
    blame: Blame
    provider: Provider
    session: Session
    window: Window
    admission: Admission
    stats: RouteStats
    random: Callable[[], float]
    alarm: BadDeviceAlarm | None
    on_over_quota: Callable[[], None]
    _aside: deque[Lease] = attrs.field(factory=deque, init=False)
    _opener: Lease | None = attrs.field(default=None, init=False)
    _suspects: set[bytes] = attrs.field(factory=set, init=False)

    # Pushes that are not sent

    def apply_decision(self, decision: Decision, lease: Lease, *, is_fresh: bool) -> None:
        """Do what was decided about a push that does not go now.

        Args:
            is_fresh: it comes from the queue, and did not sleep.
        """
        match decision:
            case Collapsed(older):
                self.settlement.end(older, "collapsed", "a newer push took its place")
            case Expired(limit):
                self.settlement.end(lease, "expired", f"older than its {limit}")
            case Blocked():
                self.settlement.end(lease, "blocked", OVER_QUOTA)
            case Delayed(seconds, with_target=True):
                if self._may_sleep(lease):
                    self.admission.retry_queue.park(lease, seconds, first=not is_fresh)
            case Delayed(seconds):
                self._sleep_for_rate(lease, seconds)

    def retry_refused(self, lease: Lease) -> None:
        """Look again at a push that was refused with the present credential."""
        match self.session.signin.on_still_refused(lease.refused):
            case Refusal.REJECT:
                self.settlement.end(lease, "refused", UNAUTHORIZED.reason)
            case Refusal.SLEEP:
                self._sleep(lease)
            case Refusal.SEND_AGAIN:
                self.release(lease)

    def fail_internally(self, lease: Lease, failure: Failure) -> None:
        """End a push that met a fault of ours, not the upstream's, if it has not ended already."""
        log.failure("{route}: a push could not be handled", failure, route=self.route)
        if not lease.is_settled:
            self.settlement.end(lease, "refused", "internal_error")

    # Pushes that failed for what may be the service's fault, and go behind all others

    def release(self, lease: Lease) -> None:
        """Give a push back; while the service is not known to work, it is set aside."""
        if self._is_proven():
            self.queue.release(lease)
        else:
            self._aside.append(lease)

    def release_aside(self) -> None:
        """Give back what was set aside: the service works, or the lane stops."""
        while self._aside:
            self.queue.release(self._aside.popleft())
        self._opener = None
        self._suspects.clear()

    def sets_aside(self, lease: Lease) -> bool:
        """Keep a push aside if it is no good as a probe: one to its target failed as the last."""
        is_suspect = lease.push.device in self._suspects and len(self._aside) < MAX_PASSED_OVER
        if not is_suspect or self.session.breaker.state is not BreakerState.HALF_OPEN:
            return False
        self._aside.append(lease)
        return True

    def take_last(self) -> Lease | None:
        """Take a push where the queue is empty; last of all one that was set aside."""
        retry_queue = self.admission.retry_queue
        lease = retry_queue.take_due() if retry_queue.heap else None
        if lease is not None and lease is self._opener:
            self._aside.append(lease)
            lease = retry_queue.take_due()
        if lease is None and self._aside:
            lease = self._aside.popleft()
        return lease

    def _is_proven(self) -> bool:
        """Whether the service works, and takes the present credential."""
        is_closed = self.session.breaker.state is BreakerState.CLOSED
        return is_closed and self.session.signin.is_proven

    # Requests that have ended

    def apply_verdict(self, verdict: Verdict, lease: Lease) -> None:
        """Do what a verdict asks for."""
        if type(verdict) is Delivered:
            self.settlement.end(lease, "sent", "", verdict.message_name)
            self._on_explained(lease, verdict)
        else:
            self._apply_other_verdict(verdict, lease)

    def _apply_other_verdict(self, verdict: Verdict, lease: Lease) -> None:  # noqa: C901 - a table
        """Do what the table of the design says, row by row."""
        match verdict:
            case NewToken(token, verdict_of_push):
                self.session.signin.replace(token)
                self.apply_verdict(verdict_of_push, lease)
            case BadDevice(reason):
                self.settlement.end(lease, "bad_device", reason)
                self._on_explained(lease, verdict)
            case Rejected(reason, is_explained):
                self.settlement.end(lease, "refused", reason)
                if is_explained:
                    self._on_explained(lease, verdict)
                else:
                    self._fail(Event.UNANSWERED, lease, reason, push=lease)
            case DeviceOverQuota(after):
                self.stats.quota_answers += 1
                self.admission.block(lease.push.device, after)
                self.settlement.end(lease, "blocked", OVER_QUOTA)
                self._on_explained(lease, verdict)
            case TargetDelayed():
                self._on_target_delayed(lease, verdict)
            case Unexplained():
                self._on_unexplained(lease, verdict)
            case Retry(after, whole_lane, reason):
                if whole_lane:
                    self._on_unavailable(lease, verdict)
                else:
                    self.stats.unavailable_answers += 1
                    self._on_no_answer(lease, reason, after)
            case Unauthorized():
                self._on_unauthorized(lease)
            case SenderOverQuota():
                self.stats.quota_answers += 1
                self.settlement.record(
                    LaneState.LOCKED.value, "the sender is over its quota", lease
                )
                self.queue.release(lease)
                self.on_over_quota()

    def apply_failure(self, error: RequestFailed, lease: Lease, in_flight: int) -> None:
        """Do what the lack of an answer asks for.

        Args:
            in_flight: other requests now in flight.
        """
        self.stats.network_failures += 1
        if error.timed_out:
            self.window.on_timeout(in_flight)
        reason = str(error)
        if error.retry_at_once and not lease.resent:
            lease.resent = True
            self.settlement.record("no answer", reason, lease)
            self.release(lease)
        else:
            self._on_no_answer(lease, reason, None, counts=not error.is_collateral)

    def _on_explained(self, lease: Lease, verdict: Verdict) -> None:
        """The service works, and so does the way of this push's target, unless it is delayed."""
        if self.blame.suspected:
            self.blame.on_explained(lease.push.device, type(verdict) is Delivered)
        if self.alarm is not None and self.alarm.record(type(verdict) is BadDevice):
            self._log_alarm(self.alarm.is_on)
        if self.admission.targets.delays and type(verdict) is not TargetDelayed:
            self._end_delay(lease.push.device)
        breaker, signin = self.session.breaker, self.session.signin
        if lease.generation > signin.accepted:
            signin.on_accepted(lease.generation)
        if lease.epoch == breaker.epoch:
            self.window.on_success()
        if breaker.is_troubled:
            breaker.on_explained(lease.epoch)
        if (self._aside or self._suspects) and self._is_proven():
            self.release_aside()

    def _end_delay(self, target: bytes) -> None:
        if self.admission.targets.on_explained(target):
            for parked in self.admission.retry_queue.unpark(target):
                self.queue.release(parked)

    def _on_target_delayed(self, lease: Lease, verdict: TargetDelayed) -> None:
        self.stats.quota_answers += 1
        self.settlement.warn("delayed", verdict.reason, lease)
        after = QUOTA_DELAY if verdict.after is None else verdict.after
        self.admission.targets.delay(lease.push.device, after)
        if self._may_sleep(lease):
            self.admission.retry_queue.sleep(lease, after)
        self._on_explained(lease, verdict)

    def _on_unexplained(self, lease: Lease, verdict: Unexplained) -> None:
        hint = verdict.hint or verdict.reason
        self.stats.unavailable_answers += 1
        self.settlement.warn("unexplained", hint, lease, key=verdict.reason)
        fate = self._fail(
            Event.UNEXPLAINED,
            lease,
            hint,
            push=lease if self.blame.is_first(lease) else None,
            after=verdict.pause,
            at_least=verdict.after or 0.0,
        )
        if fate is Fate.RELEASE:
            self.release(lease)
        elif self.blame.on_unexplained(lease):
            self.settlement.end(lease, "refused", verdict.reason)
        else:
            self.admission.targets.on_unexplained(lease.push.device, lease.sent)
            self._sleep(lease, verdict.after)

    def _on_unavailable(self, lease: Lease, verdict: Retry) -> None:
        if verdict.over_quota and not lease.push.has_single_device:
            self._on_target_delayed(lease, TargetDelayed(verdict.after, verdict.reason))
            return
        if self.blame.is_unexplained(lease):
            self._on_unexplained(lease, Unexplained(UNAVAILABLE, verdict.reason, verdict.after))
            return
        if verdict.over_quota:
            self.stats.quota_answers += 1
        else:
            self.stats.unavailable_answers += 1
        self.settlement.record(LaneState.PAUSED.value, verdict.reason, lease)
        self._fail(Event.UNAVAILABLE, lease, verdict.reason, after=verdict.after)
        self.release(lease)

    def _on_no_answer(
        self, lease: Lease, reason: str, after: float | None, *, counts: bool = True
    ) -> None:
        self.settlement.warn("no answer", reason, lease, key="*")
        self._fail(Event.UNANSWERED, lease, reason, push=lease if counts else None)
        self._sleep(lease, after)

    def _on_unauthorized(self, lease: Lease) -> None:
        first_refused = lease.first_refused
        lease.refused, lease.first_refused = lease.generation, first_refused or lease.generation
        lease.generation = 0  # a refused credential is no try of the push
        match self.session.signin.on_unauthorized(lease.refused, first_refused):
            case Refusal.REJECT:
                self.settlement.end(lease, "refused", UNAUTHORIZED.reason)
            case Refusal.SLEEP:
                self._on_unexplained(lease, UNAUTHORIZED)
            case Refusal.SEND_AGAIN:
                self.settlement.record(LaneState.SIGNED_OUT.value, "401", lease)
                self.release(lease)

    def _fail(
        self,
        event: Event,
        lease: Lease,
        reason: str,
        *,
        push: Hashable = None,
        after: float | None = None,
        at_least: float = 0.0,
    ) -> Fate:
        """Report a failure to the circuit breaker; see `CircuitBreaker.on_failure`."""
        breaker = self.session.breaker
        epoch = breaker.epoch
        fate = breaker.on_failure(
            event,
            lease.epoch,
            reason,
            push=push,
            target=lease.push.device,
            after=after,
            at_least=at_least,
        )
        if breaker.epoch != epoch:
            self._opener = lease
            if len(self._suspects) < MAX_PASSED_OVER:
                self._suspects.add(lease.push.device)
        return fate

    # Sleep

    def _sleep(self, lease: Lease, after: float | None = None) -> None:
        """Let a push sleep its own back-off, or for as long as was named where that is longer."""
        lease.attempts += 1
        delay = exponential(lease.attempts, self.random, first=self.provider.first_delay)
        if self._may_sleep(lease):
            self.admission.retry_queue.sleep(lease, max(delay, after or 0.0))

    def _may_sleep(self, lease: Lease) -> bool:
        """Whether there is room for a push that an answer makes sleep; if not, it is dealt with."""
        retry_queue, breaker = self.admission.retry_queue, self.session.breaker
        if retry_queue.is_full:
            if breaker.state is not BreakerState.OPEN:
                breaker.open(FULL)
            self.release(lease)
            return False
        most = retry_queue.target_capacity
        if not retry_queue.has_room(lease.push.device, most):
            reason = f"{most} pushes for the target sleep already"
            self.settlement.end(lease, "overflowed", reason)
            return False
        return True

    def _sleep_for_rate(self, lease: Lease, seconds: float) -> None:
        retry_queue = self.admission.retry_queue
        if retry_queue.is_full:
            self.settlement.end(lease, "overflowed", FULL)
        elif not retry_queue.has_room(lease.push.device, MAX_PER_DEVICE):
            reason = f"over device_rate, and {MAX_PER_DEVICE} pushes for the device sleep already"
            self.settlement.end(lease, "overflowed", reason)
        else:
            retry_queue.sleep(lease, seconds)

    def _log_alarm(self, is_on: bool) -> None:
        if is_on:
            log.error(
                "{route}: too many answers blame devices: callbacks are held back;"
                " are key and project right, or is a move from tokens to fids half done?",
                route=self.route,
            )
        else:
            log.info(
                "{route}: bad-device alarm cleared: callbacks resume",
                route=self.route,
            )
