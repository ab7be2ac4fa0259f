"""What the gateway gets from the process that it runs in."""

from collections.abc import Callable

import attrs
from twisted.internet.interfaces import (
    IReactorCore,
    IReactorFDSet,
    IReactorFromThreads,
    IReactorPluggableNameResolver,
    IReactorTCP,
    IReactorTime,
)

from node2dm_tw.app.hangups import HangUps


class IGatewayReactor(
    IReactorCore,
    IReactorFDSet,
    IReactorFromThreads,
    IReactorPluggableNameResolver,
    IReactorTCP,
    IReactorTime,
):
    """What the gateway needs of Twisted's reactor."""


@attrs.frozen(eq=False)
class Runtime:
    """What the gateway gets from its process.

    Args:
        reactor: its clock is monotonic.
        wall: seconds since the epoch.
        random: numbers in [0, 1).
        hang_ups: SIGHUP.
        set_exit_status: has the process end with a status once everything else is over.
    """

    reactor: IGatewayReactor
    wall: Callable[[], float]
    random: Callable[[], float]
    hang_ups: HangUps
    set_exit_status: Callable[[int], None]

    def exit_with(self, status: int) -> None:
        """Stop the reactor, its services in order, and end with `status`."""
        self.set_exit_status(status)
        self.reactor.callWhenRunning(self.reactor.stop)
