"""What the lanes of a fleet know together of devices; here, of one process, in memory."""

import heapq
from collections import OrderedDict
from itertools import islice

import attrs
from twisted.internet.interfaces import IReactorTime

from node2dm_tw.core.logs import shorten
from node2dm_tw.core.snapshot import BlockedDevice

CAPACITY = 100_000
"""Devices that may be blocked at once; beyond it the one blocked first goes free."""

LISTED = 10
"""Devices that a person is shown."""


@attrs.define(eq=False)
class BlockedDevices:
    """Devices that are over their quota, each until a moment of its own.

    Args:
        clock: seconds, monotonic.
        capacity: devices kept at the most.

    Attributes:
        until: the moments at which devices go free; some may have passed.
    """

    clock: IReactorTime
    capacity: int = CAPACITY
    until: OrderedDict[bytes, float] = attrs.field(factory=OrderedDict, init=False)
    _ends: list[tuple[float, bytes]] = attrs.field(factory=list, init=False)

    def block(self, device: bytes, seconds: float) -> None:
        """Block `device` from now on for `seconds`."""
        self.until.pop(device, None)
        if len(self.until) >= self.capacity:
            self.until.popitem(last=False)
        until = self.clock.seconds() + seconds
        self.until[device] = until
        heapq.heappush(self._ends, (until, device))
        if len(self._ends) > 2 * self.capacity:
            self._ends = [(until, device) for device, until in self.until.items()]
            heapq.heapify(self._ends)

    def is_blocked(self, device: bytes) -> bool:
        """Whether pushes to `device` must be dropped now."""
        until = self.until.get(device)
        if until is None:
            return False
        if until > self.clock.seconds():
            return True
        del self.until[device]
        return False

    def latest(self) -> tuple[BlockedDevice, ...]:
        """The devices blocked last, shortened, and the seconds that each has left."""
        self._forget_past()
        now = self.clock.seconds()
        return tuple(
            BlockedDevice(shorten(device), round(until - now))
            for device, until in islice(reversed(self.until.items()), LISTED)
        )

    def __len__(self) -> int:
        self._forget_past()
        return len(self.until)

    def _forget_past(self) -> None:
        """Forget whose time is over. The heap may name a device twice, or one that went free."""
        now = self.clock.seconds()
        while self._ends and self._ends[0][0] <= now:
            until, device = heapq.heappop(self._ends)
            if self.until.get(device) == until:
                del self.until[device]
