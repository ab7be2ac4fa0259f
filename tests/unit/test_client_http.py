"""HTTPPushClient with a server that answers as a test wants: what it repeats, what it raises."""

import contextlib
import json
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from node2dm_tw import client as client_module
from node2dm_tw import client_http as http_module
from node2dm_tw.client import Push
from node2dm_tw.client_http import (
    MAX_BODY_BYTES,
    HTTPPushClient,
    InvalidPushes,
    PushFault,
    RequestError,
)

CLOSE = b""
"""In place of an answer: the connection is closed."""


def answer(status: int, body: object, *headers: str) -> bytes:
    text = body.encode() if isinstance(body, str) else json.dumps(body).encode()
    head = [f"HTTP/1.1 {status} Whatever", f"Content-Length: {len(text)}", *headers]
    return "\r\n".join(head).encode() + b"\r\n\r\n" + text


class ScriptedServer:
    """Gives each request the next answer of `script`, and then accepts every push.

    Attributes:
        requests: path, headers and lines of each request.
        connections: how many were made.
    """

    def __init__(self) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.listener.getsockname()[1]}"
        self.script: list[bytes] = []
        self.requests: list[tuple[str, dict[str, str], list[Any]]] = []
        self.connections = 0
        self._lock = threading.Lock()
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self.listener.shutdown(socket.SHUT_RDWR)  # wakes the thread that accepts
        self.listener.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self.listener.accept()
                self.connections += 1
                threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with connection, connection.makefile("rb") as reader, contextlib.suppress(OSError):
            while first := reader.readline().decode():
                headers = {}
                while line := reader.readline().decode().strip():
                    name, _, value = line.partition(": ")
                    headers[name.lower()] = value
                body = reader.read(int(headers.get("content-length", 0)))
                lines = [json.loads(line) for line in body.split(b"\n") if line]
                with self._lock:
                    self.requests.append((first.split(" ")[1], headers, lines))
                    number = len(self.requests)
                    said = self.script.pop(0) if self.script else None
                if said is None:
                    ids = [fields.get("id", f"made-{number}-{n}") for n, fields in enumerate(lines)]
                    said = answer(202, {"accepted": len(ids), "ids": ids})
                connection.sendall(said)
                if said == CLOSE or b"Connection: close" in said:
                    return


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    made = ScriptedServer()
    yield made
    made.close()


@pytest.fixture
def client(server: ScriptedServer) -> Iterator[HTTPPushClient]:
    with HTTPPushClient(server.url, "a-token") as made:
        yield made


def test_one_push_returns_its_id(server: ScriptedServer, client: HTTPPushClient) -> None:
    """In a request with the token, a key of its own, and the JSON form whatever the push."""
    assert client.push("T", "x", "k", id="mine") == "mine"
    assert client.push("T", "x", "k") == "made-2-0"
    (path, first, lines), (_, second, others) = server.requests
    assert path == "/v1/push"
    assert first["authorization"] == "Bearer a-token"
    assert first["content-type"] == "application/x-ndjson"
    assert 16 <= len(first["idempotency-key"]) <= 64
    assert first["idempotency-key"] != second["idempotency-key"]
    assert lines == [{"token": "T", "data": "x", "collapse_key": "k", "id": "mine"}]
    assert others == [{"token": "T", "data": "x", "collapse_key": "k"}]
    assert server.connections == 1


def test_many_pushes_return_their_ids_in_order(server: ScriptedServer) -> None:
    """In requests of at most a thousand pushes, and of at most 1 MiB."""
    pushes = [Push(str(n), "x", "k", id=f"id-{n}") for n in range(2_500)]
    pushes += [Push("long", "x" * 60_000, "k", id=f"long-{n}") for n in range(40)]
    with HTTPPushClient(server.url, "t", route="app") as client:
        assert client.push_many(iter(pushes)) == [push.id for push in pushes]
    sizes = [len(lines) for _, _, lines in server.requests]
    assert sizes[:2] == [1_000, 1_000]
    assert sum(sizes) == 2_540
    assert all(int(head["content-length"]) <= MAX_BODY_BYTES for _, head, _ in server.requests)
    assert {lines[0]["route"] for _, _, lines in server.requests} == {"app"}
    assert server.connections == 1


def test_no_push_is_no_request(server: ScriptedServer, client: HTTPPushClient) -> None:
    """Nothing is asked."""
    assert client.push_many([]) == []
    assert server.requests == []


def test_a_faulty_push_sends_nothing(server: ScriptedServer, client: HTTPPushClient) -> None:
    """It is refused before the first request, however many come before it."""
    with pytest.raises(ValueError, match="not valid UTF-8: data"):
        client.push_many([*(Push("T", "x") for _ in range(2_000)), Push("T", "\ud800")])
    with pytest.raises(ValueError, match="ttl = -1"):
        client.push("T", ttl=-1)
    assert server.requests == []


def test_a_request_without_an_answer_is_repeated(
    server: ScriptedServer, client: HTTPPushClient
) -> None:
    """With the same key and the same pushes; a kept connection that breaks is replaced at once."""
    client.push("T", "1", "k")
    server.script = [CLOSE, CLOSE, answer(503, "full", "Retry-After: 0")]
    client.push("T", "2", "k")
    keys = [headers["idempotency-key"] for _, headers, _ in server.requests]
    assert len(keys) == 5
    assert len({*keys[1:]}) == 1
    assert all(lines == server.requests[1][2] for _, _, lines in server.requests[1:])
    assert server.connections == 3


@pytest.mark.parametrize(
    "broken",
    [
        CLOSE,
        b"HTTP/1.1 202 OK\r\nConnection: close\r\nContent-Length: 99\r\n\r\n{",
        b"HTTP/1.1 202 OK\r\nConnection: close\r\n",
        b"SSH-2.0-x\r\nConnection: close\r\n",
    ],
)
def test_what_breaks_during_an_answer(
    server: ScriptedServer, client: HTTPPushClient, broken: bytes
) -> None:
    """It may be accepted, and is repeated all the same."""
    server.script = [broken]
    assert client.push("T", "x", "k") == "made-2-0"


@pytest.mark.parametrize("status", [408, 409, 425, 429, 500, 502, 503, 504])
def test_the_gateway_is_asked_again_when_it_says(server: ScriptedServer, status: int) -> None:
    """After the seconds of Retry-After, and for no longer than `retry_for`."""
    with HTTPPushClient(server.url, "t", retry_for=1.5) as client:
        server.script = [answer(status, "later\n", "Retry-After: 1")]
        began = time.monotonic()
        client.push("T", "x", "k")
        assert 1.0 <= time.monotonic() - began < 30
        server.script = [answer(status, "later\n", "Retry-After: 5")]
        with pytest.raises(RequestError, match=f"{server.url}: {status} later$") as raised:
            client.push("T", "x", "k")
    assert raised.value.status == status
    assert len(server.requests) == 3


@pytest.mark.parametrize("status", [301, 400, 401, 403, 404, 413, 415, 421, 422])
def test_a_refusal_is_raised_at_once(
    server: ScriptedServer, client: HTTPPushClient, status: int
) -> None:
    """With the status and the gateway's words; a redirect is not followed, and gets no token."""
    server.script = [answer(status, "expected another\n", f"Location: {server.url}/x")]
    with pytest.raises(RequestError, match=f"{server.url}: {status} expected another$") as raised:
        client.push("T", "x", "k")
    assert raised.value.status == status
    assert isinstance(raised.value, OSError)
    assert len(server.requests) == 1
    assert client.push("T", "x", "k")


def test_invalid_pushes_are_named_by_index_field_and_reason(
    server: ScriptedServer, client: HTTPPushClient
) -> None:
    """The index is that among all pushes, and the ids of the requests before are there."""
    fault = {"index": 7, "field": "colour", "reason": "field", "detail": "colour: unknown"}
    none = {**fault, "index": 500}
    accepted = answer(202, {"accepted": 1000, "ids": [str(n) for n in range(1_000)]})
    server.script = [accepted, answer(400, {"errors": [fault, none]})]
    with pytest.raises(InvalidPushes, match="push 1007: field: colour: unknown") as raised:
        client.push_many(Push("T", "x") for _ in range(1_500))
    assert raised.value.faults == [PushFault(1_007, "colour", "field", "colour: unknown")]
    assert raised.value.accepted == [str(n) for n in range(1_000)]
    server.script = [accepted, answer(401, "no")]
    with pytest.raises(RequestError) as failed:
        client.push_many(Push("T", "x") for _ in range(1_500))
    assert len(failed.value.accepted) == 1_000


@pytest.mark.parametrize(
    "body",
    [
        "",
        "[]",
        "{}",
        "null",
        '{"errors": [{"index": "x"}]}',
        '{"ids": 1}',
        '{"ids": ["a", "b"]}',
        "[" * 100_000,
        "\xff",
    ],
)
@pytest.mark.parametrize("status", [200, 202, 400])
def test_what_is_not_the_gateways_answer(
    server: ScriptedServer, client: HTTPPushClient, status: int, body: str
) -> None:
    """No push counts as accepted by it."""
    server.script = [answer(status, body)] * 2
    with pytest.raises(RequestError) as raised:
        client.push("T", "x", "k")
    assert raised.value.status == status
    is_object = body.startswith("{") and body != "{}"
    if not (is_object and status == 200):  # that would be an outcome
        with pytest.raises(RequestError):
            client.get("an-id")


def test_the_outcome_of_a_push(server: ScriptedServer, client: HTTPPushClient) -> None:
    """An object, or None; another server's 404 is an error."""
    outcome = {"id": "a/b", "outcome": "sent"}
    server.script = [
        answer(200, outcome),
        answer(404, {"error": "no outcome"}),
        answer(404, "there is nothing here"),
    ]
    assert client.get("a/b") == outcome
    assert client.get("x") is None
    with pytest.raises(RequestError, match="404 there is nothing here"):
        client.get("x")
    assert [path for path, _, _ in server.requests[:2]] == ["/v1/push/a%2Fb", "/v1/push/x"]


def test_nobody_listens() -> None:
    """It is tried for `retry_for` seconds, and the error names the address."""
    with socket.create_server(("127.0.0.1", 0)) as closed:
        url = f"http://127.0.0.1:{closed.getsockname()[1]}"
    with HTTPPushClient(url, "t", retry_for=0) as client:
        with pytest.raises(RequestError, match=f"{url}: Connection refused") as raised:
            client.push("T", "x", "k")
        assert raised.value.status is None
    with pytest.raises(RequestError, match="closed"):
        client.push("T", "x", "k")


def test_an_answer_that_does_not_come() -> None:
    """After `timeout` it is an error."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        client = HTTPPushClient(url, "t", retry_for=0, timeout=0.2)
        with client, pytest.raises(RequestError, match=f"{url}: timed out"):
            client.push("T", "x", "k")


def test_a_path_before_the_gateways(server: ScriptedServer) -> None:
    """As a reverse proxy has it."""
    with HTTPPushClient(f"{server.url}/push-gateway/", "t") as client:
        client.push("T", "x", "k")
    assert server.requests[0][0] == "/push-gateway/v1/push"


def test_threads_share_a_client(server: ScriptedServer, client: HTTPPushClient) -> None:
    """Each request has a connection of its own meanwhile, and every thread gets its own ids."""
    found: list[str] = []

    def work(name: int) -> None:
        found.extend(client.push("T", "x", "k", id=f"{name}-{number}") for number in range(25))

    threads = [threading.Thread(target=work, args=(name,)) for name in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(found) == sorted(f"{name}-{number}" for name in range(8) for number in range(25))
    assert server.connections <= 8
    keys = {headers["idempotency-key"] for _, headers, _ in server.requests}
    assert len(keys) == 200


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"url": "127.0.0.1:8122"}, "url = '127.0.0.1:8122': expected http://HOST:PORT"),
        ({"url": ""}, "url = ''"),
        ({"token": ""}, r"token = \*\*\*: expected visible ASCII"),
        ({"token": "secret word"}, r"token = \*\*\*"),
        ({"token": "secret\n"}, r"token = \*\*\*"),
        ({"ca_file": "ca.pem"}, "expected https://HOST:PORT, as ca_file is given"),
    ],
)
def test_impossible_settings(options: dict[str, Any], reason: str) -> None:
    """They are refused when the client is made; the token is never shown."""
    with pytest.raises(ValueError, match=reason) as raised:
        HTTPPushClient(**({"url": "http://127.0.0.1:8122", "token": "t"} | options))
    assert "secret" not in str(raised.value)


def test_the_token_is_not_in_the_repr(client: HTTPPushClient) -> None:
    """Logs may hold it."""
    assert "a-token" not in repr(client)


def test_two_files_are_enough(server: ScriptedServer, tmp_path: Path) -> None:
    """Copied into another project they need nothing else."""
    for module in (client_module, http_module):
        shutil.copy(Path(module.__file__), tmp_path)
    code = (
        "import sys; sys.path[0:0] = ['.']; import client_http;"
        f"print(client_http.HTTPPushClient({server.url!r}, 't').push('T', id='alone'))"
    )
    isolated = [sys.executable, "-I", "-S", "-c", code]
    done = subprocess.run(isolated, cwd=tmp_path, check=True, timeout=60, capture_output=True)
    assert done.stdout == b"alone\n"
