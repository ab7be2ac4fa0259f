"""Parses lines into pushes and queues them, independent of the transport."""

import re
from collections.abc import Iterable, Mapping, Sequence

import attrs
from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure

from node2dm_tw.core.json_form import check_fields, decode_json, make_push, split_targets
from node2dm_tw.core.logs import Throttle, logger, shorten
from node2dm_tw.core.push import InvalidPush, Push
from node2dm_tw.core.stats import RouteStats, Stats
from node2dm_tw.intake.signatures import skip_signature
from node2dm_tw.providers.interface import Provider
from node2dm_tw.queues.interface import PushQueue

log = logger()

LF, BAR = b"\n|"
"""As numbers: searching bytes for a number costs an eighth of searching for bytes."""

_BLANKS = re.compile(rb"\A(?:[ \t\r\v\f]|\xef\xbb\xbf)+")
"""Blanks and byte-order marks."""

_BEGINS_JSON = b"{ \t\r\v\f\xef"
"""The first bytes of JSON objects, and of blanks and byte-order marks before one."""

_JSON_VALUE = re.compile(
    rb"""\[.*\] | "(?:[^"\\]|\\.)*" | true | false | null | -?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?""",
    re.DOTALL | re.VERBOSE,
)
"""JSON values other than objects."""

_PARTS_OF_JSON = (b"{", b"}", b"[", b"]", b",", b'"')
"""How the lines of a JSON object on several lines begin."""

_HTTP = re.compile(
    rb"""
    [^\s:]+[ ] (?: .*[ ] )? (?:HTTP|RTSP|SIP) / \d (?:\.\d)?    # a request: METHOD TARGET HTTP/1.1
    | (?:HTTP|RTSP|SIP) / \d (?:\.\d)? [ ] \d{3} (?:[ ].*)?     # a response: HTTP/1.1 200 OK
    """,
    re.VERBOSE,
)
"""First lines of HTTP, RTSP and SIP. In a push a colon precedes the first blank."""

MAX_NAMES = 200
"""Maximum number of characters of the routes' names in a log line."""

Source = tuple[str, int] | tuple[str, int, int, int]
"""An address as sockets return it: host, port, and for IPv6 flow and scope."""


@attrs.frozen(eq=False)
class IntakeRoute:
    """A route, as the intake needs it."""

    name: str
    provider: Provider
    queue: PushQueue
    stats: RouteStats


@attrs.define(eq=False)
class LineParser:
    """Parses lines, and queues their pushes.

    Args:
        routes: the routes by name and prefix.
        default: the route of lines that name none.
        stats: counts invalid lines.
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
        """Turn the logging of each push on or off."""
        self._is_tracing = is_on

    def datagram(self, datagram: bytes, source: Source) -> None:
        """Queue the pushes of a datagram; invalid lines are counted, and the others are read."""
        self.datagrams([(datagram, source)])

    def datagrams(self, datagrams: Iterable[tuple[bytes, Source]]) -> None:
        """Queue the pushes of datagrams that arrived together, each with its source.

        Each queue gets its pushes in one call. An error in one line does not affect the others.
        """
        received = self.now()
        found: dict[IntakeRoute, list[Push]] = {}
        latest, pushes = None, []
        try:
            for datagram, source in datagrams:
                lines = _split(datagram) if LF in datagram else (datagram,)
                for line in lines:
                    try:
                        route, read = self.read(line, received)
                    except InvalidPush as error:
                        if line is lines[0] and _is_http(line):
                            self.reject(InvalidPush("http"), source, len(datagram))
                            break
                        self.reject(error, source, len(line))
                    except Exception:  # noqa: BLE001 - an internal error must not lose other pushes
                        log.failure("a line could not be read")
                    else:
                        if route is not latest:
                            latest, pushes = route, found.setdefault(route, [])
                        pushes += read
        finally:
            for route, pushes in found.items():
                self._put(route, pushes)

    def now(self) -> float:
        """Return the time in milliseconds, so that pushes that arrive together share one float."""
        now = self.clock.seconds()
        if now - self._last >= 0.001:
            self._last = now
        return self._last

    def read(self, line: bytes, received: float) -> tuple[IntakeRoute, Sequence[Push]]:
        """Find the route of a line and the pushes in it: more than one if it has many targets.

        Raises:
            InvalidPush: with the reason.
        """
        line = line.rstrip(b"\r\n\0")
        if not line:
            raise InvalidPush("empty")
        route = self.default
        if line[0] in _BEGINS_JSON and (text := _skip_blanks(line)).startswith(b"{"):
            return self.read_object(decode_json(text), received)
        if BAR in line:
            colon, bar = line.find(b":"), line.find(b"|")
            if bar < colon:
                route, line = self.find_route(line[:bar]), line[bar + 1 :]
        try:
            push = route.provider.split(line, received)
        except InvalidPush as error:
            raise _explain(line, error) from None
        route.provider.validate(push)
        return route, (push,)

    def read_object(self, found: object, received: float) -> tuple[IntakeRoute, list[Push]]:
        """Find the route of a decoded object and the pushes in it.

        Raises:
            InvalidPush: with the reason.
        """
        if not isinstance(found, dict):
            raise InvalidPush("json")
        fields = check_fields(found)
        name = fields.pop("route", None)
        route = self.default
        if name is not None:
            route = self.find_route(name.encode("utf-8", "replace"))
        pushes = []
        for each in split_targets(fields):
            push = make_push(each, received)
            route.provider.validate(push, each)
            pushes.append(push)
        return route, pushes

    def _put(self, route: IntakeRoute, pushes: list[Push]) -> None:
        self.trace(route, pushes)
        try:
            kept = route.queue.put(pushes)
        except Exception:  # noqa: BLE001 - a failing queue must not affect the other routes
            log.failure("{route}: pushes could not be queued", route=route.name)
        else:
            if kept is None:
                route.stats.messages_received += len(pushes)
            else:
                self._wait_for(kept, route, len(pushes))

    def trace(self, route: IntakeRoute, pushes: list[Push]) -> None:
        """Log each push, where the level is debug."""
        if self._is_tracing:
            for push in pushes:
                log.debug(
                    "{route}: push to {target} queued",
                    route=route.name,
                    target=shorten(push.device),
                )

    def _wait_for(self, kept: Deferred[None], route: IntakeRoute, count: int) -> None:
        """Count pushes as received once they are stored."""

        def on_stored(_: None) -> None:
            route.stats.messages_received += count

        self._puts.add(kept)
        kept.addCallbacks(on_stored, _log_failed_put, errbackArgs=(route,))
        kept.addBoth(lambda _: self._puts.discard(kept))

    def wait_for_puts(self) -> Deferred[None] | None:
        """Fire when the queues have stored all pushes; None: they have already."""
        if not self._puts:
            return None
        return DeferredList(list(self._puts)).addCallback(lambda _: None)

    def reject(self, error: InvalidPush, source: Source, size: int) -> None:
        """Count an invalid line of `size` bytes from `source`; log each reason once a second."""
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

    def find_route(self, name: bytes) -> IntakeRoute:
        """Return the route with this name or prefix. Raises InvalidPush: there is none."""
        route = self.routes.get(name)
        if route is None:
            known = b", ".join(self.routes).decode()
            raise InvalidPush("unknown_route", "route", f"one of {known[:MAX_NAMES]}")
        return route


def _log_failed_put(failure: Failure, route: IntakeRoute) -> None:
    log.failure("{route}: pushes could not be queued", failure, route=route.name)


def _split(datagram: bytes) -> list[bytes]:
    """Split a datagram into its lines, without empty ones and the signature.

    If all are empty, return the datagram whole.
    """
    datagram = skip_signature(datagram)
    return [line for line in datagram.split(b"\n") if line.rstrip(b"\r\0")] or [datagram]


def _skip_blanks(line: bytes) -> bytes:
    """Remove blanks and byte-order marks before a JSON object."""
    return _BLANKS.sub(b"", line, count=1)


def _is_http(line: bytes) -> bool:
    """Whether an invalid first line of a datagram belongs to HTTP, RTSP or SIP."""
    return _HTTP.fullmatch(line.rstrip(b"\r\0")) is not None


def _explain(line: bytes, error: InvalidPush) -> InvalidPush:
    """Return the error `json` for a line that is JSON or a part of it, otherwise `error`."""
    text = _skip_blanks(line).rstrip()
    is_part = error.reason == "colons" and text.startswith(_PARTS_OF_JSON)
    return InvalidPush("json") if is_part or _JSON_VALUE.fullmatch(text) else error
