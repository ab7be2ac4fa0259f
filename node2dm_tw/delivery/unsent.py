"""Pushes that end unsent are visible without a debugger: in the recent errors and in the log."""

from collections.abc import Callable

import attrs
from twisted.internet.interfaces import IReactorTime

from node2dm_tw.delivery.recent_errors import RecentErrors
from node2dm_tw.logs import Throttle, logger, shorten
from node2dm_tw.push import Push

log = logger()


@attrs.define(eq=False)
class UnsentLog:
    """Records each push that ends unsent, and logs one a second for each outcome and reason.

    Args:
        route: its name, for the log.
        recent_errors: of the route.
        clock: monotonic seconds.
        wall: seconds since the epoch.
    """

    route: str
    recent_errors: RecentErrors
    clock: IReactorTime
    wall: Callable[[], float]
    _throttle: Throttle = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self._throttle = Throttle(log, self.clock)

    def record(self, push: Push, outcome: str, reason: str) -> None:
        """Record that a push ended unsent.

        Args:
            outcome: the name of its terminal counter, in words, without `messages`.
            reason: the limit that was reached, or the upstream's words.
        """
        self.recent_errors.record(outcome, reason, push.device, self.wall())
        self._throttle.warn(
            "{route}: push to {device} {outcome}: {reason}",
            key=(outcome, reason),
            route=self.route,
            device=shorten(push.device),
            outcome=outcome,
            reason=reason,
        )
