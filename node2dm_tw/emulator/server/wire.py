"""HTTP/1.1 for the emulator: bytes to calls, answers and events to bytes."""

# mypy: allow-untyped-calls

import io
import json
from collections.abc import Callable
from typing import Any
from urllib.parse import unquote

from twisted.internet import protocol
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import (
    IAddress,
    IDelayedCall,
    IProtocolNegotiationFactory,
    IPushProducer,
    IReactorTime,
)
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web import http
from zope.interface import implementer

from node2dm_tw.emulator.google.emulator import GoogleEmulator
from node2dm_tw.emulator.google.messages import (
    Event,
    IncomingRequest,
    Outcome,
    Reply,
    Stream,
    Unregistered,
    event_fields,
    json_answer,
)
from node2dm_tw.emulator.google.registrations import Registration

MOST_BODY = 1024 * 1024
"""Bytes of a request's body; more is answered with 413."""

_IDLE_LIMIT = 180
"""Seconds after which a connection without a request is closed, as Google does it."""

_KEEP_ALIVE = 30.0
"""Seconds between the comments on a quiet event stream."""

_GRACE = 0.5
"""Seconds a connection has for a clean end when the emulator stops."""

_log = Logger()


class EmulatorRequest(http.Request):
    """One request, answered by `GoogleEmulator` without the detour of a resource tree."""

    channel: "EmulatorChannel"
    content: io.BytesIO
    _size = 0
    _later: IDelayedCall | None = None

    def gotLength(self, length: int | None) -> None:
        self.content = io.BytesIO()

    def handleContentChunk(self, data: bytes) -> None:
        self._size += len(data)
        if self._size <= MOST_BODY:
            self.content.write(data)

    def requestReceived(self, command: bytes, path: bytes, version: bytes) -> None:
        self.method, self.uri, self.clientproto = command, path, version
        factory = self.channel.factory
        if self._size > MOST_BODY:
            self._give(Outcome(json_answer(413, {"error": f"more than {MOST_BODY} bytes"})))
            return
        location, _, query = path.partition(b"?")
        headers = {
            name.lower(): values[-1] for name, values in self.requestHeaders.getAllRawHeaders()
        }
        call = IncomingRequest(
            command.decode("latin-1"),
            unquote(location.decode("latin-1"), errors="replace"),
            query,
            headers,
            self.content.getvalue(),
        )
        outcome = self._outcome(call)
        if outcome.delay:
            self._later = factory.clock.callLater(outcome.delay, self._give, outcome)
        else:
            self._give(outcome)

    def connectionLost(self, reason: Failure) -> None:
        if self._later is not None and self._later.active():
            self._later.cancel()
        super().connectionLost(reason)

    def _outcome(self, call: IncomingRequest) -> Outcome:
        factory = self.channel.factory
        try:
            return factory.google.answer(call, factory.wall())
        except Exception:  # noqa: BLE001
            # A fault of ours must show in the log and not in a connection that hangs.
            _log.failure("no answer to {call}", call=call)
            return Outcome(Reply(500, b"the emulator failed; its log says why\n"))

    def _give(self, outcome: Outcome) -> None:
        answer = outcome.answer
        if outcome.cut:
            self._cut(outcome)
        elif isinstance(answer, Stream):
            self._give_stream(answer)
        else:
            self._head(answer)
            self.write(answer.body)
            self.finish()

    def _head(self, answer: Reply) -> None:
        self.setResponseCode(answer.status)
        headers = self.responseHeaders
        for name, value in answer.headers:
            headers.addRawHeader(name, value)
        headers.setRawHeaders(b"Content-Type", [answer.content_type])
        if answer.status not in http.NO_BODY_CODES:
            headers.setRawHeaders(b"Content-Length", [b"%d" % len(answer.body)])

    def _cut(self, outcome: Outcome) -> None:
        """Break the connection at the point that was asked for."""
        answer = outcome.answer
        if isinstance(answer, Stream) or outcome.cut in ("request", "answer"):
            self.channel.transport.abortConnection()
            return
        if outcome.cut == "headers":
            self.channel.transport.write(b"HTTP/1.1 %d\r\n" % answer.status)
        else:
            self._head(answer)
            self.write(answer.body[: len(answer.body) // 2])
        self.channel.loseConnection()

    def _give_stream(self, stream: Stream) -> None:
        google = self.channel.factory.google
        phone = google.phones.reach(stream.registration_id)
        if phone is None:
            # It was unregistered while the answer was held back.
            self._give(Outcome(Reply(404)))
            return
        self.setResponseCode(200)
        self.responseHeaders.setRawHeaders(b"Content-Type", [b"text/event-stream"])
        self.responseHeaders.setRawHeaders(b"Cache-Control", [b"no-store"])
        self.write(b": connected\n\n")
        EventStream(self, phone, self.channel.factory)


@implementer(IPushProducer)
class EventStream:
    """A connected phone: it is online as long as it reads what it is sent."""

    def __init__(
        self, request: EmulatorRequest, phone: Registration, factory: "EmulatorFactory"
    ) -> None:
        """Connect the phone, in the place of a stream it had before."""
        self._request = request
        self._phone = phone
        self._factory = factory
        self._open = True
        former = factory.streams.pop(phone, None)
        if former is not None:
            former.stop()
        factory.streams[phone] = self
        request.notifyFinish().addBoth(self._lost)
        request.registerProducer(self, True)
        self.resumeProducing()

    def stop(self) -> None:
        """End the stream."""
        if self._open:
            self._close()
            self._request.unregisterProducer()
            self._request.finish()

    def remind(self) -> None:
        """Write a comment, so that a dead connection is noticed."""
        self._request.write(b": keep-alive\n\n")

    def pauseProducing(self) -> None:
        self._factory.google.phones.disconnect(self._phone)

    def resumeProducing(self) -> None:
        factory = self._factory
        if self._open:
            factory.google.phones.connect(self._phone, self._show, factory.wall())

    def stopProducing(self) -> None:
        self._close()

    def _show(self, event: Event) -> None:
        name, fields = event_fields(event)
        self._request.write(f"event: {name}\ndata: {json.dumps(fields)}\n\n".encode())
        if isinstance(event, Unregistered):
            self._factory.clock.callLater(0, self.stop)

    def _lost(self, _: object) -> None:
        self._close()

    def _close(self) -> None:
        if not self._open:
            return
        self._open = False
        if self._factory.streams.get(self._phone) is self:
            del self._factory.streams[self._phone]
            self._factory.google.phones.disconnect(self._phone)


class EmulatorChannel(http.HTTPChannel):
    """One connection."""

    requestFactory = EmulatorRequest
    factory: "EmulatorFactory"
    transport: Any

    def connectionMade(self) -> None:
        self.factory.channels.add(self)
        super().connectionMade()

    def connectionLost(self, reason: Failure = protocol.connectionDone) -> None:
        super().connectionLost(reason)
        self.factory.lost(self)


@implementer(IProtocolNegotiationFactory)
class EmulatorFactory(protocol.Factory[EmulatorChannel]):
    """The connections of one emulator."""

    noisy = False

    def __init__(
        self, clock: IReactorTime, google: GoogleEmulator, wall: Callable[[], float]
    ) -> None:
        """Keep what the connections share."""
        self.clock = clock
        self.google = google
        self.wall = wall
        self.channels: set[EmulatorChannel] = set()
        self.streams: dict[Registration, EventStream] = {}
        self._empty: Deferred[None] | None = None
        self._reminder: IDelayedCall | None = None

    def startFactory(self) -> None:
        self._remind()

    def stopFactory(self) -> None:
        if self._reminder is not None:
            self._reminder.cancel()
            self._reminder = None

    def buildProtocol(self, addr: IAddress | None) -> EmulatorChannel:
        channel = EmulatorChannel()
        channel.factory = self
        channel.timeOut = _IDLE_LIMIT
        channel.callLater = self.clock.callLater  # type: ignore[method-assign, assignment]
        return channel

    def acceptableProtocols(self) -> list[bytes]:
        return [b"http/1.1"]

    def log(self, request: http.Request) -> None:
        """Write no access log: there is `RequestLog`."""

    def lost(self, channel: EmulatorChannel) -> None:
        """Forget a connection."""
        self.channels.discard(channel)
        if self._empty is not None and not self.channels:
            empty, self._empty = self._empty, None
            empty.callback(None)

    def close(self) -> Deferred[None]:
        """Close every connection; fires when they are gone."""
        gone: Deferred[None] = Deferred()
        if not self.channels:
            gone.callback(None)
            return gone
        self._empty = gone
        for stream in list(self.streams.values()):
            stream.stop()
        for channel in list(self.channels):
            channel.loseConnection()
        abort = self.clock.callLater(_GRACE, self._abort)
        return gone.addCallback(lambda _: abort.cancel() if abort.active() else None)

    def _abort(self) -> None:
        for channel in list(self.channels):
            channel.transport.abortConnection()

    def _remind(self) -> None:
        for stream in list(self.streams.values()):
            stream.remind()
        self._reminder = self.clock.callLater(_KEEP_ALIVE, self._remind)
