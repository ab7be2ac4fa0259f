"""When pushes arrived at the upstream, read off nginx's log."""

from collections.abc import Iterable, Iterator

import attrs

RESOLUTION = 0.001
"""Seconds: nginx writes milliseconds, and cuts off what is below."""


@attrs.frozen
class Arrival:
    """Seconds since the epoch at which a datagram was sent, and its request arrived."""

    sent: float
    arrived: float

    @property
    def taken(self) -> float:
        """Seconds from the one to the other."""
        return self.arrived - self.sent


def arrivals(lines: Iterable[str]) -> Iterator[Arrival]:
    """Read lines of stamp in the datagram, moment of the log entry, and request time.

    The stamp is in nanoseconds, the others in seconds; all three are of the same clock. What
    nginx has cut off is added as if it were a whole millisecond: this is an upper bound.
    """
    for line in lines:
        parts = line.split()
        if len(parts) == 3:
            stamp, logged, taken = parts
            yield Arrival(int(stamp) / 1e9, float(logged) - float(taken) + RESOLUTION)
