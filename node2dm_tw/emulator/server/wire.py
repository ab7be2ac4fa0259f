"""HTTP/1.1 for the emulator: parses requests, writes replies and event streams."""

# mypy: allow-untyped-calls

import io
import json
from collections.abc import Callable
from urllib.parse import unquote

from twisted.internet import protocol
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import (
    IAddress,
    IDelayedCall,
    IProtocolNegotiationFactory,
    IPushProducer,
    IReactorTime,
    ITCPTransport,
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
    json_reply,
)
from node2dm_tw.emulator.google.registrations import Registration

MAX_BODY_BYTES = 1024 * 1024
"""Limit of a request's body; a longer one gets a 413."""

_IDLE_SECONDS = 180
"""Seconds after which an idle connection is closed, as Google does."""

_KEEP_ALIVE_SECONDS = 30.0
"""Seconds between the comments on an event stream."""

_CLOSE_SECONDS = 0.5
"""Seconds that connections get for a clean close when the emulator stops."""

_log = Logger()


class EmulatorRequest(http.Request):
    """One request, answered by `GoogleEmulator` without a resource tree."""

    channel: "EmulatorChannel"
    content: io.BytesIO
    _size = 0
    _delayed: IDelayedCall | None = None

    def gotLength(self, length: int | None) -> None:
        self.content = io.BytesIO()

    def handleContentChunk(self, data: bytes) -> None:
        self._size += len(data)
        if self._size <= MAX_BODY_BYTES:
            self.content.write(data)

    def requestReceived(self, command: bytes, path: bytes, version: bytes) -> None:
        self.method, self.uri, self.clientproto = command, path, version
        factory = self.channel.factory
        if self._size > MAX_BODY_BYTES:
            self._send_reply(
                Outcome(json_reply(413, {"error": f"more than {MAX_BODY_BYTES} bytes"}))
            )
            return
        location, _, query = path.partition(b"?")
        headers = {
            name.lower(): values[-1] for name, values in self.requestHeaders.getAllRawHeaders()
        }
        incoming = IncomingRequest(
            command.decode("latin-1"),
            unquote(location.decode("latin-1"), errors="replace"),
            query,
            headers,
            self.content.getvalue(),
        )
        outcome = self._outcome(incoming)
        if outcome.delay:
            self._delayed = factory.clock.callLater(outcome.delay, self._send_reply, outcome)
        else:
            self._send_reply(outcome)

    def connectionLost(self, reason: Failure) -> None:
        if self._delayed is not None and self._delayed.active():
            self._delayed.cancel()
        super().connectionLost(reason)

    def _outcome(self, incoming: IncomingRequest) -> Outcome:
        factory = self.channel.factory
        try:
            return factory.google.answer(incoming, factory.wall())
        except Exception:  # noqa: BLE001
            # A bug must not leave the connection open without an answer.
            _log.failure("no answer to {request}", request=incoming)
            return Outcome(Reply(500, b"the emulator failed; its log says why\n"))

    def _send_reply(self, outcome: Outcome) -> None:
        reply = outcome.reply
        if outcome.cut:
            self._break_connection(outcome)
        elif isinstance(reply, Stream):
            self._send_stream(reply)
        else:
            self._write_headers(reply)
            self.write(reply.body)
            self.finish()

    def _write_headers(self, reply: Reply) -> None:
        self.setResponseCode(reply.status)
        headers = self.responseHeaders
        for name, value in reply.headers:
            headers.addRawHeader(name, value)
        headers.setRawHeaders(b"Content-Type", [reply.content_type])
        if reply.status not in http.NO_BODY_CODES:
            headers.setRawHeaders(b"Content-Length", [b"%d" % len(reply.body)])

    def _break_connection(self, outcome: Outcome) -> None:
        """Close the connection at the point that the outcome names."""
        reply = outcome.reply
        if isinstance(reply, Stream) or outcome.cut in ("request", "answer"):
            self.channel.transport.abortConnection()
            return
        if outcome.cut == "headers":
            self.channel.transport.write(b"HTTP/1.1 %d\r\n" % reply.status)
        else:
            self._write_headers(reply)
            self.write(reply.body[: len(reply.body) // 2])
        self.channel.loseConnection()

    def _send_stream(self, stream: Stream) -> None:
        google = self.channel.factory.google
        registration = google.registrations.find_with_former(stream.registration_id)
        if registration is None:
            # It was unregistered while the reply was delayed.
            self._send_reply(Outcome(Reply(404)))
            return
        self.setResponseCode(200)
        self.responseHeaders.setRawHeaders(b"Content-Type", [b"text/event-stream"])
        self.responseHeaders.setRawHeaders(b"Cache-Control", [b"no-store"])
        self.write(b": connected\n\n")
        EventStream(self, registration, self.channel.factory)


@implementer(IPushProducer)
class EventStream:
    """The event stream of a connected phone, which is online while it reads."""

    def __init__(
        self, request: EmulatorRequest, registration: Registration, factory: "EmulatorFactory"
    ) -> None:
        """Connect the phone and end its previous stream."""
        self._request = request
        self._registration = registration
        self._factory = factory
        self._is_open = True
        former = factory.streams.pop(registration, None)
        if former is not None:
            former.stop()
        factory.streams[registration] = self
        request.notifyFinish().addBoth(self._on_lost)
        request.registerProducer(self, True)
        self.resumeProducing()

    def stop(self) -> None:
        """End the stream."""
        if self._is_open:
            self._close()
            self._request.unregisterProducer()
            self._request.finish()

    def send_keep_alive(self) -> None:
        """Write a comment, so that a dead connection is detected."""
        self._request.write(b": keep-alive\n\n")

    def pauseProducing(self) -> None:
        self._factory.google.registrations.disconnect(self._registration)

    def resumeProducing(self) -> None:
        factory = self._factory
        if self._is_open:
            factory.google.registrations.connect(
                self._registration, self._write_event, factory.wall()
            )

    def stopProducing(self) -> None:
        self._close()

    def _write_event(self, event: Event) -> None:
        name, fields = event_fields(event)
        self._request.write(f"event: {name}\ndata: {json.dumps(fields)}\n\n".encode())
        if isinstance(event, Unregistered):
            self._factory.clock.callLater(0, self.stop)

    def _on_lost(self, _: object) -> None:
        self._close()

    def _close(self) -> None:
        if not self._is_open:
            return
        self._is_open = False
        if self._factory.streams.get(self._registration) is self:
            del self._factory.streams[self._registration]
            self._factory.google.registrations.disconnect(self._registration)


class EmulatorChannel(http.HTTPChannel):
    """One connection to the emulator."""

    requestFactory = EmulatorRequest
    factory: "EmulatorFactory"
    transport: ITCPTransport

    def connectionMade(self) -> None:
        self.factory.channels.add(self)
        super().connectionMade()

    def connectionLost(self, reason: Failure = protocol.connectionDone) -> None:
        super().connectionLost(reason)
        self.factory.channel_lost(self)


@implementer(IProtocolNegotiationFactory)
class EmulatorFactory(protocol.Factory[EmulatorChannel]):
    """Makes and closes the connections of one emulator."""

    noisy = False

    def __init__(
        self, clock: IReactorTime, google: GoogleEmulator, wall: Callable[[], float]
    ) -> None:
        """Keep what all connections share."""
        self.clock = clock
        self.google = google
        self.wall = wall
        self.channels: set[EmulatorChannel] = set()
        self.streams: dict[Registration, EventStream] = {}
        self._empty: Deferred[None] | None = None
        self._keep_alive_call: IDelayedCall | None = None

    def startFactory(self) -> None:
        self._send_keep_alives()

    def stopFactory(self) -> None:
        if self._keep_alive_call is not None:
            self._keep_alive_call.cancel()
            self._keep_alive_call = None

    def buildProtocol(self, addr: IAddress | None) -> EmulatorChannel:
        channel = EmulatorChannel()
        channel.factory = self
        channel.timeOut = _IDLE_SECONDS
        channel.callLater = self.clock.callLater  # type: ignore[method-assign, assignment]
        return channel

    def acceptableProtocols(self) -> list[bytes]:
        return [b"http/1.1"]

    def log(self, request: http.Request) -> None:
        """Write no access log: there is `RequestLog`."""

    def channel_lost(self, channel: EmulatorChannel) -> None:
        """Forget a closed connection."""
        self.channels.discard(channel)
        if self._empty is not None and not self.channels:
            empty, self._empty = self._empty, None
            empty.callback(None)

    def close(self) -> Deferred[None]:
        """Close every connection; fires when all are closed."""
        closed: Deferred[None] = Deferred()
        if not self.channels:
            closed.callback(None)
            return closed
        self._empty = closed
        for stream in list(self.streams.values()):
            stream.stop()
        for channel in list(self.channels):
            channel.loseConnection()
        abort = self.clock.callLater(_CLOSE_SECONDS, self._abort)
        return closed.addCallback(lambda _: abort.cancel() if abort.active() else None)

    def _abort(self) -> None:
        for channel in list(self.channels):
            channel.transport.abortConnection()

    def _send_keep_alives(self) -> None:
        for stream in list(self.streams.values()):
            stream.send_keep_alive()
        self._keep_alive_call = self.clock.callLater(_KEEP_ALIVE_SECONDS, self._send_keep_alives)
