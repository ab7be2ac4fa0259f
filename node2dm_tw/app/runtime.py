"""What the gateway gets from the process that it runs in."""

from collections.abc import Callable

import attrs
from twisted.internet.interfaces import IReactorFDSet, IReactorFromThreads

from node2dm_tw.app.emulated import IEmulatorReactor
from node2dm_tw.app.hangups import HangUps
from node2dm_tw.http.treq_pool import ITCPReactor


class IGatewayReactor(IEmulatorReactor, ITCPReactor, IReactorFDSet, IReactorFromThreads):
    """What the gateway uses of the reactor, besides listening by TCP."""


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
