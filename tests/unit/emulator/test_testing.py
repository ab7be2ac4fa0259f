"""What the package gives to applications' tests, and the emulator under load."""

import asyncio
import json
import ssl
import time
from urllib.parse import urlencode, urlsplit

import pytest

from node2dm_tw.emulator.testing import start

SENDER = "sender@example.com"


def test_a_phone_of_a_test(push_emulator):
    """Online, idle, refreshed, unregistered: the events tell."""
    phone = push_emulator.register(push_emulator.project)
    with phone:
        phone.refresh()
        assert phone.receive() == {
            "event": "registration",
            "registration_id": phone.registration_id,
        }
        phone.set_idle(True)
        phone.unregister()
        assert phone.receive()["event"] == "unregistered"
        with pytest.raises(EOFError):
            phone.receive()
    with pytest.raises(EOFError):
        phone.receive()


def test_nothing_comes(push_emulator):
    """A test may wait for nothing, and then for something."""
    with push_emulator.register(push_emulator.project) as phone:
        with pytest.raises(TimeoutError, match="no event"):
            phone.receive(timeout=0.05)
        phone.refresh()
        assert phone.receive()["event"] == "registration"


def test_a_reset_between_tests(push_emulator_process, push_emulator):
    """A test finds nothing of another one."""
    push_emulator.fault(endpoint="send", status=500)
    push_emulator.register(SENDER)
    push_emulator.reset()
    assert push_emulator.faults() == []
    assert push_emulator.log() == []
    assert push_emulator.stats()["phones"] == 1
    assert push_emulator is push_emulator_process


def test_an_emulator_of_its_own(tmp_path):
    """It takes options, and leaves no process behind."""
    with start(tmp_path / "a", ["--phones=one,two"]) as emulator:
        assert emulator.stats()["phones"] == 2
        assert emulator.ca_file.exists()
        assert "emulator listens at" in emulator.log_file.read_text(encoding="utf-8")
    with pytest.raises(OSError, match="refused"):
        emulator.stats()


def test_one_that_cannot_start(tmp_path):
    """What is wrong is in the exception."""
    with pytest.raises(RuntimeError, match="phones"), start(tmp_path, ["--phones=a b"]):
        pass


class Connection:
    """A kept-alive connection of asyncio's."""

    def __init__(self, emulator):
        self.context = ssl.create_default_context(cafile=str(emulator.ca_file))
        parts = urlsplit(emulator.base_url)
        self.place = parts.hostname, parts.port

    async def open(self):
        self.reader, self.writer = await asyncio.open_connection(*self.place, ssl=self.context)
        return self

    async def ask(self, method, path, body=b"", headers=""):
        head = (
            f"{method} {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n{headers}\r\n"
        )
        self.writer.write(head.encode() + body)
        answer = await self.reader.readuntil(b"\r\n\r\n")
        length = int(answer.lower().split(b"content-length: ")[1].split()[0])
        return await self.reader.readexactly(length)

    async def listen(self, registration_id):
        head = f"GET /device/{registration_id}/messages HTTP/1.1\r\nHost: x\r\n\r\n"
        self.writer.write(head.encode())
        await self.reader.readuntil(b": connected\n\n")

    async def event(self):
        while True:
            line = await self.reader.readline()
            if line.startswith(b"data: "):
                return json.loads(line[6:])

    async def close(self):
        self.writer.transport.abort()


async def _sign_in(connection):
    form = urlencode({"Email": SENDER, "Passwd": "x", "service": "ac2dm"}).encode()
    answer = await connection.ask("POST", "/accounts/ClientLogin", form)
    return f"Authorization: GoogleLogin auth={answer.decode().split('Auth=')[1].strip()}\r\n"


async def _push(connection, auth, registration_id, key, data):
    form = {"registration_id": registration_id, "collapse_key": key, "data.n": data}
    answer = await connection.ask("POST", "/c2dm/send", urlencode(form).encode(), auth)
    assert answer.startswith(b"id="), answer


async def _register(connection):
    body = json.dumps({"sender": SENDER, "app": "x"}).encode()
    return json.loads(await connection.ask("POST", "/device/register", body))["registration_id"]


async def _two_thousand(emulator, count):
    server = await Connection(emulator).open()
    auth = await _sign_in(server)
    phones = []
    gate = asyncio.Semaphore(20)

    async def connect():
        async with gate:
            connection = await Connection(emulator).open()
            phones.append((connection, await _register(connection)))

    await asyncio.gather(*(connect() for _ in range(count)))
    for connection, registration_id in phones:
        await connection.listen(registration_id)
    stats = json.loads(await server.ask("GET", "/stats"))
    assert stats["phones_online"] == count + 1
    for number, (_, registration_id) in enumerate(phones):
        await _push(server, auth, registration_id, "k", str(number))
    events = await asyncio.gather(*(connection.event() for connection, _ in phones))
    assert [event["data"]["n"] for event in events] == [str(each) for each in range(count)]
    for connection, _ in phones:
        await connection.close()
    await server.close()


def test_two_thousand_phones_at_once(push_emulator):
    """All are connected, and each gets its own message."""
    started = time.monotonic()
    asyncio.run(_two_thousand(push_emulator, 2_000))
    assert time.monotonic() - started < 120


async def _ten_thousand(emulator):
    server = await Connection(emulator).open()
    auth = await _sign_in(server)
    phones = [await _register(server) for _ in range(100)]
    workers = [await Connection(emulator).open() for _ in range(10)]

    async def push(worker, mine):
        for number in range(100):
            for registration_id in mine:
                await _push(worker, auth, registration_id, str(number % 5), str(number))

    await asyncio.gather(*(push(worker, phones[index::10]) for index, worker in enumerate(workers)))
    for registration_id in phones:
        connection = await Connection(emulator).open()
        await connection.listen(registration_id)
        events = [await connection.event() for _ in range(5)]
        assert [event["data"]["n"] for event in events] == ["95", "96", "97", "98", "99"]
        await connection.close()
    for worker in (*workers, server):
        await worker.close()


def test_ten_thousand_messages_to_offline_phones(push_emulator):
    """With five collapse keys each they arrive as the last of each, in seconds."""
    started = time.monotonic()
    asyncio.run(_ten_thousand(push_emulator))
    assert time.monotonic() - started < 120
    assert push_emulator.stats()["messages"] == {
        "stored": 10_000,
        "collapsed": 9_500,
        "delivered": 500,
    }
