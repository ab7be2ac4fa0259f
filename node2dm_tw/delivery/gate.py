"""Which pushes go now, which sleep first, and which have ended before they were sent."""

import attrs

from node2dm_tw.delivery.rates import DeviceRates
from node2dm_tw.delivery.shared import BlockedDevices
from node2dm_tw.delivery.waiting import WaitingRoom
from node2dm_tw.providers.interface import Provider
from node2dm_tw.push import Push
from node2dm_tw.queues.interface import Lease, PushQueue
from node2dm_tw.stats import RouteStats


@attrs.frozen
class Limits:
    """What an operator sets for a lane; replaced as a whole when the configuration is read again.

    Args:
        max_age: seconds after its receipt at which a push is dropped.
        device_block: seconds for which a device over its quota is left alone.
    """

    max_age: float
    device_block: float


@attrs.define(eq=False)
class Gate:
    """Stands between the queue and the wire.

    Args:
        provider: knows how long a push is of use.
        queue: told of pushes that have ended.
        waiting: where pushes sleep.
        blocked: devices over their quota.
        rates: how fast a device may be sent to.
        limits: see `Limits`.
        stats: where each ended push is counted.
    """

    provider: Provider
    queue: PushQueue
    waiting: WaitingRoom
    blocked: BlockedDevices
    rates: DeviceRates
    limits: Limits
    stats: RouteStats

    def admits(self, lease: Lease, now: float, *, is_fresh: bool) -> bool:
        """Whether a push goes now; if not, it has ended or sleeps when this returns.

        Args:
            now: seconds of the monotonic clock.
            is_fresh: it comes from the queue, and may take the place of one that sleeps.
        """
        push = lease.push
        if is_fresh and self.waiting.heap and self._takes_a_place(lease):
            return False
        if now - push.received >= self.limits.max_age or (
            push.is_json and self._is_over(lease, now)
        ):
            self.stats.messages_expired += 1
        elif self.blocked.until and self.blocked.is_blocked(push.device):
            self.stats.messages_blocked += 1
        else:
            return not self.rates.limits or self._is_in_time(lease)
        self.queue.settle(lease)
        return False

    def sleep(self, lease: Lease, delay: float) -> None:
        """Let a push sleep for `delay` seconds, if there is room for it."""
        if not self.waiting.sleep(lease, delay):
            self.stats.messages_overflowed += 1
            self.queue.settle(lease)

    def block(self, push: Push, seconds: float | None) -> None:
        """Leave the device of `push` alone for `seconds`, or for as long as is usual."""
        self.blocked.block(push.device, self.limits.device_block if seconds is None else seconds)

    def _takes_a_place(self, lease: Lease) -> bool:
        older = self.waiting.replace(lease)
        if older is None:
            return False
        self.stats.messages_collapsed += 1
        self.queue.settle(older)
        return True

    def _is_over(self, lease: Lease, now: float) -> bool:
        """Whether a push has outlived its own ttl; one of 0, "now or never", is tried once."""
        ttl = self.provider.ttl(lease.push)
        if ttl == 0:
            return lease.generation > 0
        return ttl is not None and now - lease.push.received >= ttl

    def _is_in_time(self, lease: Lease) -> bool:
        """Whether the rate of its device lets a push go; else it sleeps until it does."""
        wait = self.rates.take(lease.push.device) if lease.push.names_device else 0.0
        if wait:
            self.sleep(lease, wait)
        return not wait
