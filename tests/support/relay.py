"""Carries TCP connections to a port, in a thread of its own, and can make them silent."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import attrs

from tests.support.thread_server import ThreadServer


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
    _frozen: set[asyncio.WriteTransport] = attrs.field(factory=set)
    _server: ThreadServer = attrs.field(init=False)

    def start(self) -> "Relay":
        self._server = ThreadServer(
            lambda listener: asyncio.start_server(self._carry, sock=listener)
        )
        self._server.start()
        self.port = self._server.port
        return self

    def stop(self) -> None:
        self._server.stop()

    def freeze(self) -> None:
        """Make the connections that are there now silent: nothing is closed, nothing goes on."""
        self._server.loop.call_soon_threadsafe(lambda: self._frozen.update(self._server.transports))

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        await asyncio.sleep(self.delay)
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self.target)
        self._server.transports |= {writer.transport, far_writer.transport}
        with suppress(asyncio.CancelledError):  # At the end; asyncio would print it.
            await asyncio.gather(self._copy(reader, far_writer), self._copy(far_reader, writer))

    async def _copy(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            while data := await reader.read(65_536):
                if writer.transport in self._frozen:
                    await asyncio.Event().wait()
                writer.write(data)
                await writer.drain()
        if writer.transport not in self._frozen:
            writer.close()


@contextmanager
def relay(target: int, delay: float = 0.0) -> Iterator[Relay]:
    """A relay to `target` until the context ends."""
    made = Relay(target, delay).start()
    try:
        yield made
    finally:
        made.stop()
