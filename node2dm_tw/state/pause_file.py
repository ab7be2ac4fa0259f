"""The file that keeps a pause which the upstream named over a restart."""

import json
from collections.abc import Callable
from pathlib import Path

import attrs

from node2dm_tw.core.logs import logger
from node2dm_tw.state.atomic import as_number, parse_json, read_own_file, write_atomically

log = logger()

MIN_KEPT_SECONDS = 5.0
"""A shorter pause is not worth a file: a restart takes as long."""

_MAX_BYTES = 1_000


@attrs.define(eq=False)
class PauseFile:
    """A JSON object: `until`, in seconds since the epoch, and `named`, the seconds of the pause.

    Args:
        path: `state_dir/ROUTE.pause`.
        wall: seconds since the epoch.
    """

    path: Path
    wall: Callable[[], float]
    _exists: bool = attrs.field(default=False, init=False)

    def read(self) -> float:
        """Seconds that an earlier process had still to wait; 0.0 where there is nothing usable.

        A clock that was set back makes the pause no longer than it was.
        """
        data = read_own_file(self.path, _MAX_BYTES)
        self._exists = data is not None
        content = parse_json(data or b"")
        if not isinstance(content, dict):
            return 0.0
        until, named = as_number(content.get("until")), as_number(content.get("named"))
        if until is None or named is None:
            return 0.0
        return max(0.0, min(until - self.wall(), named))

    def keep(self, seconds: float) -> None:
        """Write down that the upstream named a pause of `seconds` from now on. Never raises."""
        if seconds < MIN_KEPT_SECONDS:
            return
        content = {"until": self.wall() + seconds, "named": seconds}
        try:
            write_atomically(self.path, [json.dumps(content).encode()])
            self._exists = True
        except OSError as error:
            log.warn(
                "cannot write {path} ({error}): a restart will end the pause",
                path=str(self.path),
                error=error.strerror,
            )

    def forget(self) -> None:
        """The pause is over. Never raises."""
        if self._exists:
            self._exists = False
            try:
                self.path.unlink(missing_ok=True)
            except OSError as error:
                log.warn(
                    "cannot remove {path} ({error}): it is over, and does no harm",
                    path=str(self.path),
                    error=error.strerror,
                )
