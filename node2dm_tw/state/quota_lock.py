"""The file that locks a route which is over its quota, until somebody deletes it."""

import os
import re
from pathlib import Path

import attrs

from node2dm_tw.state.atomic import NotRegularFile, find_files, open_own_file, write_atomically

_TEXT = """\
The push service answered QuotaExceeded for route {route}: the sender is over its quota.
Nothing is sent on this route while this file exists. Unsent pushes are kept.
Find out why so many pushes were sent, and wait until the quota is available again (usually a day).
Then delete this file, and start the gateway again, or send it SIGHUP if it still runs.
"""

_FIRST_LINE = re.compile(rb"The push service answered QuotaExceeded for route ([A-Za-z0-9_.-]+):")

MAX_LINE_BYTES = 1_000
"""Maximum length of the first line."""


def find_lock_files(folder: Path) -> list[Path]:
    """List the files of a folder that may lock a route; none if it cannot be read."""
    return find_files(folder, "quota.lock*")


@attrs.frozen
class QuotaLock:
    """The file that says that a route is over its quota.

    Args:
        path: where the file is written: `quota.lock`, or `quota.lock.ROUTE` with several routes. If
            the number of routes has changed, an existing file may have the other name.
        route: the name of the route, which is also in the first line.
    """

    path: Path
    route: str

    @property
    def file(self) -> Path | None:
        """The file that locks the route; None if there is none."""
        return next(filter(self.is_held_by, find_lock_files(self.path.parent)), None)

    @property
    def is_set(self) -> bool:
        """Whether the route must not send."""
        return self.file is not None

    def is_held_by(self, file: Path) -> bool:
        """Whether a file locks this route, by its first line or otherwise by its name."""
        try:
            with os.fdopen(open_own_file(file), "rb") as opened:
                line = opened.readline(MAX_LINE_BYTES)
        except (NotRegularFile, FileNotFoundError):
            return False
        except OSError:
            line = b""
        named = _FIRST_LINE.match(line)
        return named[1] == self.route.encode() if named else file == self.path

    def set(self) -> None:
        """Write the file. Raises OSError."""
        write_atomically(self.path, [_TEXT.format(route=self.route).encode()])

    @property
    def advice(self) -> str:
        """What to do about the lock, in one line."""
        return (
            f"{self.file or self.path} exists: route {self.route} was over its quota; "
            "delete the file once the quota is granted again, then start"
        )
