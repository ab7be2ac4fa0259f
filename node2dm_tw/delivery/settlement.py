"""The ends of pushes: one terminal counter each, and a trace of every one that nobody gets."""

from collections.abc import Callable

import attrs
from twisted.internet.interfaces import IReactorTime

from node2dm_tw.core.logs import Throttle, logger, shorten
from node2dm_tw.core.push import Push
from node2dm_tw.core.stats import RouteStats
from node2dm_tw.delivery.blame import Blame
from node2dm_tw.delivery.recent_errors import RecentErrors
from node2dm_tw.queues.interface import Lease, PushQueue

log = logger()

OnBadOutcome = Callable[[str, Push, str], None]
"""Takes the name of a push's terminal counter without `messages_`, the push, and the reason."""


@attrs.define(eq=False)
class Settlement:
    """Ends the pushes of one lane: each method counts one, settles it, and leaves a trace.

    Args:
        route: its name, for the log.
        queue: forgets the pushes.
        stats: counts them.
        blame: is told when a suspected push has ended.
        on_bad_outcome: called when a push ended badly, with its outcome and the reason.
        clock: monotonic seconds.
        wall: seconds since the epoch.

    Attributes:
        errors: what went wrong of late, endings and tries that failed alike.
    """

    route: str
    queue: PushQueue
    stats: RouteStats
    blame: Blame
    clock: IReactorTime
    wall: Callable[[], float]
    on_bad_outcome: OnBadOutcome
    errors: RecentErrors = attrs.field(factory=RecentErrors, init=False)
    _throttle: Throttle = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self._throttle = Throttle(log, self.clock)

    def sent(self, lease: Lease) -> None:
        """The service took the push."""
        self.stats.messages_sent += 1
        lease.is_settled = True  # `_settle`, without the call: most pushes end here
        if lease.suspicion is not None:
            self.blame.on_ended()
        self.queue.settle(lease)

    def bad_device(self, lease: Lease, reason: str) -> None:
        """The device is gone or never was."""
        self.stats.messages_bad_device += 1
        self._end(lease, "bad_device", reason)

    def rejected(self, lease: Lease, reason: str) -> None:
        """The service will never take the push, or we cannot send it."""
        self.stats.refuse(reason)
        self._end(lease, "refused", reason)

    def blocked(self, lease: Lease) -> None:
        """The device is over its quota."""
        self.stats.messages_blocked += 1
        self._end(lease, "blocked", "the device is over its quota")

    def expired(self, lease: Lease, limit: str) -> None:
        """The push is older than a limit allows."""
        self.stats.messages_expired += 1
        self._end(lease, "expired", f"older than its {limit}")

    def collapsed(self, lease: Lease) -> None:
        """A newer push for the same device and collapse key took its place: no error."""
        self.stats.messages_collapsed += 1
        self.record("collapsed", "a newer push took its place", lease)
        self._settle(lease)

    def overflowed(self, lease: Lease, reason: str) -> None:
        """There is no room for the push."""
        self.stats.messages_overflowed += 1
        self._end(lease, "overflowed", reason)

    def _end(self, lease: Lease, outcome: str, reason: str) -> None:
        self.warn(outcome.replace("_", " "), reason, lease)
        self._settle(lease)
        self._report(outcome, lease.push, reason)

    def _settle(self, lease: Lease) -> None:
        lease.is_settled = True
        if lease.suspicion is not None:
            self.blame.on_ended()
        self.queue.settle(lease)

    def on_overflow(self, push: Push, limit: str) -> None:
        """Leave a trace of a push that the queue dropped and counted."""
        self._warn("overflowed", limit, push, limit)
        self._report("overflowed", push, limit)

    def _report(self, outcome: str, push: Push, reason: str) -> None:
        """Hand on how a push ended; a fault there must change nothing about the push."""
        try:
            self.on_bad_outcome(outcome, push, reason)
        except Exception:  # noqa: BLE001 - the push has ended, and is counted
            self._throttle.failure("a callback could not be queued")

    def warn(self, kind: str, reason: str, lease: Lease, *, key: str = "") -> None:
        """Record what went wrong with a push, and log it once a second.

        Args:
            kind: what became of the push or the request, in a word or two.
            key: stands for the reason, where its words are never the same.
        """
        self._warn(kind, reason, lease.push, key or reason)

    def record(self, kind: str, reason: str, lease: Lease) -> None:
        """Let the status page show what went wrong with a push."""
        self._record(kind, reason, lease.push)

    def _warn(self, kind: str, reason: str, push: Push, key: str) -> None:
        self._record(kind, reason, push)
        self._throttle.warn(
            "{route}: push to {target}: {kind}: {reason}",
            key=(kind, key),
            route=self.route,
            target=shorten(push.device),
            kind=kind,
            reason=reason,
        )

    def _record(self, kind: str, reason: str, push: Push) -> None:
        self.errors.record(kind, reason, push.device, self.wall())


class TracedSettlement(Settlement):
    """A settlement that also logs the end of every push that was not sent, at level debug.

    It takes the place of the other, so that pushes pay nothing for lines that nobody wants.
    """

    __slots__ = ()

    @classmethod
    def of(cls, plain: Settlement) -> "TracedSettlement":
        """Make one that goes on with what `plain` keeps."""
        traced = cls(
            plain.route,
            plain.queue,
            plain.stats,
            plain.blame,
            plain.clock,
            plain.wall,
            plain.on_bad_outcome,
        )
        traced.errors = plain.errors
        return traced

    def collapsed(self, lease: Lease) -> None:
        self._trace("collapsed", "a newer push took its place", lease.push)
        Settlement.collapsed(self, lease)

    def on_overflow(self, push: Push, limit: str) -> None:
        self._trace("overflowed", limit, push)
        Settlement.on_overflow(self, push, limit)

    def _end(self, lease: Lease, outcome: str, reason: str) -> None:
        self._trace(outcome, reason, lease.push)
        Settlement._end(self, lease, outcome, reason)

    def _trace(self, outcome: str, reason: str, push: Push) -> None:
        log.debug(
            "{route}: push to {target} ended: {outcome}: {reason}",
            route=self.route,
            target=shorten(push.device),
            outcome=outcome,
            reason=reason,
        )
