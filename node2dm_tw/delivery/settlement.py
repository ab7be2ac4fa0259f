"""The end of a push: one terminal counter, and a trace of every push that nobody gets."""

from collections.abc import Callable

import attrs
from twisted.internet.interfaces import IReactorTime

from node2dm_tw.core.logs import Throttle, logger, shorten
from node2dm_tw.core.outcome import OnEnded, PushOutcome, make_ended
from node2dm_tw.core.push import Push
from node2dm_tw.core.stats import RouteStats
from node2dm_tw.delivery.blame import Blame
from node2dm_tw.delivery.recent_errors import RecentErrors
from node2dm_tw.queues.interface import Lease, PushQueue

log = logger()


@attrs.define(eq=False)
class Settlement:
    """Ends the pushes of one lane.

    Args:
        route: its name, for the log.
        queue: forgets the pushes.
        stats: counts them.
        blame: is told when a suspected push has ended.
        clock: monotonic seconds.
        wall: seconds since the epoch.
        on_bad_outcome: called when a push ended that was neither sent nor collapsed.

    Attributes:
        errors: what went wrong of late, endings and tries that failed alike.
    """

    route: str
    queue: PushQueue
    stats: RouteStats
    blame: Blame
    clock: IReactorTime
    wall: Callable[[], float]
    on_bad_outcome: OnEnded
    errors: RecentErrors = attrs.field(factory=RecentErrors, init=False)
    _on_outcome: OnEnded | None = attrs.field(default=None, init=False)
    _is_traced: bool = attrs.field(default=False, init=False)
    _throttle: Throttle = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self._throttle = Throttle(log, self.clock)

    def report_pushes(self, *, is_traced: bool, on_outcome: OnEnded | None) -> None:
        """Log how each push ends, and call `on_outcome` with it; without both, no push pays."""
        self._is_traced = is_traced
        self._on_outcome = on_outcome

    def end(
        self,
        lease: Lease,
        outcome: PushOutcome,
        reason: str = "",
        message_name: bytes | None = None,
    ) -> None:
        """End a push: count it, settle it, and tell whoever wants to know.

        Every end of every push comes through here; see `Ended` for the arguments.
        """
        if not lease.is_settled:  # otherwise the queue dropped and counted it
            lease.is_settled = True
            if outcome == "sent":
                self.stats.messages_sent += 1
            else:
                self.stats.count_unsent(outcome, reason)
            if lease.suspicion is not None:
                self.blame.on_ended()
            self.queue.settle(lease)
        if self._is_traced:
            self._trace(lease.push, outcome, reason, message_name)
        if outcome != "sent":
            self._show(lease, outcome, reason)
        if self._on_outcome is not None:
            self._call(self._on_outcome, lease, outcome, reason, message_name)

    def on_overflow(self, push: Push, limit: str) -> None:
        """End a push that the queue dropped and counted."""
        self.end(Lease(push, is_settled=True), "overflowed", limit)

    def _show(self, lease: Lease, outcome: PushOutcome, reason: str) -> None:
        """Show an end that nobody gets; a newer push in its place is no error."""
        if outcome == "collapsed":
            self.record(outcome, reason, lease)
        else:
            self.warn(outcome.replace("_", " "), reason, lease)
            self._call(self.on_bad_outcome, lease, outcome, reason, None)

    def _trace(self, push: Push, outcome: str, reason: str, message_name: bytes | None) -> None:
        route, target = self.route, shorten(push.device)
        if message_name is not None:
            name = message_name.decode("utf-8", "replace")
            log.debug(
                "{route}: push to {target} sent: {name}", route=route, target=target, name=name
            )
        else:
            log.debug(
                "{route}: push to {target} ended: {outcome}: {reason}",
                route=route,
                target=target,
                outcome=outcome,
                reason=reason,
            )

    def _call(
        self,
        on_ended: OnEnded,
        lease: Lease,
        outcome: PushOutcome,
        reason: str,
        message_name: bytes | None,
    ) -> None:
        """Hand on how a push ended; a fault there must change nothing about the push."""
        push, sends, answered = lease.push, lease.sends, lease.answered
        if answered is not None:
            answered -= lease.sent
        try:
            waited = (lease.sent if sends else self.clock.seconds()) - push.received
            on_ended(
                make_ended(
                    (self.route, push, outcome, reason, message_name, sends, waited, answered)
                )
            )
        except Exception:  # noqa: BLE001 - the push has ended, and is counted
            self._throttle.failure("the outcome of a push could not be handed on")

    def warn(self, kind: str, reason: str, lease: Lease, *, key: str = "") -> None:
        """Record what went wrong with a push, and log it once a second.

        Args:
            kind: what became of the push or the request, in a word or two.
            key: stands for the reason, where its words are never the same.
        """
        self.record(kind, reason, lease)
        self._throttle.warn(
            "{route}: push to {target}: {kind}: {reason}",
            key=(kind, key or reason),
            route=self.route,
            target=shorten(lease.push.device),
            kind=kind,
            reason=reason,
        )

    def record(self, kind: str, reason: str, lease: Lease) -> None:
        """Let the status page show what went wrong with a push."""
        self.errors.record(kind, reason, lease.push.device, self.wall())
