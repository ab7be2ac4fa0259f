"""An asyncio server on 127.0.0.1, in a thread of its own."""

import asyncio
import socket
import threading
from collections.abc import Callable, Coroutine
from typing import Any
from weakref import WeakSet

import attrs

Serve = Callable[[socket.socket], Coroutine[Any, Any, asyncio.Server]]


class _Loop(asyncio.SelectorEventLoop):
    """A loop that knows its connections from the moment at which they are accepted."""

    def __init__(self) -> None:
        super().__init__()
        self.accepted: WeakSet[asyncio.Transport] = WeakSet()

    def _make_socket_transport(self, *args: Any, **options: Any) -> Any:
        transport = super()._make_socket_transport(*args, **options)  # type: ignore[misc]
        self.accepted.add(transport)
        return transport


@attrs.define(eq=False)
class ThreadServer:
    """Runs an event loop with one listening socket, from `start` to `stop`.

    Args:
        serve: makes the server of the listening socket.
        port: 0 lets the system choose; after `start` it is the actual one.

    Attributes:
        transports: `serve` adds each connection; `stop` aborts those that are left.
    """

    _serve: Serve
    port: int = 0
    loop: _Loop = attrs.field(factory=_Loop, init=False)
    transports: WeakSet[asyncio.WriteTransport] = attrs.field(factory=WeakSet, init=False)
    _thread: threading.Thread = attrs.field(init=False)

    def start(self) -> None:
        """Listen; may be called once."""
        listener = socket.create_server(("127.0.0.1", self.port), backlog=512)
        self.port = listener.getsockname()[1]
        ready = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(listener, ready))
        self._thread.start()
        ready.wait(60)

    def stop(self) -> None:
        """Close the listening socket and every connection, unless that is done already."""
        if not self.loop.is_closed():
            self.loop.call_soon_threadsafe(self.loop.stop)
            self._thread.join(60)

    def _run(self, listener: socket.socket, ready: threading.Event) -> None:
        asyncio.set_event_loop(self.loop)
        server = self.loop.run_until_complete(self._serve(listener))
        self.loop.call_soon(ready.set)
        self.loop.run_forever()
        server.close()
        # What was accepted last is served only some turns later, and then known here.
        for _ in range(10):
            self.loop.run_until_complete(_turns(3))
            for transport in {*self.transports, *self.loop.accepted}:
                transport.abort()
        tasks = asyncio.all_tasks(self.loop)
        for task in tasks:
            task.cancel()
        # The turns are those in which the aborted transports close.
        self.loop.run_until_complete(asyncio.gather(_turns(5), *tasks, return_exceptions=True))
        self.loop.close()


async def _turns(count: int) -> None:
    """Let the loop do what is ready, and what that makes ready."""
    for _ in range(count):
        await asyncio.sleep(0)
