"""The file that keeps a pause that the upstream asked for over a restart."""

import json
from collections.abc import Callable
from pathlib import Path

import attrs

from node2dm_tw.core.logs import logger
from node2dm_tw.state.atomic import as_number, parse_json, read_own_file, write_atomically

log = logger()

MIN_KEPT_SECONDS = 5.0
"""Shorter pauses are not saved: a restart takes as long."""

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
        """Return the seconds left of an earlier process's pause; 0.0 without a valid file.

        The result is at most the original pause, even if the clock was set back.
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
        """Save a pause of `seconds` from now on, which the upstream asked for. Never raises."""
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
        """Remove the file, because the pause is over. Never raises."""
        if self._exists:
            self._exists = False
            try:
                self.path.unlink(missing_ok=True)
            except OSError as error:
                log.warn(
                    "cannot remove {path} ({error}): the pause is over, so it has no effect",
                    path=str(self.path),
                    error=error.strerror,
                )
