"""Server-sent events: the open pages, each told as fast as it reads and no faster."""

import json
from collections.abc import Callable
from typing import Any

import attrs
from twisted.internet.interfaces import IPushProducer
from twisted.web.http import Request
from zope.interface import implementer

MOST_PAGES = 100
"""Pages that may be open at once; a further one is told to come later."""

PATIENCE = 30
"""Events that a page may miss, because it does not read, before it is let go."""


def event(name: str, values: Any) -> bytes:
    """Render an event."""
    return f"event: {name}\ndata: {json.dumps(values, separators=(',', ':'))}\n\n".encode()


@implementer(IPushProducer)
@attrs.define(eq=False)
class _Page:
    """One open page. What it cannot take at once it misses: the next event says it all again."""

    request: Request
    is_reading: bool = True
    missed: int = 0

    def pauseProducing(self) -> None:
        self.is_reading = False

    def resumeProducing(self) -> None:
        self.is_reading = True
        self.missed = 0

    def stopProducing(self) -> None:
        self.is_reading = False

    def tell(self, text: bytes) -> None:
        """Write an event, or let go of a page that has not read for long."""
        if self.is_reading:
            self.request.write(text)
            return
        self.missed += 1
        if self.missed > PATIENCE:
            transport: Any = self.request.transport
            transport.abortConnection()


@attrs.define(eq=False)
class Pages:
    """The open pages.

    Args:
        first: what a page is told when it opens.
    """

    first: Callable[[], bytes]
    _open: dict[Request, _Page] = attrs.field(factory=dict, init=False)

    def __len__(self) -> int:
        return len(self._open)

    @property
    def is_full(self) -> bool:
        """Whether no further page may open."""
        return len(self._open) >= MOST_PAGES

    def open(self, request: Request) -> None:
        """Begin to tell a page, until it is closed."""
        page = self._open[request] = _Page(request)
        request.notifyFinish().addBoth(lambda _: self._open.pop(request, None))
        request.setHeader(b"Content-Type", b"text/event-stream")
        request.setHeader(b"X-Accel-Buffering", b"no")
        request.registerProducer(page, True)
        page.tell(b"retry: 2000\n\n" + self.first())

    def tell(self, text: bytes) -> None:
        """Tell every page an event."""
        for page in list(self._open.values()):
            page.tell(text)

    def close(self) -> None:
        """Let every page go."""
        for page in list(self._open.values()):
            page.request.unregisterProducer()
            page.request.loseConnection()
