"""Blame by comparison: whether a push that draws unexplained answers is itself at fault.

A push is, where others succeed between its tries, and few of them fare as it does.
"""

from itertools import takewhile

import attrs

from node2dm_tw.queues.interface import Lease

ANSWERS_TO_REJECT = 5
"""Unexplained answers to one push, each with a delivery to another target since the one before."""

MAX_SHARE = 10
"""One in so many pushes may be unexplained meanwhile; with more, the service may be at fault."""

SEVERAL = 3
"""Targets that draw an answer for the whole route, with deliveries to others between."""

CAPACITY = 10_000
"""Pushes, and targets, whose failures are remembered."""


@attrs.define(eq=False)
class Suspicion:
    """What speaks against one push.

    Args:
        number: of this push among the suspected ones.
        answered: explained answers of the lane when it failed first.
        delivered: deliveries of the lane when it failed last.
        answers: unexplained ones that count, the first included.
        is_unavailable: it drew an answer that was meant for the whole route.
        is_refuted: and another one, with deliveries to other targets between.
    """

    number: int
    answered: int
    delivered: int
    answers: int = 0
    is_unavailable: bool = False
    is_refuted: bool = False


@attrs.define(eq=False)
class Blame:
    """Compares the pushes of one lane.

    Attributes:
        suspected: pushes that drew such an answer and have not ended. While there are none, the
            answers to others need not be counted.
    """

    suspected: int = attrs.field(default=0, init=False)

    _answered: int = attrs.field(default=0, init=False)
    _delivered: int = attrs.field(default=0, init=False)
    _target: bytes = attrs.field(default=b"", init=False)
    _delivered_elsewhere: int = attrs.field(default=0, init=False)
    _numbers: int = attrs.field(default=0, init=False)
    _failed_at: dict[int, int] = attrs.field(factory=dict, init=False)
    _unavailable: dict[bytes, int] = attrs.field(factory=dict, init=False)

    def on_explained(self, target: bytes, is_delivered: bool) -> None:
        """Count an answer that explains itself, to a push for `target`."""
        self._answered += 1
        if is_delivered:
            if target != self._target:
                self._delivered_elsewhere = self._delivered
                self._target = target
            self._delivered += 1
        if self._unavailable:
            self._unavailable.pop(target, None)

    def on_ended(self) -> None:
        """One of the suspected pushes has ended."""
        self.suspected -= 1
        if not self.suspected:
            self._unavailable.clear()

    def is_first(self, lease: Lease) -> bool:
        """Whether no unexplained answer to this push counts yet."""
        return not (isinstance(lease.suspicion, Suspicion) and lease.suspicion.answers)

    def on_unexplained(self, lease: Lease) -> bool:
        """Count an unexplained answer; return whether the push is to be rejected."""
        suspicion = self._suspect(lease)
        if not suspicion.answers or self._has_delivered(lease.push.device, suspicion.delivered):
            suspicion.answers += 1
        suspicion.delivered = self._delivered
        self._failed_at.pop(suspicion.number, None)
        self._failed_at[suspicion.number] = self._answered
        if len(self._failed_at) > CAPACITY:
            del self._failed_at[next(iter(self._failed_at))]
        return suspicion.answers >= ANSWERS_TO_REJECT and self._is_exception(suspicion)

    def is_unexplained(self, lease: Lease) -> bool:
        """Whether an answer for the whole route is refuted by what else is delivered.

        It is where the push, or another one to its target which has had no better answer since,
        drew such an answer before, others were delivered meanwhile, and few targets fare so.
        """
        suspicion, target = self._suspect(lease), lease.push.device
        before = self._unavailable.pop(target, None)
        self._unavailable[target] = self._delivered if before is None else before
        by_target = before is not None and self._has_delivered(target, before)
        by_push = suspicion.is_unavailable and self._has_delivered(target, suspicion.delivered)
        if (by_target or by_push) and self._are_few(len(self._unavailable), suspicion):
            suspicion.is_refuted = True
        if not suspicion.is_refuted:
            suspicion.is_unavailable = True
            suspicion.delivered = self._delivered
        if len(self._unavailable) > CAPACITY:
            del self._unavailable[next(iter(self._unavailable))]
        return suspicion.is_refuted

    def _suspect(self, lease: Lease) -> Suspicion:
        if isinstance(lease.suspicion, Suspicion):
            return lease.suspicion
        self._numbers += 1
        self.suspected += 1
        lease.suspicion = suspicion = Suspicion(self._numbers, self._answered, self._delivered)
        return suspicion

    def _has_delivered(self, target: bytes, before: int) -> bool:
        """Whether, after the first `before` deliveries, there was one to another than `target`."""
        last = self._delivered_elsewhere if target == self._target else self._delivered
        return last > before

    def _is_exception(self, suspicion: Suspicion) -> bool:
        """Whether few of the pushes answered since its first failure were unexplained."""
        since = suspicion.answered
        recent = takewhile(lambda failed_at: failed_at >= since, reversed(self._failed_at.values()))
        return self._is_small_share(sum(1 for _ in recent), suspicion)

    def _are_few(self, targets: int, suspicion: Suspicion) -> bool:
        return targets < SEVERAL or self._is_small_share(targets, suspicion)

    def _is_small_share(self, failed: int, suspicion: Suspicion) -> bool:
        """Whether so many are few beside the pushes explained since the first failure of one."""
        return (MAX_SHARE - 1) * failed <= self._answered - suspicion.answered
