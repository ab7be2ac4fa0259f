"""Bytes to pushes on the queue of their route; the same for every way they come in."""

import re
from collections.abc import Iterable, Mapping

import attrs
from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure

from node2dm_tw.core.logs import Throttle, logger, shorten
from node2dm_tw.core.push import InvalidPush, Push, read_json
from node2dm_tw.core.stats import RouteStats, Stats
from node2dm_tw.providers.interface import Provider
from node2dm_tw.queues.interface import PushQueue

log = logger()

LF, BAR = b"\n|"
"""As numbers: to look for one in bytes costs an eighth of looking for bytes in bytes."""

_BLANKS = re.compile(rb"\A(?:[ \t\r\v\f]|\xef\xbb\xbf)+")
"""Blanks and byte-order marks."""

_BEGINS_JSON = b"{ \t\r\v\f\xef"
"""The first bytes of JSON objects, and of what may stand before one."""

_JSON_VALUE = re.compile(
    rb"""\[.*\] | "(?:[^"\\]|\\.)*" | true | false | null | -?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?""",
    re.DOTALL | re.VERBOSE,
)
"""What JSON knows beside objects."""

_PARTS_OF_JSON = (b"{", b"}", b"[", b"]", b",", b'"')
"""How the lines of a JSON object begin that fills several."""

_HTTP = re.compile(
    rb"""
    [^\s:]+[ ] (?: .*[ ] )? (?:HTTP|RTSP|SIP) / \d (?:\.\d)?    # a request: METHOD TARGET HTTP/1.1
    | (?:HTTP|RTSP|SIP) / \d (?:\.\d)? [ ] \d{3} (?:[ ].*)?     # a response: HTTP/1.1 200 OK
    """,
    re.VERBOSE,
)
"""First lines of HTTP and its kin. A push is never like that: a colon precedes its first blank."""

MAX_NAMES = 200
"""Characters of the routes' names in a log line."""

Source = tuple[str, int] | tuple[str, int, int, int]
"""An address as sockets give it: host, port, and for IPv6 flow and scope."""


@attrs.frozen(eq=False)
class IntakeRoute:
    """Where the pushes of one application go."""

    name: str
    provider: Provider
    queue: PushQueue
    stats: RouteStats


@attrs.define(eq=False)
class LineParser:
    """Reads lines and queues what they hold.

    Args:
        routes: by the names and prefixes a line may give.
        default: for lines that name none.
        stats: counts what is invalid.
        clock: monotonic seconds.
    """

    routes: Mapping[bytes, IntakeRoute]
    default: IntakeRoute
    stats: Stats
    clock: IReactorTime
    _is_tracing: bool = attrs.field(default=False, init=False)
    _last: float = attrs.field(default=0.0, init=False)
    _throttle: Throttle = attrs.field(init=False)
    _puts: set[Deferred[None]] = attrs.field(factory=set, init=False)

    def __attrs_post_init__(self) -> None:
        self._throttle = Throttle(log, self.clock)

    def trace_pushes(self, is_on: bool) -> None:
        """Log each push that is taken in, or do not."""
        self._is_tracing = is_on

    def datagram(self, datagram: bytes, source: Source) -> None:
        """Queue every line of a datagram; what is faulty is counted, and the rest still counts."""
        self.datagrams([(datagram, source)])

    def datagrams(self, datagrams: Iterable[tuple[bytes, Source]]) -> None:
        """Queue every line of datagrams that come together, each with the source it is from.

        Each queue gets what is for it at once. Whatever goes wrong with one, the others are taken.
        """
        received = self._moment()
        found: dict[IntakeRoute, list[Push]] = {}
        latest, pushes = None, []
        try:
            for datagram, source in datagrams:
                lines = _split(datagram) if LF in datagram else (datagram,)
                for line in lines:
                    try:
                        route, push = self.read(line, received)
                    except InvalidPush as error:
                        if line is lines[0] and _is_http(line):
                            self.refuse(InvalidPush("http"), source, len(datagram))
                            break
                        self.refuse(error, source, len(line))
                    except Exception:  # noqa: BLE001 - a fault of ours must cost no other push
                        log.failure("a line could not be read")
                    else:
                        if route is not latest:
                            latest, pushes = route, found.setdefault(route, [])
                        pushes.append(push)
        finally:
            for route, pushes in found.items():
                self._put(route, pushes)

    def _moment(self) -> float:
        """The time now, to a millisecond: pushes that come together share one float's memory."""
        now = self.clock.seconds()
        if now - self._last >= 0.001:
            self._last = now
        return self._last

    def read(self, line: bytes, received: float) -> tuple[IntakeRoute, Push]:
        """Find the route of a line and the push in it.

        Raises:
            InvalidPush: with the reason.
        """
        line = line.rstrip(b"\r\n\0")
        if not line:
            raise InvalidPush("empty")
        route = self.default
        if line[0] in _BEGINS_JSON and (text := _skip_blanks(line)).startswith(b"{"):
            name, push = read_json(text, received)
            if name is not None:
                route = self._route(name.encode("utf-8", "replace"))
        else:
            if BAR in line:
                colon, bar = line.find(b":"), line.find(b"|")
                if bar < colon:
                    route, line = self._route(line[:bar]), line[bar + 1 :]
            try:
                push = route.provider.split(line, received)
            except InvalidPush as error:
                raise _explain(line, error) from None
        route.provider.validate(push)
        return route, push

    def _put(self, route: IntakeRoute, pushes: list[Push]) -> None:
        route.stats.messages_received += len(pushes)
        if self._is_tracing:
            for push in pushes:
                log.debug(
                    "{route}: push to {target} taken", route=route.name, target=shorten(push.device)
                )
        try:
            kept = route.queue.put(pushes)
        except Exception:  # noqa: BLE001 - nor may the queue of one route stop the others'
            log.failure("{route}: pushes could not be queued", route=route.name)
        else:
            if kept is not None:
                self._puts.add(kept)
                kept.addErrback(_log_failed_put, route)
                kept.addCallback(lambda _: self._puts.discard(kept))

    def wait_for_puts(self) -> Deferred[None] | None:
        """Fire when the queues keep every push read so far; None: they do."""
        if not self._puts:
            return None
        return DeferredList(list(self._puts)).addCallback(lambda _: None)

    def refuse(self, error: InvalidPush, source: Source, size: int) -> None:
        """Count `size` bytes from `source` that are not a push; log each reason once a second."""
        host, port = source[:2]
        address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        self.stats.count_invalid(error.reason, error.detail, address)
        self._throttle.warn(
            "invalid push from {source} ({size} bytes): {reason}: {detail}",
            key=error.reason,
            source=address,
            size=size,
            reason=error.reason,
            detail=error.detail,
        )

    def _route(self, name: bytes) -> IntakeRoute:
        route = self.routes.get(name)
        if route is None:
            known = b", ".join(self.routes).decode()
            raise InvalidPush("unknown_route", "route", f"one of {known[:MAX_NAMES]}")
        return route


def _log_failed_put(failure: Failure, route: IntakeRoute) -> None:
    log.failure("{route}: pushes could not be queued", failure, route=route.name)


def _split(datagram: bytes) -> list[bytes]:
    """Split a datagram into its lines, without empty ones; where all are empty it is one itself."""
    return [line for line in datagram.split(b"\n") if line.rstrip(b"\r\0")] or [datagram]


def _skip_blanks(line: bytes) -> bytes:
    """Take off what may stand before a JSON object: blanks and byte-order marks."""
    return _BLANKS.sub(b"", line, count=1)


def _is_http(line: bytes) -> bool:
    """Whether a datagram whose first line this is, which is no push, is of another protocol."""
    return _HTTP.fullmatch(line.rstrip(b"\r\0")) is not None


def _explain(line: bytes, error: InvalidPush) -> InvalidPush:
    """Say of a line that is JSON, or a part of it, that it is no JSON object; else as it was."""
    text = _skip_blanks(line).rstrip()
    is_part = error.reason == "colons" and text.startswith(_PARTS_OF_JSON)
    return InvalidPush("json") if is_part or _JSON_VALUE.fullmatch(text) else error
