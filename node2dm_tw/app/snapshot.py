"""Takes the snapshot of the process that every view renders."""

from collections.abc import Callable, Collection, Mapping, Sized

import attrs

from node2dm_tw import __version__
from node2dm_tw.app.memory import MemoryMeter
from node2dm_tw.app.route import Route
from node2dm_tw.core.snapshot import ProcessSnapshot
from node2dm_tw.core.stats import Stats
from node2dm_tw.intake.udp import UDPIntake


@attrs.define(eq=False)
class SnapshotTaker:
    """Takes snapshots of the process, which starts now.

    Args:
        seconds: monotonic.
        stats: counts what is invalid.
    """

    seconds: Callable[[], float]
    stats: Stats
    _memory: MemoryMeter = attrs.field(init=False)
    _started_at: float = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self._memory = MemoryMeter(self.seconds)
        self._started_at = self.seconds()

    def take(
        self,
        routes: Mapping[str, Route],
        intakes: Collection[UDPIntake],
        callbacks: Sized | None,
        outcomes_dropped: int,
        max_queued_bytes: int,
    ) -> ProcessSnapshot:
        """Take a snapshot of these parts."""
        return ProcessSnapshot(
            version=__version__,
            uptime=int(self.seconds() - self._started_at),
            memory=self._memory.read(),
            routes={name: route.snapshot() for name, route in routes.items()},
            invalid=dict(self.stats.invalid),
            latest_invalid=self.stats.latest_invalid(),
            callbacks_waiting=len(callbacks or ()),
            outcomes_dropped=outcomes_dropped,
            udp_dropped=sum(intake.dropped for intake in intakes),
            rcvbuf=sum(intake.effective_rcvbuf for intake in intakes),
            max_queued_bytes=max_queued_bytes,
        )
