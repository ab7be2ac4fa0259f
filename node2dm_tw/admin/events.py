"""Server-sent events: open streams, each sent as much as its client reads and no more."""

import json
from collections.abc import Callable
from typing import Any

import attrs
from twisted.internet.interfaces import IPushProducer
from twisted.web.http import Request
from zope.interface import implementer

MAX_STREAMS = 100
"""Streams that are open at once; for a further one, that whose client has read least is closed."""

MAX_SKIPPED = 30
"""Events in a row that a stream may skip, since its client does not read, before it is closed."""


def event(name: str, values: Any) -> bytes:
    """Render an event."""
    return f"event: {name}\ndata: {json.dumps(values, separators=(',', ':'))}\n\n".encode()


@implementer(IPushProducer)
@attrs.define(eq=False)
class _Stream:
    """One open stream. It skips what it cannot send at once: the next event says it all again.

    Args:
        request: was answered with this stream.
        connection: of that request, a `WebConnection`.
    """

    request: Request
    connection: Any
    is_writable: bool = True
    skipped: int = 0
    _widest: int = 0
    _last_bytes: int = 0

    def pauseProducing(self) -> None:
        self.is_writable = False

    def resumeProducing(self) -> None:
        self.is_writable = True
        self.skipped = 0

    def stopProducing(self) -> None:
        self.is_writable = False

    def send(self, text: bytes) -> None:
        """Write an event, or close a stream whose client has not read for long."""
        self._widest = max(self._widest, self.connection.peer_window)
        if self.is_writable:
            self._last_bytes = len(text)
            self.request.write(text)
            self.connection.mark_served()
            return
        self.skipped += 1
        if self.skipped > MAX_SKIPPED:
            self.connection.abortConnection()

    @property
    def unread(self) -> tuple[int, int]:
        """Events skipped, and bytes that the client has not read; for comparison.

        A client that reads nothing makes events be skipped at last. Before that its kernel takes
        them and says how much more it would take; two events may be on their way to a client.
        """
        taken = self._widest - self.connection.peer_window
        return self.skipped, max(0, taken - 2 * self._last_bytes)


@attrs.define(eq=False)
class EventStreams:
    """The open streams.

    Args:
        first: gives what a stream begins with.
    """

    first: Callable[[], bytes]
    _open: dict[Request, _Stream] = attrs.field(factory=dict, init=False)

    def __len__(self) -> int:
        return len(self._open)

    def open(self, request: Request) -> None:
        """Answer a request with a stream, until its client goes or another one needs the place."""
        request.setHeader(b"Content-Type", b"text/event-stream")
        request.setHeader(b"X-Accel-Buffering", b"no")
        if request.method == b"HEAD":
            request.finish()
            return
        text = b"retry: 2000\n\n" + self.first()
        if len(self) >= MAX_STREAMS:
            # Of several alike the newest: the others have been read for longer.
            slowest = max(reversed(self._open.values()), key=lambda stream: stream.unread)
            del self._open[slowest.request]
            slowest.connection.abortConnection()
        channel: Any = request.channel
        stream = self._open[request] = _Stream(request, channel.transport)
        request.notifyFinish().addBoth(lambda _: self._open.pop(request, None))
        request.registerProducer(stream, True)
        stream.connection.start_stream()
        stream.send(text)

    def send(self, text: bytes) -> None:
        """Send an event to every stream."""
        for stream in list(self._open.values()):
            stream.send(text)

    def close(self) -> None:
        """Close every stream."""
        for stream in list(self._open.values()):
            stream.request.unregisterProducer()
            stream.request.loseConnection()
