"""What the lanes of a fleet know together of devices; here, of one process, in memory."""

import attrs
from twisted.internet.interfaces import IReactorTime

CAPACITY = 100_000
"""Devices that may be blocked at once; beyond it the one blocked first goes free."""


@attrs.define(eq=False)
class BlockedDevices:
    """Devices that are over their quota, each until a moment of its own.

    Args:
        clock: seconds, monotonic.
        capacity: devices kept at the most.
    """

    clock: IReactorTime
    capacity: int = CAPACITY
    _until: dict[bytes, float] = attrs.field(factory=dict, init=False)

    def block(self, device: bytes, seconds: float) -> None:
        """Block `device` from now on for `seconds`."""
        self._until.pop(device, None)
        if len(self._until) >= self.capacity:
            del self._until[next(iter(self._until))]
        self._until[device] = self.clock.seconds() + seconds

    def is_blocked(self, device: bytes) -> bool:
        """Whether pushes to `device` must be dropped now."""
        until = self._until.get(device)
        if until is None:
            return False
        if until > self.clock.seconds():
            return True
        del self._until[device]
        return False

    def __bool__(self) -> bool:
        return bool(self._until)

    def __len__(self) -> int:
        self._forget_past()
        return len(self._until)

    def _forget_past(self) -> None:
        now = self.clock.seconds()
        self._until = {device: until for device, until in self._until.items() if until > now}
