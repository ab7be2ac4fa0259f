"""Files that must be whole or not there."""

import os
from collections.abc import Iterable
from pathlib import Path


def write_atomically(path: Path, chunks: Iterable[bytes]) -> None:
    """Write `chunks` to `path` so that after a crash it is the old file or the new, never a part.

    The file is readable by its owner alone. It and its directory are synced to disk.

    Raises:
        OSError: nothing was changed.
    """
    part = path.with_name(path.name + ".part")
    try:
        part.unlink(missing_ok=True)  # left by a crash, perhaps with another mode
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.writelines(chunks)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except OSError:
        part.unlink(missing_ok=True)
        raise
    _sync_directory(path.parent)


def _sync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
