"""Bytes to pushes on the queue of their route; the same for every way they come in."""

from collections.abc import Callable, Mapping

import attrs
from twisted.internet.interfaces import IReactorTime

from node2dm_tw.logs import Throttle, logger
from node2dm_tw.providers.interface import Provider
from node2dm_tw.push import InvalidPush, Push, read_json
from node2dm_tw.queues.interface import PushQueue
from node2dm_tw.stats import RouteStats, Stats

log = logger()


@attrs.frozen(eq=False)
class Route:
    """Where the pushes of one application go."""

    name: str
    provider: Provider
    queue: PushQueue
    stats: RouteStats


@attrs.define(eq=False)
class Lines:
    """Reads lines and queues what they hold.

    Args:
        routes: by the names and prefixes a line may give.
        default: for lines that name none.
        stats: counts what is invalid.
        clock: monotonic seconds, for the log.
        wall: seconds since the epoch.
    """

    routes: Mapping[bytes, Route]
    default: Route
    stats: Stats
    clock: IReactorTime
    wall: Callable[[], float]
    _last: float = attrs.field(default=0.0, init=False)
    _throttle: Throttle = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self._throttle = Throttle(log, self.clock)

    def datagram(self, datagram: bytes, source: str) -> None:
        """Queue every line of a datagram; what is faulty is counted, and the rest still counts."""
        received = self._moment()
        is_empty = True
        for line in datagram.split(b"\n"):
            if line:
                is_empty = False
                try:
                    route, push = self.read(line, received)
                except InvalidPush as error:
                    self.refuse(error.reason, source, len(line))
                else:
                    route.stats.messages_received += 1
                    route.queue.put((push,))
        if is_empty:
            self.refuse("empty", source, len(datagram))

    def _moment(self) -> float:
        """The time now, to a millisecond: pushes that come together share one float's memory."""
        now = self.wall()
        if not 0.0 <= now - self._last < 0.001:
            self._last = now
        return self._last

    def read(self, line: bytes, received: float) -> tuple[Route, Push]:
        """Find the route of a line and the push in it.

        Raises:
            InvalidPush: with the reason.
        """
        if line.startswith(b"{"):
            name, push = read_json(line, received)
            route = self.default if name is None else self._route(name.encode("utf-8", "replace"))
        else:
            colon, bar = line.find(b":"), line.find(b"|")
            if 0 <= bar < colon:
                route, line = self._route(line[:bar]), line[bar + 1 :]
            else:
                route = self.default
            push = route.provider.split(line, received)
        route.provider.validate(push)
        return route, push

    def refuse(self, reason: str, source: str, size: int) -> None:
        """Count `size` bytes from `source` that are no push; log it at most once a second."""
        self.stats.invalid[reason] += 1
        self._throttle.warn(
            "{size} bytes from {source} are no push: {reason}",
            size=size,
            source=source,
            reason=reason,
        )

    def _route(self, name: bytes) -> Route:
        route = self.routes.get(name)
        if route is None:
            raise InvalidPush("unknown_route", "route")
        return route
