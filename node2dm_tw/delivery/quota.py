"""The lock that a quota stop leaves behind, for a person to take away."""

from pathlib import Path

import attrs

from node2dm_tw.files import write_atomically

_TEXT = """\
The push service answered QuotaExceeded for route {route}: the sender is over its quota.
Nothing is sent on this route while this file is here. Unsent pushes were kept.
Find out why so much was sent, wait for the quota to be granted again (a day, as a rule),
then delete this file and start the gateway again.
"""


@attrs.frozen
class QuotaLock:
    """The file that says a route is over its quota.

    Args:
        path: `quota.lock`, or `quota.lock.ROUTE` where there are several routes.
        route: the name of the route.
    """

    path: Path
    route: str

    @property
    def is_set(self) -> bool:
        """Whether the route must not send."""
        return self.path.exists()

    def set(self) -> None:
        """Write the file. Raises OSError."""
        write_atomically(self.path, [_TEXT.format(route=self.route).encode()])

    @property
    def advice(self) -> str:
        """What to do about it, in a line."""
        return (
            f"{self.path} is there: route {self.route} was over its quota; "
            "delete the file once the quota is granted again, then start"
        )
