"""Bytes to pushes on the queue of their route; the same for every way they come in."""

from collections.abc import Iterable, Mapping

import attrs
from twisted.internet.interfaces import IReactorTime

from node2dm_tw.logs import Throttle, logger
from node2dm_tw.providers.interface import Provider
from node2dm_tw.push import InvalidPush, Push, read_json
from node2dm_tw.queues.interface import PushQueue
from node2dm_tw.stats import RouteStats, Stats

log = logger()

LF, BAR, BRACE = b"\n|{"
"""As numbers: to look for one in bytes costs an eighth of looking for bytes in bytes."""


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
        clock: monotonic seconds.
    """

    routes: Mapping[bytes, Route]
    default: Route
    stats: Stats
    clock: IReactorTime
    _last: float = attrs.field(default=0.0, init=False)
    _throttle: Throttle = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self._throttle = Throttle(log, self.clock)

    def datagram(self, datagram: bytes, source: str) -> None:
        """Queue every line of a datagram; what is faulty is counted, and the rest still counts."""
        self.datagrams([(datagram, source)])

    def datagrams(self, datagrams: Iterable[tuple[bytes, str]]) -> None:
        """Queue every line of datagrams that come together, each with the source it is from.

        Each queue gets what is for it at once. Whatever goes wrong with one, the others are taken.
        """
        received = self._moment()
        found: dict[Route, list[Push]] = {}
        try:
            for datagram, source in datagrams:
                for line in self._lines(datagram, source) if LF in datagram else (datagram,):
                    try:
                        route, push = self.read(line, received)
                    except InvalidPush as error:
                        self.refuse(error.reason, source, len(line))
                    except Exception:  # noqa: BLE001 - a fault of ours must cost no other push
                        log.failure("a line could not be read")
                    else:
                        found.setdefault(route, []).append(push)
        finally:
            for route, pushes in found.items():
                self._put(route, pushes)

    def _moment(self) -> float:
        """The time now, to a millisecond: pushes that come together share one float's memory."""
        now = self.clock.seconds()
        if now - self._last >= 0.001:
            self._last = now
        return self._last

    def read(self, line: bytes, received: float) -> tuple[Route, Push]:
        """Find the route of a line and the push in it.

        Raises:
            InvalidPush: with the reason.
        """
        if not line:
            raise InvalidPush("empty")
        route = self.default
        if line[0] == BRACE:
            name, push = read_json(line, received)
            if name is not None:
                route = self._route(name.encode("utf-8", "replace"))
        else:
            if BAR in line:
                colon, bar = line.find(b":"), line.find(b"|")
                if bar < colon:
                    route, line = self._route(line[:bar]), line[bar + 1 :]
            push = route.provider.split(line, received)
        route.provider.validate(push)
        return route, push

    def _lines(self, datagram: bytes, source: str) -> list[bytes]:
        lines = [line for line in datagram.split(b"\n") if line]
        if not lines:
            self.refuse("empty", source, len(datagram))
        return lines

    def _put(self, route: Route, pushes: list[Push]) -> None:
        route.stats.messages_received += len(pushes)
        try:
            route.queue.put(pushes)
        except Exception:  # noqa: BLE001 - nor may the queue of one route stop the others'
            log.failure("{route}: pushes could not be queued", route=route.name)

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
