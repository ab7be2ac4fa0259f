"""Which connections still answer: a time-out is slowness of one request, or silence of all."""

import enum
from math import inf

MAX_CONNECTIONS = 1024
"""Connections that are remembered; beyond it all are forgotten, and become known again."""


class Health(enum.Enum):
    """What a request's time-out tells of its connection.

    Attributes:
        ALIVE: it answered another request meanwhile.
        SILENT: it answered none, and is condemned from now on.
        CONDEMNED: it was condemned while the request was under way.
    """

    ALIVE = enum.auto()
    SILENT = enum.auto()
    CONDEMNED = enum.auto()


class ConnectionHealth:
    """Remembers when connections answered, by the port at our end.

    A port may come back with another connection; the moments tell the two apart. All moments
    are in seconds of one clock.

    Attributes:
        answered: the moment of the last answer on each connection that carries several requests.
    """

    def __init__(self) -> None:
        self.answered: dict[int, float] = {}
        self._condemned: dict[int, float] = {}

    def on_timeout(self, port: int, sent_at: float, now: float) -> Health:
        """Judge the connection with `port`, on which a request sent at `sent_at` timed out."""
        if self._condemned.get(port, -inf) > sent_at:
            return Health.CONDEMNED
        if self.answered.get(port, -inf) >= sent_at:
            return Health.ALIVE
        if len(self._condemned) >= MAX_CONNECTIONS:
            self._condemned.clear()
        self._condemned[port] = now
        return Health.SILENT

    def on_connected(self) -> None:
        """Make room before another connection comes into use."""
        if len(self.answered) >= MAX_CONNECTIONS:
            self.answered.clear()
