"""What application servers want sent in a day: when, to which device, under which key."""

import heapq
import math
from collections.abc import Iterator
from random import Random

import attrs

HOUR = 3_600.0
DAY = 24 * HOUR
BATCH = 500
"""Pushes of a campaign that come at once."""

Wanted = tuple[float, int, bytes]
"""A moment, the number of a device, a collapse key."""


@attrs.frozen
class Load:
    """A day's pushes.

    Args:
        pushes: at least so many in all.
        devices: so many, numbered from 0.
        campaigns: moments at which every device is sent to.
        saturated: a device that is sent to as fast as its limits allow, for 70 minutes.
        flooded: devices that get more at once than may sleep for one.
    """

    pushes: int
    devices: int
    campaigns: tuple[float, ...]
    saturated: int = 0
    flooded: tuple[int, ...] = (1, 2, 3)
    saturated_from: float = 12.5 * HOUR
    seed: int = 8120

    def __iter__(self) -> Iterator[Wanted]:
        """Give them in the order of time."""
        rest = self.pushes - len(self.campaigns) * self.devices
        chats = rest // 4
        streams = [self._campaign(moment) for moment in self.campaigns]
        streams += [self._steady(rest - chats), self._chats(chats)]
        streams += [self._saturating(), self._flood()]
        return heapq.merge(*streams)

    def _random(self, name: str) -> Random:
        return Random(f"{self.seed} {name}")

    def _other(self, random: Random) -> int:
        """A device with no role of its own."""
        return random.randrange(1 + len(self.flooded), self.devices)

    def _campaign(self, begin: float) -> Iterator[Wanted]:
        """The whole of the devices, as fast as an application server can name them."""
        for number in range(1 + len(self.flooded), self.devices):
            yield begin + number // BATCH * 0.05, number, b"news"

    def _steady(self, count: int) -> Iterator[Wanted]:
        """Ten times as many at the busiest minute of the day as at the quietest."""
        random = self._random("steady")
        minutes = int(DAY / 60)
        shares = [1.2 - math.cos(2 * math.pi * minute / minutes) for minute in range(minutes)]
        scale, owed = count / sum(shares), 0.0
        for minute, share in enumerate(shares):
            owed += share * scale
            now = sorted(random.uniform(minute * 60, minute * 60 + 60) for _ in range(int(owed)))
            owed -= len(now)
            for moment in now:
                yield moment, self._other(random), random.choice((b"", b"", b"badge", b"inbox"))

    def _chats(self, count: int) -> Iterator[Wanted]:
        """Bursts to one device: 75 at once, under no key, or all under the same."""
        random = self._random("chats")
        for begin in sorted(random.uniform(0, DAY - 60) for _ in range(count // 75)):
            device, same = self._other(random), random.random() < 0.5
            for _ in range(75):
                yield begin, device, b"chat" if same else b""

    def _saturating(self) -> Iterator[Wanted]:
        """The whole burst at once, then exactly what FCM's limit of an hour leaves."""
        for number in range(60 + int(70 * 60 / (HOUR / 4_940))):
            moment = self.saturated_from + max(0, number - 60) * HOUR / 4_940
            yield moment, self.saturated, b""

    def _flood(self) -> Iterator[Wanted]:
        """A hundred different pushes at once: 60 go, 20 may sleep."""
        for device in self.flooded:
            for _ in range(100):
                yield 15 * HOUR, device, b""
