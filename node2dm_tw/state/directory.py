"""The folder of what outlives the process: one process at a time."""

import errno
import fcntl
import os
from contextlib import suppress
from pathlib import Path

import attrs

from node2dm_tw.state.atomic import open_own_file


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
            OSError: the folder cannot be made or written, or `lock` in it is no file of this user.
        """
        self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = self._open(self.path / "lock")
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(descriptor)
            if not isinstance(error, BlockingIOError):
                raise
            raise BlockingIOError(error.errno, "another process uses it", str(self.path)) from error
        self._descriptor = descriptor

    def check(self) -> None:
        """Find out whether the folder, or one to make it in, can be written; write nothing.

        Raises:
            OSError: it cannot.
        """
        found = next(each for each in (self.path, *self.path.parents) if os.path.lexists(each))
        if not found.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(found))
        if not os.access(found, os.W_OK | os.X_OK):
            reason = errno.EROFS if os.statvfs(found).f_flag & os.ST_RDONLY else errno.EACCES
            raise OSError(reason, os.strerror(reason), str(found))

    @staticmethod
    def _open(path: Path) -> int:
        try:
            return open_own_file(path, os.O_RDWR | os.O_CREAT)
        except PermissionError:
            with suppress(FileNotFoundError):
                return open_own_file(path)  # one that may only be read can be locked as well
            raise

    def unlock(self) -> None:
        """Give the lock up. The file stays: removing it would let two processes in."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None
