"""Writes state files atomically, and reads them without trusting their content."""

import errno
import json
import math
import os
import stat
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from node2dm_tw.core.logs import logger

log = logger()

_KINDS = {
    stat.S_IFBLK: "a device",
    stat.S_IFCHR: "a device",
    stat.S_IFDIR: "a directory",
    stat.S_IFIFO: "a FIFO",
    stat.S_IFLNK: "a symbolic link",
    stat.S_IFSOCK: "a socket",
}


class NotRegularFile(OSError):
    """The path is not a regular file, but a directory, a FIFO, a symbolic link or the like."""


def write_atomically(path: Path, chunks: Iterable[bytes]) -> None:
    """Write `chunks` to `path`. After a crash it is the old file or the new one, never a part.

    Only the owner can read the file. The file and its directory are synced to disk.

    Raises:
        OSError: the old file is unchanged.
    """
    part = path.with_name(path.name + ".part")
    with suppress(OSError):
        part.unlink()  # left by a crash, perhaps with another mode
    part = find_free_name(part)
    try:
        with open_new_file(part) as file:
            file.writelines(chunks)
            sync(file)
        part.replace(path)
    except BaseException:
        with suppress(OSError):
            part.unlink()
        raise
    sync_directory(path.parent)


def open_new_file(path: Path) -> BinaryIO:
    """Create a file that only its owner can read. Raises OSError if it exists."""
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb")


def sync(file: BinaryIO) -> None:
    """Flush `file` and sync it to disk."""
    file.flush()
    os.fsync(file.fileno())


def find_free_name(path: Path) -> Path:
    """Return `path`, or the first of `path.1`, `path.2` and so on that does not exist."""
    found, number = path, 0
    while os.path.lexists(found):
        number += 1
        found = path.with_name(f"{path.name}.{number}")
    return found


def find_files(folder: Path, pattern: str) -> list[Path]:
    """List the files in a folder that match `pattern`; none if the folder cannot be read."""
    try:
        return sorted(folder.glob(pattern))
    except OSError:
        return []


def sync_directory(path: Path) -> None:
    """Sync the names in a folder to disk, if its file system can do that."""
    with suppress(OSError):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def open_own_file(path: Path, flags: int = os.O_RDONLY) -> int:
    """Open a regular file of this user or of root, and remove the permissions of other users.

    Never blocks, and never follows a symbolic link.

    Returns:
        A file descriptor.

    Raises:
        FileNotFoundError: the file does not exist, and `flags` do not create it.
        NotRegularFile: the path is not a regular file.
        OSError: the file belongs to another user, or cannot be opened.
    """
    with suppress(FileNotFoundError):
        _check_own(os.lstat(path), path)  # before opening, which may have side effects
    descriptor = os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o600)
    try:
        status = os.fstat(descriptor)
        _check_own(status, path)
        if status.st_mode & 0o077 and status.st_nlink == 1:
            with suppress(OSError):
                os.fchmod(descriptor, 0o600)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def _check_own(status: os.stat_result, path: Path) -> None:
    kind = stat.S_IFMT(status.st_mode)
    if kind != stat.S_IFREG:
        reason = f"it is {_KINDS.get(kind, 'not a file')}"
        raise NotRegularFile(errno.EINVAL, reason, str(path))
    if status.st_uid not in (os.geteuid(), 0):
        raise PermissionError(errno.EPERM, f"it belongs to user {status.st_uid}", str(path))


def read_own_file(path: Path, limit: int) -> bytes | None:
    """Read a file as `open_own_file` opens it.

    Args:
        limit: maximum size in bytes.

    Returns:
        None if the file does not exist or cannot be used; a warning then has the reason.
    """
    try:
        with os.fdopen(open_own_file(path), "rb") as file:
            content = file.read(limit + 1)
    except FileNotFoundError:
        return None
    except OSError as error:
        reason = error.strerror or str(error)
    else:
        if len(content) <= limit:
            return content
        reason = f"it is larger than {limit} bytes"
    log.warn("{path} is not used: {reason}", path=str(path), reason=reason)
    return None


def parse_json(data: bytes) -> object:
    """Decode untrusted JSON; None if that fails."""
    try:
        return json.loads(data)
    except (ValueError, RecursionError):
        return None


def as_number(value: object) -> float | None:
    """Convert a number of decoded JSON to a finite float; None for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None
