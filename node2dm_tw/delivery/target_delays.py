"""Targets that wait as a whole, because of what was answered to pushes for them."""

from collections.abc import Callable

import attrs
from twisted.internet.interfaces import IReactorTime

from node2dm_tw.core.backoff import exponential

FAILURES_TO_DELAY = 2
"""Unexplained answers in a row for one target: to two pushes, or twice to the same."""

HEAD_START = 0.99
"""Share of a back-off that a target waits: another push for it goes before the one that failed."""

CAPACITY = 10_000
"""Targets kept; beyond it the one that failed first is forgotten."""


@attrs.define(eq=False)
class _Delay:
    """What is known of a target since its last explained answer.

    Args:
        failures: unexplained answers in a row, each of a trial or from before the first delay.
        seconds: of the present delay; 0.0: there is none.
        since: seconds of the clock, when the delay began or its trial went.
    """

    failures: int = 0
    seconds: float = 0.0
    since: float = 0.0


@attrs.define(eq=False)
class TargetDelays:
    """Delays targets. When a delay is over one push goes, a trial; its answer decides for the rest.

    Args:
        clock: monotonic seconds.
        random: numbers in [0, 1), for the jitter.
        first_delay: seconds of the first delay; see `node2dm_tw.core.backoff.exponential`.
        capacity: targets kept at the most.

    Attributes:
        delays: by target; looking at it costs less than a call.
    """

    clock: IReactorTime
    random: Callable[[], float]
    first_delay: float
    capacity: int = CAPACITY
    delays: dict[bytes, _Delay] = attrs.field(factory=dict, init=False)

    def wait(self, target: bytes) -> float:
        """Seconds that a push for `target` must wait; 0.0: it goes now, as the trial."""
        delay = self.delays.get(target)
        if delay is None or not delay.seconds:
            return 0.0
        now = self.clock.seconds()
        left = delay.since + delay.seconds - now
        if left <= 0:
            delay.since = now  # the others wait on, until the answer to this one is here
        return max(0.0, left)

    def on_unexplained(self, target: bytes, sent: float) -> None:
        """Count an unexplained answer to a push sent at `sent`, in seconds of the clock."""
        delay = self._get(target)
        if delay.seconds and sent < delay.since:
            return  # it was in flight when the delay began
        delay.failures += 1
        if delay.failures >= FAILURES_TO_DELAY:
            tries = delay.failures - FAILURES_TO_DELAY + 1
            wait = exponential(tries, self.random, first=self.first_delay)
            self._set(delay, HEAD_START * wait)

    def delay(self, target: bytes, seconds: float) -> None:
        """Let `target` wait: the service said so."""
        delay = self._get(target)
        if self.clock.seconds() + seconds > delay.since + delay.seconds:
            self._set(delay, seconds)

    def on_explained(self, target: bytes) -> bool:
        """Forget the failures of `target`; return whether its pushes may have waited."""
        delay = self.delays.pop(target, None)
        return delay is not None and delay.seconds > 0

    def _get(self, target: bytes) -> _Delay:
        if target not in self.delays:
            if len(self.delays) >= self.capacity:
                del self.delays[next(iter(self.delays))]
            self.delays[target] = _Delay()
        return self.delays[target]

    def _set(self, delay: _Delay, seconds: float) -> None:
        delay.seconds = seconds
        delay.since = self.clock.seconds()
