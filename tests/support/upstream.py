"""A scripted upstream: an HTTP/1.1 server in a thread of its own, for real gateways to send to."""

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from urllib.parse import parse_qsl

import attrs

from tests.support.ports import free_port
from tests.support.thread_server import ThreadServer


@attrs.define(eq=False)
class Sent:
    """One request, as it came; `status` is that of the answer, once there is one."""

    when: float
    path: str
    headers: dict[str, str]
    body: bytes
    status: int = 0

    @property
    def form(self) -> dict[str, str]:
        pairs = parse_qsl(self.body.decode(), keep_blank_values=True, strict_parsing=True)
        return dict(pairs)

    @property
    def auth(self) -> str:
        return self.headers.get("authorization", "")


@attrs.frozen
class Answer:
    """What to say; `raw` is written as it is, and the connection closed, in place of the rest."""

    body: bytes = b"id=1"
    status: int = 200
    headers: tuple[str, ...] = ()
    delay: float = 0.0
    raw: bytes | None = None
    pieces: tuple[bytes, ...] = ()
    pause: float = 0.0


Script = Callable[[Sent], Answer]


def sign_in_or(script: Script) -> Script:
    """Answer sign-ins with token-1, token-2, and so on; everything else by `script`."""
    count = iter(range(1, 1_000_000))

    def answer(sent: Sent) -> Answer:
        if sent.path == "/login":
            return Answer(f"SID=s\nLSID=l\nAuth=token-{next(count)}\n".encode())
        return script(sent)

    return answer


@attrs.define(eq=False)
class Upstream:
    """Listens on `port` from `start` to `stop`; may be started again on the same port."""

    script: Script
    port: int = 0
    requests: list[Sent] = attrs.field(factory=list)
    in_flight: int = 0
    most_in_flight: int = 0
    _server: ThreadServer = attrs.field(init=False)

    def start(self) -> "Upstream":
        # Not one that the kernel gives: it may give it to another while nobody listens here.
        self.port = self.port or free_port()
        self._server = ThreadServer(
            lambda listener: asyncio.start_server(self._serve, sock=listener), self.port
        )
        self._server.start()
        return self

    def stop(self) -> None:
        """Close the listening socket and every connection, unless that is done already."""
        self._server.stop()

    def sends(self) -> list[Sent]:
        return [sent for sent in self.requests if sent.path == "/send"]

    def logins(self) -> int:
        return sum(sent.path == "/login" for sent in self.requests)

    def delivered(self) -> Counter[str]:
        """How often each payload was seen."""
        return Counter(sent.form["data.data"] for sent in self.sends())

    def section(self, more: str = "") -> str:
        """A [c2dm] section that sends here."""
        url = f"http://127.0.0.1:{self.port}"
        return (
            f"[c2dm]\nusername = a@example.com\npassword = secret-word\n"
            f"login_url = {url}/login\nsend_url = {url}/send\n{more}\n"
        )

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._server.transports.add(writer.transport)
        try:
            while await self._exchange(reader, writer):
                pass
        except (asyncio.CancelledError, asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        headers = {k.lower(): v for k, v in (line.split(": ", 1) for line in head[1:] if line)}
        body = await reader.readexactly(int(headers.get("content-length", 0)))
        sent = Sent(time.monotonic(), head[0].split(" ")[1], headers, body)
        self.requests.append(sent)
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        try:
            answer = self.script(sent)
            sent.status = answer.status
            return await self._answer(answer, writer)
        finally:
            self.in_flight -= 1

    async def _answer(self, answer: Answer, writer: asyncio.StreamWriter) -> bool:
        if answer.delay:
            await asyncio.sleep(answer.delay)
        if answer.raw is not None:
            writer.write(answer.raw)
            for piece in answer.pieces:
                await writer.drain()
                await asyncio.sleep(answer.pause)
                writer.write(piece)
            await writer.drain()
            return False
        more = "".join(f"{header}\r\n" for header in answer.headers)
        head = f"HTTP/1.1 {answer.status} Said\r\nContent-Length: {len(answer.body)}\r\n{more}\r\n"
        writer.write(head.encode() + answer.body)
        await writer.drain()
        return True


@contextmanager
def upstream(script: Script) -> Iterator[Upstream]:
    """An upstream that signs in and answers sends by `script`."""
    made = Upstream(sign_in_or(script)).start()
    try:
        yield made
    finally:
        made.stop()
