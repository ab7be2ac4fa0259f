"""Carries TCP connections to a port, in a thread of its own, and can make them silent."""

import asyncio
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import attrs


@attrs.define(eq=False)
class Relay:
    """Listens on `port` and connects to `target`, both on 127.0.0.1.

    Args:
        target: the port to connect to.
        delay: seconds before the first byte of a connection goes on.
    """

    target: int
    delay: float = 0.0
    port: int = 0
    accepted: int = 0
    _frozen: set[asyncio.StreamWriter] = attrs.field(factory=set)
    _writers: set[asyncio.StreamWriter] = attrs.field(factory=set)
    _loop: asyncio.AbstractEventLoop = attrs.field(factory=asyncio.new_event_loop)
    _thread: threading.Thread | None = None

    def start(self) -> "Relay":
        listener = socket.create_server(("127.0.0.1", 0), backlog=512)
        self.port = listener.getsockname()[1]
        self._thread = threading.Thread(target=self._run, args=(listener,))
        self._thread.start()
        return self

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        assert self._thread is not None
        self._thread.join(10)

    def freeze(self) -> None:
        """Make the connections that are there now silent: nothing is closed, nothing goes on."""
        self._loop.call_soon_threadsafe(lambda: self._frozen.update(self._writers))

    def _run(self, listener: socket.socket) -> None:
        asyncio.set_event_loop(self._loop)
        server = self._loop.run_until_complete(asyncio.start_server(self._carry, sock=listener))
        self._loop.run_forever()
        server.close()
        for writer in self._writers:
            writer.transport.abort()
        tasks = asyncio.all_tasks(self._loop)
        for task in tasks:
            task.cancel()
        self._loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
        self._loop.close()

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        await asyncio.sleep(self.delay)
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self.target)
        self._writers |= {writer, far_writer}
        with suppress(asyncio.CancelledError):  # At the end; asyncio would print it.
            await asyncio.gather(self._copy(reader, far_writer), self._copy(far_reader, writer))

    async def _copy(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            while data := await reader.read(65_536):
                if writer in self._frozen:
                    await asyncio.Event().wait()
                writer.write(data)
                await writer.drain()
        if writer not in self._frozen:
            writer.close()


@contextmanager
def relay(target: int, delay: float = 0.0) -> Iterator[Relay]:
    """A relay to `target` until the context ends."""
    made = Relay(target, delay).start()
    try:
        yield made
    finally:
        made.stop()
