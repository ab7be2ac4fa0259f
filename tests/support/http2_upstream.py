"""A scripted upstream over TLS and HTTP/2, in a thread of its own, for real gateways."""

import asyncio
import socket
import ssl
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import parse_qs

import attrs
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import DataReceived, Event, RequestReceived, StreamEnded
from h2.exceptions import ProtocolError
from h2.settings import SettingCodes

from tests.contract.http_certificates import authority, good
from tests.support.thread_server import ThreadServer
from tests.support.upstream import Answer, Upstream, upstream


class Connection(asyncio.Protocol):
    """One connection; the upstream's script answers each request that is whole."""

    def __init__(self, upstream: "HTTP2Upstream") -> None:
        self.upstream = upstream
        self.h2 = H2Connection(H2Configuration(client_side=False))
        self.window = upstream.initial_window
        self.bodies: dict[int, bytes] = {}

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self.upstream.on_connection(self)
        self.h2.initiate_connection()
        self.h2.update_settings({SettingCodes.INITIAL_WINDOW_SIZE: self.window})
        self.flush()

    def data_received(self, data: bytes) -> None:
        try:
            events = self.h2.receive_data(data)
        except ProtocolError:
            return  # What comes after a GOAWAY of ours.
        for event in events:
            self._on_event(event)
        self.flush()

    def _on_event(self, event: Event) -> None:
        if isinstance(event, RequestReceived):
            self.bodies[event.stream_id] = b""
        elif isinstance(event, DataReceived):
            self.bodies[event.stream_id] += event.data
            self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
        elif isinstance(event, StreamEnded):
            self.upstream.on_request(self, event.stream_id)

    def answer(self, stream: int, body: bytes = b"id=1") -> None:
        self.h2.send_headers(stream, [(":status", "200")])
        self.h2.send_data(stream, body, end_stream=True)

    def flush(self) -> None:
        self.transport.write(self.h2.data_to_send())


Script = Callable[[Connection, int], None]
"""Answers the request on a stream, or does not; `Connection.flush` is called after it."""


@attrs.define(eq=False)
class HTTP2Upstream:
    """Takes pushes; sign-ins, which do not come over HTTP/2, go to another upstream.

    Attributes:
        devices: of the pushes that came, in their order, with the moment on a monotonic clock.
        initial_window: of each stream on connections that are made from now on.
    """

    script: Script
    folder: Path
    logins: Upstream
    port: int = 0
    initial_window: int = 65_535
    connections: list[Connection] = attrs.field(factory=list)
    devices: list[tuple[float, str]] = attrs.field(factory=list)
    _server: ThreadServer = attrs.field(init=False)

    def start(self) -> "HTTP2Upstream":
        self._server = ThreadServer(self._serve)
        self._server.start()
        self.port = self._server.port
        return self

    def stop(self) -> None:
        self._server.stop()

    def section(self, more: str = "", port: int = 0) -> str:
        """A [c2dm] section that sends here, or to another port that leads here."""
        ours = f"https://localhost:{port or self.port}/send"
        theirs = f"http://127.0.0.1:{self.logins.port}/send"
        return self.logins.section(f"ca_file = {self.ca_file}\n{more}").replace(theirs, ours)

    @property
    def ca_file(self) -> Path:
        return self.folder / "ca.pem"

    def on_connection(self, connection: Connection) -> None:
        self.connections.append(connection)
        self._server.transports.add(connection.transport)

    def on_request(self, connection: Connection, stream: int) -> None:
        form = parse_qs(connection.bodies.pop(stream).decode())
        self.devices.append((time.monotonic(), form["registration_id"][0]))
        self.script(connection, stream)

    async def _serve(self, listener: socket.socket) -> asyncio.Server:
        loop = asyncio.get_running_loop()
        return await loop.create_server(lambda: Connection(self), sock=listener, ssl=self._tls())

    def _tls(self) -> ssl.SSLContext:
        identity = good()
        self.ca_file.write_bytes(authority().certificate_pem)
        file = self.folder / "server.pem"
        file.write_bytes(identity.certificate_pem + identity.key_pem)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(file)
        context.set_alpn_protocols(["h2"])
        return context


@contextmanager
def http2_upstream(script: Script, folder: Path) -> Iterator[HTTP2Upstream]:
    """An upstream until the context ends; `folder` takes its certificates."""
    with upstream(lambda sent: Answer()) as logins:
        made = HTTP2Upstream(script, folder, logins).start()
        try:
            yield made
        finally:
            made.stop()
