"""The decision before sending: which pushes go now, which sleep first, and which have ended."""

import attrs

from node2dm_tw.core.push import Push
from node2dm_tw.delivery.blocked_devices import BlockedDevices
from node2dm_tw.delivery.rates import DeviceRates, Limit
from node2dm_tw.delivery.retry_queue import RetryQueue
from node2dm_tw.delivery.target_delays import TargetDelays
from node2dm_tw.providers.interface import Provider
from node2dm_tw.queues.interface import Lease


@attrs.frozen(kw_only=True)
class LaneSettings:
    """What an operator sets for a lane, and may change while it runs.

    Args:
        max_in_flight: requests at once.
        retry_capacity: pushes that may sleep at once.
        max_age: seconds after its receipt at which a push is dropped.
        device_block: seconds for which a device over its quota is left alone.
        device_rate: limits of the pushes to one device, all of which hold.
        device_burst: pushes to one device that may go at once.
        project_rate: limits all pushes of the route together; None: no limit.
        bad_device_alarm: percent of answers blaming devices above which callbacks wait; 0: never;
            None: answers of this service are not watched.
    """

    max_in_flight: int
    retry_capacity: int
    max_age: float
    device_block: float
    device_rate: tuple[Limit, ...]
    device_burst: int
    project_rate: Limit | None
    bad_device_alarm: int | None


@attrs.frozen
class Admit:
    """The push goes now."""


@attrs.frozen
class Expired:
    """The push is too old; `limit` names the option or field that says so."""

    limit: str


@attrs.frozen
class Blocked:
    """The device of the push is over its quota."""


@attrs.frozen
class Delayed:
    """The push sleeps first.

    Args:
        seconds: for which it does.
        with_target: its whole target waits; else only the rate of its device is exceeded.
    """

    seconds: float
    with_target: bool


@attrs.frozen
class Collapsed:
    """The push took the place of an older one with its collapse key, which has ended."""

    older: Lease


Decision = Admit | Expired | Blocked | Delayed | Collapsed

ADMIT = Admit()
BLOCKED = Blocked()
TOO_OLD = Expired("max_age")
OUTLIVED = Expired("ttl")


@attrs.define(eq=False)
class Admission:
    """Decides about each push before it is sent. It ends no push itself.

    Args:
        provider: knows how long a push is of use.
        retry_queue: where pushes sleep.
        blocked: devices over their quota.
        targets: targets that wait as a whole.
        rates: how fast a device may be sent to.
        settings: see `LaneSettings`.
    """

    provider: Provider
    retry_queue: RetryQueue
    blocked: BlockedDevices
    targets: TargetDelays
    rates: DeviceRates
    settings: LaneSettings

    def decide(self, lease: Lease, now: float, is_fresh: bool) -> Decision:
        """Decide what becomes of a push now.

        Args:
            now: seconds of the monotonic clock.
            is_fresh: it comes from the queue, and may take the place of one that sleeps.
        """
        push = lease.push
        if is_fresh and self.retry_queue.heap:
            older = self.retry_queue.replace(lease)
            if older is not None:
                return Collapsed(older)
        if now - push.received >= self.settings.max_age:
            return TOO_OLD
        if push.is_json and self._is_expired(lease, now):
            return OUTLIVED
        if self.blocked.until and self.blocked.is_blocked(push.device) and not push.is_subscription:
            return BLOCKED
        if self.targets.delays and (wait := self.targets.wait(push.device)):
            return Delayed(wait, with_target=True)
        if self.rates.limits and (not push.is_json or _is_limited_by_device(push)):
            wait = self.rates.take(push.line[: push.device_end], now)  # the property costs more
            if wait:
                return Delayed(wait, with_target=False)
        return ADMIT

    def reconfigure(self, settings: LaneSettings) -> None:
        """Apply other settings from now on."""
        self.settings = settings
        self.retry_queue.reconfigure(settings.retry_capacity)
        self.rates.reconfigure(settings.device_rate, settings.device_burst)

    def block(self, device: bytes, seconds: float | None) -> None:
        """Leave a device alone for `seconds`, or for as long as is usual."""
        self.blocked.block(device, self.settings.device_block if seconds is None else seconds)

    def _is_expired(self, lease: Lease, now: float) -> bool:
        """Whether a push has outlived its own ttl; one of 0, "now or never", is tried once."""
        ttl = self.provider.ttl(lease.push)
        if ttl == 0:
            return lease.generation > 0
        return ttl is not None and now - lease.push.received >= ttl


def _is_limited_by_device(push: Push) -> bool:
    """Whether the rates of a device hold for a push: it is a message to one."""
    return push.has_single_device and not push.is_subscription
