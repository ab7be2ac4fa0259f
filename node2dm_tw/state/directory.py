"""The folder for state that survives a restart, used by one process at a time."""

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
        path: created, accessible only to the owner, if it does not exist.
    """

    path: Path
    _descriptor: int | None = attrs.field(default=None, init=False)

    def lock(self) -> None:
        """Acquire the lock, which ends with the process.

        Raises:
            BlockingIOError: another process has the lock.
            OSError: the folder cannot be created or written, or its `lock` is not a file of this
                user.
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
        """Check that the folder, or the one to create it in, is writable. Writes nothing.

        Raises:
            OSError: it is not.
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
                return open_own_file(path)  # a read-only file can be locked too
            raise

    def unlock(self) -> None:
        """Release the lock. The file stays: without it two processes could hold a lock."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None
