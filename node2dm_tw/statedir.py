"""The folder of what outlives the process: one process at a time."""

import fcntl
import os
from pathlib import Path

import attrs


@attrs.define(eq=False)
class StateDir:
    """Holds the lock on a folder.

    Args:
        path: made, for the owner alone, where it does not exist.
    """

    path: Path
    _descriptor: int | None = attrs.field(default=None, init=False)

    def lock(self) -> None:
        """Take the lock, which ends with the process.

        Raises:
            BlockingIOError: another process has it.
            OSError: the folder cannot be made or written.
        """
        self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(descriptor)
            raise BlockingIOError(error.errno, "another process uses it", str(self.path)) from error
        self._descriptor = descriptor

    def unlock(self) -> None:
        """Give the lock up. The file stays: removing it would let two processes in."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None
