"""Files that the emulator keeps: read bounded, and replaced whole."""

import os
import secrets
from pathlib import Path


def read_file(path: Path, limit: int) -> bytes:
    """Read at most `limit` bytes of a regular file.

    It waits for no FIFO and follows no symbolic link.

    Raises:
        OSError: it cannot be read.
    """

    def open_it(name: str, flags: int) -> int:
        return os.open(name, flags | os.O_NOFOLLOW | os.O_NONBLOCK)

    with open(path, "rb", opener=open_it) as file:
        return file.read(limit) or b""


def replace_file(path: Path, content: bytes) -> None:
    """Replace a file at once, readable by its owner alone. Raises OSError."""
    fresh = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
        fresh.replace(path)
    except OSError:
        fresh.unlink(missing_ok=True)
        raise
