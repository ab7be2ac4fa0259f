"""Pushes by HTTP to a real gateway, over real sockets: what each request is answered."""

import http.client
import json
import random
import signal
import socket
import ssl
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress

import attrs
import pytest
import trustme

from tests.support.gateway import GatewayProcess, telnet
from tests.support.ports import free_port
from tests.support.upstream import Answer, upstream
from tests.support.waiting import wait_until

TOKEN = "correct-horse"
AUTHORIZATION = f"Authorization: Bearer {TOKEN}"
PUSH = b'{"token":"phone","collapse_key":"key","data":"x"}'
MEBIBYTE = 1_048_576
NDJSON = "Content-Type: application/x-ndjson"
UNREACHABLE = (
    "[c2dm]\nusername = a\npassword = b\n"
    "login_url = https://127.0.0.1:1/\nsend_url = https://127.0.0.1:1/\n"
)
"""A route that never signs in: its pushes stay in the queue."""


def with_id(push_id):
    return PUSH.replace(b"{", b'{"id":"%b",' % push_id.encode(), 1)


def head(length, *headers, method="POST", path="/v1/push", authorization=AUTHORIZATION):
    """The head of a request; without a Host, `localhost` is asked."""
    host = () if any(line.lower().startswith("host:") for line in headers) else ("Host: localhost",)
    sized = () if length is None else (f"Content-Length: {length}",)
    token = (authorization,) if authorization else ()
    lines = [f"{method} {path} HTTP/1.1", *host, *token, *sized, *headers, "", ""]
    return "\r\n".join(lines).encode("latin-1")


def request(body=PUSH, *headers, **more):
    return head(len(body), *headers, **more) + body


@attrs.define(eq=False)
class Reply:
    """What a request is answered."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def ids(self):
        assert self.status == 202, self
        return json.loads(self.body)["ids"]


@attrs.define(eq=False)
class Client:
    """One connection, on which answers are read one by one."""

    socket: socket.socket
    _file: object = None

    def __attrs_post_init__(self):
        self._file = self.socket.makefile("rb")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._file.close()
        self.socket.close()

    def send(self, data):
        self.socket.sendall(data)

    def read(self, *, has_body=True):
        """Read the next answer."""
        status = int(self._file.readline().split(b" ")[1])
        headers = {}
        while line := self._file.readline().strip():
            name, _, value = line.decode().partition(": ")
            headers[name.lower()] = value
        body = self._file.read(int(headers.get("content-length", 0))) if has_body else b""
        return Reply(status, headers, body)

    def ask(self, data):
        self.send(data)
        return self.read()

    def is_closed(self):
        """Whether nothing but the end follows."""
        with suppress(ConnectionError):
            return self._file.read(1) == b""
        return True


@attrs.define(eq=False)
class Intake:
    """A gateway that takes pushes by HTTP."""

    gateway: GatewayProcess
    web: int

    def connect(self):
        return Client(socket.create_connection(("127.0.0.1", self.web), timeout=60))

    def ask(self, data):
        """Send this on a connection of its own; return the first answer."""
        with self.connect() as client:
            return client.ask(data)

    def post(self, body=PUSH, *headers, **more):
        return self.ask(request(body, *headers, **more))

    def wait_for_queued(self, count):
        """Wait until so many pushes were received; all of them are in the queue."""
        self.gateway.wait_for(messages_received=count, messages_in_queue=count)


def start(make_gateway, config, node2dm="", **more):
    web = free_port()
    node2dm = f"web = tcp:{web}:interface=127.0.0.1\npush_token = {TOKEN}\n{node2dm}"
    intake = Intake(make_gateway(config, node2dm=node2dm, **more).start(), web)
    wait_until(lambda: "started: pushes on" in intake.gateway.log, "it has started")
    return intake


@pytest.fixture
def intake(make_gateway):
    """One whose pushes stay in the queue."""
    return start(make_gateway, UNREACHABLE)


@pytest.fixture(params=["memory", "sqlite"])
def stored(request, make_gateway):
    """The same, with each engine."""
    return start(make_gateway, UNREACHABLE, f"queue = {request.param}")


def test_pushes_are_sent_and_their_outcomes_are_known(make_gateway):
    """One, an array, and NDJSON; each id leads to the outcome."""

    def answer(sent):
        is_bad = sent.form["registration_id"] == "bad"
        return Answer(b"Error=NotRegistered" if is_bad else b"id=1")

    with upstream(answer) as google:
        intake = start(make_gateway, google.section())
        bad = PUSH.replace(b"phone", b"bad")
        ids = intake.post().ids + intake.post(b"[%b,%b]" % (PUSH, bad)).ids
        ids += intake.post(
            b"%b\n%b\n" % (PUSH.replace(b"{", b'{"id":"my:own",', 1), PUSH), NDJSON
        ).ids
        assert len(set(ids)) == 5
        assert ids[3] == "my:own"
        intake.gateway.wait_for(messages_received=5, messages_sent=4, messages_bad_device=1)
        for number, push_id in enumerate(ids):
            found = intake.ask(head(None, method="GET", path=f"/v1/push/{push_id}"))
            assert (found.status, found.headers["content-type"]) == (200, "application/json")
            record = json.loads(found.body)
            assert (record["id"], record["route"]) == (push_id, "c2dm")
            assert record["outcome"] == ("bad_device" if number == 2 else "sent")
        sent = [each for each in google.requests if each.path != "/login"]
        assert all("id" not in each.form for each in sent)
    unknown = intake.ask(head(None, method="GET", path="/v1/push/nobody"))
    assert (unknown.status, "error" in json.loads(unknown.body)) == (404, True)
    path = f"/v1/push/{ids[0]}"
    assert intake.ask(head(None, method="GET", path=path, authorization="")).status == 401


ANSWERS = {
    "one push": (request(), 202, ""),
    "without a Content-Type": (request(), 202, ""),
    "JSON": (request(PUSH, "Content-Type: application/json; charset=utf-8"), 202, ""),
    "nothing": (request(b""), 400, '"reason": "empty"'),
    "no length": (head(None), 411, "expected Content-Length"),
    "chunked": (head(None, "Transfer-Encoding: chunked") + b"1\r\nx\r\n0\r\n\r\n", 411, "expected"),
    "a form": (request(b"a=b", "Content-Type: application/x-www-form-urlencoded"), 415, "curl"),
    "compressed": (request(PUSH, "Content-Encoding: gzip"), 415, "Content-Encoding"),
    "another token": (request(authorization="Authorization: Bearer x"), 401, "push_token"),
    "no token": (request(authorization=""), 401, "push_token"),
    "GET": (head(None, method="GET"), 405, "expected POST"),
    "PUT": (request(method="PUT"), 405, "expected POST"),
    "DELETE": (head(None, method="DELETE"), 405, "expected POST"),
    "a push with POST": (request(path="/v1/push/x"), 405, "expected GET, HEAD"),
    "a body to read an outcome": (request(method="GET", path="/v1/push/x"), 413, "expected none"),
    "another version": (request(path="/v2/push"), 405, "expected GET, HEAD"),
    "a page of another site": (request(PUSH, "Origin: https://evil.example"), 403, "other sites"),
    "a browser's word": (request(PUSH, "Sec-Fetch-Site: cross-site"), 403, "other sites"),
    "another host": (request(PUSH, "Host: evil.example"), 421, "web_hosts"),
    "too long": (head(MEBIBYTE + 1), 413, "expected at most 1048576"),
    "too many": (request(b"[%b]" % b",".join([PUSH] * 1_001)), 413, "expected at most 1000"),
    "text": (request(b"hello"), 400, "one JSON object or an array of them"),
    "another form": (request(PUSH + b"\n" + PUSH), 400, "application/x-ndjson"),
    "an invalid push": (request(b'{"token":"a b","collapse_key":"k"}'), 400, '"field": "token"'),
    "an invalid key": (request(PUSH, "Idempotency-Key: a b"), 400, "Idempotency-Key"),
    "two lengths": (head(49, "Content-Length: 50") + PUSH, 400, ""),
    "a negative length": (head(-1), 400, ""),
    "a length of 20 digits": (head("9" * 20), 413, "expected at most"),
    "a length of 5,000 digits": (head("9" * 5_000), 400, ""),
}


def test_each_answer(intake):
    """Status and text of each; the pushes that were accepted are queued, and no other."""
    for name, (data, status, words) in ANSWERS.items():
        reply = intake.ask(data)
        assert reply.status == status, name
        assert words in reply.body.decode(), name
    intake.wait_for_queued(3)
    invalid = {"empty": 1, "json": 2, "token": 1}
    intake.gateway.wait_for(
        messages_invalid=sum(invalid.values()),
        **{f"messages_invalid.{reason}": count for reason, count in invalid.items()},
    )
    with intake.connect() as client:
        client.send(head(None, method="HEAD"))
        reply = client.read(has_body=False)
        assert (reply.status, reply.headers["allow"]) == (405, "POST")
        assert client.ask(request()).status == 202
    assert "Traceback" not in intake.gateway.log


def test_a_connection_is_kept(intake):
    """Over answers of every kind whose body was read; only an unread body ends it."""
    with intake.connect() as client:
        for body, status in ((PUSH, 202), (b"[]", 400), (b"", 400), (PUSH, 202)):
            assert client.ask(request(body)).status == status
        assert client.ask(head(None, method="GET", path="/healthz")).body == b"alive\n"
        assert client.ask(request(PUSH, "Content-Type: text/plain")).status == 415
        assert client.is_closed()
    intake.wait_for_queued(2)


def test_pipelined_requests_are_answered_in_order(intake):
    """Sent in one go, in pieces, and byte by byte."""
    requests = [request(with_id(str(number))) for number in range(100)]
    data = b"".join(requests) + head(None, method="GET", path="/healthz")
    for size in (len(data), 1_000, 7):
        with intake.connect() as client:

            def send(client=client, size=size):
                for place in range(0, len(data), size):
                    client.send(data[place : place + size])

            sender = threading.Thread(target=send)
            sender.start()
            assert [client.read().ids for _ in requests] == [[str(n)] for n in range(100)]
            assert client.read().body == b"alive\n"
            sender.join()
    intake.wait_for_queued(300)


def test_large_bodies(stored):
    """A thousand pushes, and a body of exactly a mebibyte, several at the same time."""
    batch = b"[%b]" % b",".join([PUSH] * 1_000)
    padded = batch + b" " * (MEBIBYTE - len(batch))
    with ThreadPoolExecutor(4) as pool:
        replies = list(pool.map(stored.post, [batch, padded] * 4))
    assert all(len(set(reply.ids)) == 1_000 for reply in replies)
    stored.wait_for_queued(8_000)


def test_a_body_that_is_shorter_than_it_says(intake):
    """Who closes its side gets 400; who goes gets nothing; no push is taken of either."""
    with intake.connect() as client:
        client.send(request()[:-1])
        client.socket.shutdown(socket.SHUT_WR)
        reply = client.read()
        assert (reply.status, b"shorter" in reply.body) == (400, True)
        assert client.is_closed()
    with intake.connect() as client:
        client.send(request()[:-1])
    with intake.connect() as client:
        client.send(request() + b"}")
        assert client.read().status == 202
        client.send(b"\r\n\r\n")
        assert client.read().status == 400
        assert client.is_closed()
    intake.wait_for_queued(1)


def test_a_client_that_waits_to_be_asked_for_its_body(intake):
    """It is asked once nothing speaks against the request, and not before."""
    with intake.connect() as client:
        for _ in range(2):
            client.send(head(len(PUSH), "Expect: 100-continue"))
            assert client.read(has_body=False).status == 100
            assert client.ask(PUSH).status == 202
        client.send(head(len(PUSH), "Expect: 100-continue", "Content-Type: text/plain"))
        assert client.read().status == 415
        assert client.is_closed()
    intake.wait_for_queued(2)


def test_a_body_without_the_token_is_not_read(intake):
    """A gigabyte is refused by its head; what is sent of it all the same goes nowhere."""
    wrong = "Authorization: Bearer guessed"
    memory = intake.gateway.memory()
    for expect in ((), ("Expect: 100-continue",)):
        with intake.connect() as client:
            assert client.ask(head(10**9, *expect, authorization=wrong)).status == 401
    with intake.connect() as client:
        client.send(head(10**9, authorization=wrong))
        with pytest.raises(ConnectionError):
            client.send(b"x" * 10**9)
    assert intake.gateway.memory() < memory + 8 * MEBIBYTE
    assert intake.post().ids
    intake.wait_for_queued(1)


def test_two_hundred_connections_with_bodies(stored):
    """Each sends half of its body, then all send the rest: all are accepted."""
    body = b"[%b]" % b",".join([PUSH] * 1_000)
    data = request(body)
    clients = [stored.connect() for _ in range(200)]
    for client in clients:
        client.send(data[: len(data) // 2])
    assert "uptime" in telnet(stored.gateway.stats_port)
    for client in clients:
        client.send(data[len(data) // 2 :])
    replies = [client.read() for client in clients]
    assert all(len(reply.ids) == 1_000 for reply in replies)
    for client in clients:
        client.__exit__()
    stored.wait_for_queued(200_000)


def test_bodies_that_would_take_all_memory(intake):
    """Seventeen of a mebibyte at once: one is told to come again, and then is accepted."""
    batch = b"[%b]" % b",".join([PUSH] * 1_000)
    padded = request(batch + b" " * (MEBIBYTE - len(batch)))
    clients = [intake.connect() for _ in range(16)]
    for client in clients:
        client.send(padded[:-1])
    reply = wait_until(
        lambda: (found := intake.ask(head(MEBIBYTE))).status == 503 and found, "no memory is left"
    )
    assert reply.headers["retry-after"] == "1"
    for client in clients:
        assert client.ask(padded[-1:]).status == 202
        client.__exit__()
    assert intake.ask(padded).status == 202
    intake.wait_for_queued(17_000)


def test_an_idempotency_key(stored):
    """The same answer again, though the request was sent twice at the same time."""
    key = "Idempotency-Key: order-1"
    data = request(b"[%b]" % b",".join([PUSH] * 1_000), key)
    with stored.connect() as first, stored.connect() as second:
        first.send(data)
        second.send(data)
        replies = [first.read(), second.read()]
    assert {reply.status for reply in replies} <= {202, 409}
    accepted = next(reply for reply in replies if reply.status == 202)
    again = stored.ask(data)
    assert (again.body, again.headers["idempotent-replayed"]) == (accepted.body, "true")
    assert stored.post(PUSH, key).status == 422
    stored.wait_for_queued(1_000)


@pytest.mark.parametrize("engine", ["memory", "sqlite"])
def test_a_full_queue(make_gateway, engine):
    """503 with Retry-After, all or nothing; the log says why."""
    intake = start(make_gateway, UNREACHABLE, f"max_queued = 10\nqueue = {engine}")
    assert intake.post(b"[%b]" % b",".join([PUSH] * 11)).status == 503
    assert len(intake.post(b"[%b]" % b",".join([PUSH] * 10)).ids) == 10
    reply = intake.post()
    assert (reply.status, reply.headers["retry-after"]) == (503, "5")
    intake.wait_for_queued(10)
    assert "pushes by HTTP turned away: the queue holds max_queued pushes" in intake.gateway.log


def test_a_reload_of_the_token(intake):
    """The new one is right at once; without one nobody may push; a connection stays open."""
    gateway = intake.gateway
    original = gateway.node2dm
    with intake.connect() as client:
        for token in ("other", ""):
            gateway.node2dm = original.replace(TOKEN, token)
            gateway.write_config()
            before = gateway.log.count("reloaded: [node2dm] push_token")
            gateway.process.send_signal(signal.SIGHUP)
            wait_until(
                lambda before=before: gateway.log.count("reloaded: [node2dm] push_token") > before,
                "it is reloaded",
            )
            status = 401 if token else 403
            assert intake.post().status == status
            other = request(authorization=f"Authorization: Bearer {token or 'other'}")
            assert client.ask(other).status == (202 if token else 403)
    intake.wait_for_queued(1)
    assert TOKEN not in gateway.log + telnet(gateway.stats_port, b"config\r\nquit\r\n")


def test_without_a_token_or_without_web(make_gateway):
    """No pushes by HTTP; a token without a web port is warned about."""
    web = free_port()
    node2dm = f"web = tcp:{web}:interface=127.0.0.1"
    intake = Intake(make_gateway(UNREACHABLE, node2dm=node2dm).start(), web)
    reply = intake.post()
    assert (reply.status, b"push_token" in reply.body) == (403, True)
    gateway = intake.gateway
    gateway.stop()
    gateway.node2dm = f"push_token = {TOKEN}"
    gateway.start()
    assert "push_token has no effect: pushes by HTTP need the option web" in gateway.log


def test_a_stop_loses_nothing_that_was_accepted(stored):
    """While clients push, the gateway stops: each accepted push is kept."""
    accepted, stopped = [], threading.Event()

    def push(name):
        with suppress(OSError, IndexError, ValueError), stored.connect() as client:
            for number in range(100_000):
                push_id = f"{name}-{number}"
                reply = client.ask(request(with_id(push_id)))
                if reply.status != 202:
                    assert reply.status == 503
                    return
                accepted.append(push_id)
                if len(accepted) > 500:
                    stopped.set()

    with ThreadPoolExecutor(8) as pool:
        for name in range(8):
            pool.submit(push, name)
        assert stopped.wait(60)
        stored.gateway.stop()
    restored = stored.gateway.start()
    count = wait_until(lambda: restored.stats()["messages_taken_over"], "pushes are restored")
    # The answer to the last request of each client may have been lost.
    assert len(accepted) <= count <= len(accepted) + 8
    restored.wait_for(messages_in_queue=count)


def test_receipts_survive_a_kill(make_gateway):
    """With sqlite: what was answered 202 is there after it, and the key gets the same answer."""
    intake = start(make_gateway, UNREACHABLE, "queue = sqlite")
    data = request(b"[%b,%b]" % (PUSH, with_id("own")), "Idempotency-Key: order-1")
    accepted = intake.ask(data)
    assert accepted.ids[1] == "own"
    intake.gateway.stop(signal.SIGKILL)
    intake.gateway.start()
    again = wait_until(lambda: (it := intake.ask(data)).status == 202 and it, "it is answered")
    assert (again.body, again.headers["idempotent-replayed"]) == (accepted.body, "true")
    intake.gateway.wait_for(messages_taken_over=2, messages_received=0, messages_in_queue=2)


def test_hostile_bodies_do_not_hold_up_the_gateway(intake):
    """Whatever is in a mebibyte, it is refused, and telnet is answered meanwhile."""
    bodies = [
        b"[" * MEBIBYTE,
        b"[" + b"{}," * (MEBIBYTE // 3 - 1),
        b'[{"x":[' + b"{}," * (MEBIBYTE // 3 - 10),
        b'{"data":{' + b'"":"",' * (MEBIBYTE // 6 - 10),
        b"\xff" * MEBIBYTE,
        b" " * MEBIBYTE,
        b"\n" * MEBIBYTE,
        b"{}\n" * (MEBIBYTE // 3),
        b'"' * MEBIBYTE,
        b"1" * MEBIBYTE,
        b'[{"ttl":' + b"1" * (MEBIBYTE - 20),
        random.Random(1).randbytes(MEBIBYTE),
    ]
    slowest = 0.0
    for form in ("Content-Type: application/json", NDJSON):
        for body in bodies:
            with intake.connect() as client:
                client.send(request(body, form))
                began = time.monotonic()
                assert "uptime" in telnet(intake.gateway.stats_port)
                slowest = max(slowest, time.monotonic() - began)
                assert client.read().status in (400, 413), (form, body[:20])
    assert slowest < 2.0
    assert intake.post().ids
    intake.wait_for_queued(1)
    assert "Traceback" not in intake.gateway.log


def test_tls(make_gateway, tmp_path):
    """`web` may be an endpoint that speaks TLS: bodies of any size, and refusals, are the same."""
    authority = trustme.CA()
    files = tmp_path / "tls.pem"
    authority.issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(files)
    web = free_port()
    node2dm = f"web = ssl:{web}:interface=127.0.0.1:privateKey={files}\npush_token = {TOKEN}\n"
    gateway = make_gateway(UNREACHABLE, node2dm=node2dm).start()
    context = ssl.create_default_context()
    authority.configure_trust(context)

    @contextmanager
    def connect():
        raw = socket.create_connection(("127.0.0.1", web), timeout=60)
        with Client(context.wrap_socket(raw, server_hostname="localhost")) as client:
            yield client

    batch = b"[%b]" % b",".join([PUSH] * 1_000)
    with connect() as client:
        for body, count in ((PUSH, 1), (batch + b" " * (MEBIBYTE - len(batch)), 1_000), (PUSH, 1)):
            assert len(client.ask(request(body)).ids) == count
        client.send(request() * 50)
        assert [len(client.read().ids) for _ in range(50)] == [1] * 50
        assert client.ask(head(10**9, authorization="")).status == 401
        assert client.is_closed()
    gateway.wait_for(messages_received=1_052, messages_in_queue=1_052)


def test_common_clients(intake):
    """The standard library's, with its defaults."""
    connection = http.client.HTTPConnection("127.0.0.1", intake.web, timeout=60)
    for body in (PUSH, b"[%b,%b]" % (PUSH, PUSH)):
        headers = {"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json"}
        connection.request("POST", "/v1/push", body, headers)
        response = connection.getresponse()
        assert response.status == 202
        assert json.loads(response.read())["accepted"]
    connection.close()
    intake.wait_for_queued(3)
