"""The lock that a quota stop leaves behind, for a person to take away."""

import os
import re
from pathlib import Path

import attrs

from node2dm_tw.state.atomic import NotRegularFile, find_files, open_own_file, write_atomically

_TEXT = """\
The push service answered QuotaExceeded for route {route}: the sender is over its quota.
Nothing is sent on this route while this file is here. Unsent pushes were kept.
Find out why so much was sent, wait for the quota to be granted again (a day, as a rule),
then delete this file, and start the gateway again, or send it SIGHUP if it still runs.
"""

_FIRST_LINE = re.compile(rb"The push service answered QuotaExceeded for route ([A-Za-z0-9_.-]+):")

MAX_LINE_BYTES = 1_000
"""Bounds the first line."""


def find_lock_files(folder: Path) -> list[Path]:
    """List the files of a folder that may lock a route; none where it cannot be read."""
    return find_files(folder, "quota.lock*")


@attrs.frozen
class QuotaLock:
    """The file that says a route is over its quota.

    Args:
        path: where it is written: `quota.lock`, or `quota.lock.ROUTE` where there are several
            routes. One that was written when the routes were others has the other name.
        route: the name of the route, which the first line repeats.
    """

    path: Path
    route: str

    @property
    def file(self) -> Path | None:
        """The file that locks the route; None where there is none."""
        return next(filter(self.is_held_by, find_lock_files(self.path.parent)), None)

    @property
    def is_set(self) -> bool:
        """Whether the route must not send."""
        return self.file is not None

    def is_held_by(self, file: Path) -> bool:
        """Whether a file locks this route: by its first line, or else by its own name."""
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
        """What to do about it, in a line."""
        return (
            f"{self.file or self.path} is there: route {self.route} was over its quota; "
            "delete the file once the quota is granted again, then start"
        )
