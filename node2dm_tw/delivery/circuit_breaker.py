"""The circuit breaker of a lane: when it sends, when it pauses, and what ends a pause.

Closed, the lane sends. Open, it is paused. Half-open, it sends one push, the probe, whose answer
decides. What opens the breaker is evidence from several pushes, or the upstream's own word for the
whole route; what one push alone draws is that push's affair. `TABLE` says it all.
"""

import enum
from collections.abc import Callable, Hashable
from typing import NamedTuple

import attrs
from twisted.internet.interfaces import IDelayedCall, IReactorTime

from node2dm_tw.core.backoff import exponential
from node2dm_tw.core.logs import logger
from node2dm_tw.state.pause_file import PauseFile

log = logger()

MIN_PAUSE = 1.0
"""Seconds; an upstream that says "retry after 0" is not hammered."""

PUSHES_TO_OPEN = 5
"""Different pushes in a row, all without an answer or all with an unexplained one."""

TARGETS_TO_OPEN = 3
"""Different targets among those pushes, where the answers are unexplained."""


class BreakerState(enum.Enum):
    """What the lane may do: all, nothing, or send one probe."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half-open"


class Event(enum.Enum):
    """What the end of a request says about the upstream."""

    EXPLAINED = "the answer names the device, its quota or the message: the service works"
    UNEXPLAINED = "the answer names nothing"
    UNAVAILABLE = "the answer is meant for the whole route"
    UNANSWERED = "no answer came"


class Fate(enum.Enum):
    """What becomes of the push."""

    SETTLE = "it has ended"
    SLEEP = "it sleeps its own back-off"
    RELEASE = "it waits its turn again, and no failure is counted"


class Effect(enum.Enum):
    """What becomes of the breaker."""

    NONE = "nothing"
    RESET = "the failures counted so far are forgotten"
    COUNT = "one failure is counted, and the fifth opens it"
    OPEN = "it opens"
    EXTEND = "a later moment than known, if one is named, ends the pause"
    CLOSE = "it closes"


class Rule(NamedTuple):
    """A cell of the table."""

    fate: Fate
    effect: Effect


_CLOSED, _OPEN, _HALF_OPEN = BreakerState

TABLE: dict[Event, dict[BreakerState, Rule]] = {
    Event.EXPLAINED: {
        _CLOSED: Rule(Fate.SETTLE, Effect.RESET),
        _OPEN: Rule(Fate.SETTLE, Effect.RESET),
        _HALF_OPEN: Rule(Fate.SETTLE, Effect.CLOSE),
    },
    Event.UNEXPLAINED: {
        _CLOSED: Rule(Fate.SLEEP, Effect.COUNT),
        _OPEN: Rule(Fate.RELEASE, Effect.NONE),
        _HALF_OPEN: Rule(Fate.RELEASE, Effect.OPEN),
    },
    Event.UNAVAILABLE: {
        _CLOSED: Rule(Fate.RELEASE, Effect.OPEN),
        _OPEN: Rule(Fate.RELEASE, Effect.EXTEND),
        _HALF_OPEN: Rule(Fate.RELEASE, Effect.OPEN),
    },
    Event.UNANSWERED: {
        _CLOSED: Rule(Fate.SLEEP, Effect.COUNT),
        _OPEN: Rule(Fate.SLEEP, Effect.NONE),
        _HALF_OPEN: Rule(Fate.SLEEP, Effect.OPEN),
    },
}
"""
For each event the rule in each state. The column of a request is `_OPEN` where the breaker has
opened since it was sent; then that of the present state, in `_HALF_OPEN` that of the probe.
"""


@attrs.define
class _Failures:
    """Different pushes that failed alike since the last explained answer, and their targets."""

    pushes: set[Hashable] = attrs.field(factory=set)
    targets: set[bytes] = attrs.field(factory=set)

    def count(self, push: Hashable, target: bytes, targets: int) -> bool:
        """Add a failed push; return whether there are enough, to at least `targets` targets."""
        if len(self.pushes) < PUSHES_TO_OPEN:
            self.pushes.add(push)
        if len(self.targets) < targets:
            self.targets.add(target)
        return len(self.pushes) >= PUSHES_TO_OPEN and len(self.targets) >= targets

    def clear(self) -> None:
        """Forget them."""
        self.pushes.clear()
        self.targets.clear()


@attrs.define(eq=False)
class CircuitBreaker:
    """Applies `TABLE` to the events of one lane.

    Args:
        route: for the log.
        clock: monotonic seconds.
        random: numbers in [0, 1), for the jitter.
        first_delay: seconds of the first of several pauses in a row that nobody named; see
            `node2dm_tw.core.backoff.exponential`.
        pause_file: keeps pauses that the upstream named; None: a restart ends them.
        on_open: called each time it opens, before the state changes.
        on_change: called when the state has changed.

    Attributes:
        state: see `BreakerState`.
        epoch: how often it has opened. A request belongs to the epoch it was sent in.
        paused_until: seconds of the clock; nothing is sent before it.
        reason: why it opened last.
        is_troubled: failures are counted, or it is not closed: an explained answer matters.
    """

    route: str
    clock: IReactorTime
    random: Callable[[], float]
    first_delay: float
    pause_file: PauseFile | None
    on_open: Callable[[], None]
    on_change: Callable[[], None]
    state: BreakerState = attrs.field(default=BreakerState.CLOSED, init=False)
    epoch: int = attrs.field(default=0, init=False)
    paused_until: float = attrs.field(default=0.0, init=False)
    reason: str = attrs.field(default="", init=False)
    is_troubled: bool = attrs.field(default=False, init=False)
    _openings: int = attrs.field(default=0, init=False)
    _unexplained: _Failures = attrs.field(factory=_Failures, init=False)
    _unanswered: _Failures = attrs.field(factory=_Failures, init=False)
    _timer: IDelayedCall | None = attrs.field(default=None, init=False)

    @property
    def pause_left(self) -> float:
        """Seconds before which nothing is sent."""
        return max(0.0, self.paused_until - self.clock.seconds())

    def start(self) -> None:
        """Go on with a pause: of an earlier process, or one that `stop` interrupted."""
        left = 0.0 if self.pause_file is None else self.pause_file.read()
        if self.state is _OPEN:
            self._wait()
        elif left > 0:
            self.open("the upstream named this pause before the restart", left)

    def stop(self) -> None:
        """Leave no call pending."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def on_explained(self, epoch: int) -> None:
        """Apply the first row of the table, for a request sent in `epoch`."""
        self._forget_failures()
        if epoch == self.epoch:
            self._openings = 0
            if self.state is _HALF_OPEN:
                self._close()
        self.is_troubled = self.state is not _CLOSED

    def on_failure(
        self,
        event: Event,
        epoch: int,
        reason: str,
        *,
        push: Hashable = None,
        target: bytes = b"",
        after: float | None = None,
        at_least: float = 0.0,
    ) -> Fate:
        """Apply one of the other rows.

        Args:
            epoch: in which the request was sent.
            reason: for the log and the status page.
            push: stands for the push among those that fail; None: it counts for nothing.
            target: of the push.
            after: seconds of the pause where this opens it; None: as long as the back-off says.
            at_least: seconds that the pause must last in any case.

        Returns:
            What becomes of the push.
        """
        column = self.state if epoch == self.epoch else _OPEN
        rule = TABLE[event][column]
        match rule.effect:
            case Effect.COUNT if push is not None and self._count(event, push, target):
                self.open(reason, after, at_least=at_least)
            case Effect.OPEN:
                self.open(reason, after, at_least=at_least)
                self._keep(after if event is Event.UNAVAILABLE else at_least)
            case Effect.EXTEND if after is not None:
                self._extend(reason, after)
        return rule.fate

    def open(self, reason: str, after: float | None = None, at_least: float = 0.0) -> None:
        """Pause for `after` seconds, or as long as the back-off says; for `at_least` seconds."""
        self._forget_failures()
        self.is_troubled = True
        self._openings += 1
        self.epoch += 1
        self.reason = reason
        if after is None:
            after = exponential(self._openings, self.random, first=self.first_delay)
        self.paused_until = self.clock.seconds() + max(MIN_PAUSE, at_least, after)
        log.warn(
            "{route}: paused for {delay:.1f} s: {reason}",
            route=self.route,
            delay=self.pause_left,
            reason=reason,
        )
        self.on_open()
        self._wait()

    def _extend(self, reason: str, after: float) -> None:
        """Let the latest moment named win; one named late opens it again."""
        until = self.clock.seconds() + max(MIN_PAUSE, after)
        if until <= self.paused_until:
            return
        if self.state is _OPEN:
            self.paused_until = until
            self.reason = reason
            self._wait()
        else:
            self.open(reason, after)
        self._keep(after)

    def _keep(self, named: float | None) -> None:
        if self.pause_file is not None and named is not None:
            self.pause_file.keep(named)

    def _wait(self) -> None:
        """Be open until the pause is over."""
        self.state = _OPEN
        if self._timer is None:
            self._timer = self.clock.callLater(self.pause_left, self._half_open)
        else:
            self._timer.reset(self.pause_left)
        self.on_change()

    def _half_open(self) -> None:
        self._timer = None
        self.state = _HALF_OPEN
        self.on_change()

    def _close(self) -> None:
        self.state = _CLOSED
        log.info("{route}: sending resumed", route=self.route)
        self.on_change()
        if self.pause_file is not None:
            self.pause_file.forget()

    def _count(self, event: Event, push: Hashable, target: bytes) -> bool:
        self.is_troubled = True
        if event is Event.UNEXPLAINED:
            return self._unexplained.count(push, target, TARGETS_TO_OPEN)
        return self._unanswered.count(push, target, 1)

    def _forget_failures(self) -> None:
        self._unexplained.clear()
        self._unanswered.clear()
