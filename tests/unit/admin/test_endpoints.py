"""Endpoints of the web port: refused by their head, or answered once their body was read."""

import attrs
import pytest
from twisted.internet.defer import Deferred, fail
from twisted.logger import capturedLogs

from node2dm_tw.admin.connections import IDLE_SECONDS
from node2dm_tw.admin.endpoints import MAX_BODIES_BYTES
from node2dm_tw.admin.responses import SECURITY
from node2dm_tw.admin.web_connection import BODY_SECONDS
from node2dm_tw.core.web import WebResponse
from tests.unit.admin.http import Connection, open_site

MAX_BODY = 1_000_000
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


@attrs.define
class EchoEndpoint:
    """Answers with the method, the path and the body, for those who know the password.

    Args:
        reply: answers in place of that.
    """

    methods = (b"POST", b"PUT")
    max_body = MAX_BODY

    reply: object = None
    asked: list = attrs.field(factory=list)

    def refuse(self, request):
        is_known = request.headers.get(b"authorization") == b"password"
        return None if is_known else WebResponse(b"who are you?\n", status=401)

    def answer(self, request):
        self.asked.append(request)
        if self.reply is not None:
            return self.reply(request)
        return WebResponse(b"%b %b %b" % (request.method, request.path, request.body))


class ReadOnlyEndpoint(EchoEndpoint):
    """Takes no body."""

    methods = (b"GET", b"HEAD")
    max_body = 0


def open_echo(reply=None):
    endpoints = {b"/echo": EchoEndpoint(reply), b"/echo/": ReadOnlyEndpoint()}
    return open_site(endpoints=endpoints), endpoints[b"/echo"]


def connect(reply=None):
    return Connection(open_echo(reply)[0])


def head(length, *headers, path="/echo", method="POST", version="1.1", password="password"):
    lines = [f"{method} {path} HTTP/{version}", "Host: localhost", f"Authorization: {password}"]
    if length is not None:
        lines.append(f"Content-Length: {length}")
    return "\r\n".join([*lines, *headers, "", ""])


def statuses(connection):
    """The status of each answer on a connection; each begins on a line of its own."""
    text = connection.transport.value()
    return [int(part.split(b" ", 1)[0]) for part in text.split(b"HTTP/1.1 ")[1:]]


@pytest.mark.parametrize("size", [1, 3, 50, 10_000])
def test_a_body_is_read_however_it_arrives(size):
    """Each request gets its own body, and the connection is kept."""
    connection = connect()
    requests = head(5) + "first" + head(0) + "\r\n" + head(6, method="PUT") + "second"
    for start in range(0, len(requests), size):
        connection.protocol.dataReceived(requests[start : start + size].encode())
        connection.take_turns()
    bodies = [part.partition(b"\r\n\r\n")[2] for part in connection.transport.value().split(b"200")]
    assert [body.removesuffix(b"HTTP/1.1 ") for body in bodies[1:]] == [
        b"POST  first",
        b"POST  ",
        b"PUT  second",
    ]
    assert not connection.transport.is_closed


def test_a_large_body_is_read_without_being_copied_again_and_again():
    """In many reads, each of at most 64 KiB; afterwards a read is small again."""
    connection = connect()
    connection.send(head(MAX_BODY))
    assert connection.transport.bufferSize == 65_536
    for _ in range(MAX_BODY // 1_000):
        assert connection.transport.is_reading
        connection.protocol.dataReceived(b"x" * 1_000)
    assert not connection.transport.is_reading
    connection.take_turns()
    assert connection.status == 200
    assert connection.body == b"POST  " + b"x" * MAX_BODY
    assert connection.transport.bufferSize == 4_096
    assert connection.get("/healthz").status == 200


@pytest.mark.parametrize(
    ("text", "status", "words"),
    [
        (head(5, method="GET"), 405, b"expected POST, PUT"),
        (head(5, method="DELETE"), 405, b"expected POST, PUT"),
        (head(5, password="guessed"), 401, b"who are you?"),
        (head(1_000_000_000, password="guessed"), 401, b"who are you?"),
        (head(MAX_BODY + 1), 413, b"has 1000001 bytes: expected at most 1000000"),
        (head(None, "Transfer-Encoding: chunked"), 411, b"expected Content-Length"),
        (head(None, "Transfer-Encoding: identity"), 411, b"expected Content-Length"),
        (head(5, "Transfer-Encoding: identity"), 411, b"expected Content-Length"),
        (head(5, path="/echo/x", method="GET"), 413, b"expected none here"),
        (head(5, "Origin: https://evil.example"), 403, b"other sites"),
        (head(5, "Sec-Fetch-Site: cross-site"), 403, b"other sites"),
        (head(5).replace("localhost", "evil.example"), 421, b"web_hosts"),
    ],
)
@pytest.mark.parametrize("expect", ["", "Expect: 100-continue\r\n"])
def test_a_refused_body_is_not_read(text, status, words, expect):
    """Nobody is asked to send it, and the answer is the connection's last."""
    site, echo = open_echo()
    connection = Connection(site).send(text.replace("Host:", f"{expect}Host:", 1))
    assert connection.status == status
    assert words in connection.body
    assert connection.header("connection") == "close"
    assert connection.transport.is_closed
    assert echo.asked == []


def test_a_request_without_a_length_is_refused_and_the_connection_kept():
    """There is no body that would have to be read."""
    connection = connect().send(head(None))
    assert connection.status == 411
    assert connection.send(head(2) + "ok").body == b"POST  ok"


def test_a_client_that_expects_to_be_asked_is_asked():
    """Unless its body is here already, or it speaks HTTP/1.0."""
    connection = connect().send(head(5, "Expect: 100-continue"))
    assert connection.transport.value() == CONTINUE
    assert connection.send("hello").body == b"POST  hello"
    assert CONTINUE not in connection.send(head(5, "Expect: 100-Continue") + "h").transport.value()
    connection.send("ello")
    assert CONTINUE not in connect().send(head(0, "Expect: 100-continue")).transport.value()
    old = connect().send(head(5, "Expect: 100-continue", version="1.0"))
    assert old.transport.value() == b""
    assert old.send("hello").body == b"POST  hello"
    assert old.transport.is_closed


def test_a_body_longer_than_it_says():
    """What follows it is the next request, and no valid one."""
    connection = connect().send(head(5) + "hello, world\r\n\r\n")
    assert statuses(connection) == [200, 400]
    assert connection.transport.is_closed


def test_a_body_shorter_than_it_says():
    """A client that closes its side is answered; nothing is done with the body."""
    site, echo = open_echo()
    connection = Connection(site).send(head(5) + "hell")
    connection.protocol.readConnectionLost()
    assert connection.status == 400
    assert b"shorter" in connection.body
    assert connection.transport.disconnecting
    assert echo.asked == []


def test_a_client_that_closes_its_side_after_its_body_is_answered():
    """It has said everything."""
    connection = connect()
    connection.protocol.dataReceived(head(5).encode())
    connection.take_turns()
    connection.protocol.dataReceived(b"hello")
    connection.protocol.readConnectionLost()
    connection.take_turns()
    assert connection.body == b"POST  hello"
    assert connection.transport.disconnecting


def test_a_slow_body_is_given_up():
    """However steadily it comes: it has a minute."""
    connection = connect().send(head(100))
    for _ in range(int(BODY_SECONDS) - 1):
        connection.clock.advance(1)
        connection.protocol.dataReceived(b"x")
    assert not connection.transport.is_closed
    connection.clock.advance(1)
    assert connection.status == 408
    assert connection.transport.is_closed


def test_an_answer_may_come_later():
    """Until then nothing else is answered on the connection, nor read."""
    later = Deferred()
    connection = connect(lambda request: later).send(head(5) + "hello" + head(1))
    assert connection.transport.value() == b""
    assert not connection.transport.is_reading
    later.callback(WebResponse(b"done", "application/json", 202))
    connection.take_turns()
    assert (connection.status, connection.body) == (202, b"done")
    assert connection.transport.is_reading
    for name, value in SECURITY.items():
        assert connection.header(name.decode().lower()) == value.decode()


def test_an_answer_that_nobody_waits_for():
    """The client has gone, or the time is over: it is dropped."""
    for end in (Connection.lose, lambda connection: connection.clock.advance(IDLE_SECONDS)):
        later = Deferred()
        connection = connect(lambda request, later=later: later).send(head(5) + "hello")
        end(connection)
        later.callback(WebResponse(b"done"))
        connection.take_turns()
        assert connection.transport.value() == b""


@pytest.mark.parametrize("reply", [lambda request: 1 / 0, lambda request: fail(ValueError())])
def test_a_fault_of_an_endpoint(reply):
    """It is one answer and a line in the log, and the connection is kept."""
    with capturedLogs() as logged:
        connection = connect(reply).send(head(5) + "hello")
    assert connection.status == 500
    assert len(logged) == 1
    assert connection.get("/healthz").status == 200


def test_the_bodies_of_all_connections_are_bounded():
    """One too many is told when to come again; the memory is free once requests are answered."""
    later = Deferred()
    site, _ = open_echo(lambda request: later)
    most = MAX_BODIES_BYTES // MAX_BODY
    connections = [Connection(site).send(head(MAX_BODY)) for _ in range(most)]
    for connection in connections[:3]:
        connection.send("x" * MAX_BODY)
    for _ in range(2):
        late = Connection(site).send(head(MAX_BODY))
        assert (late.status, late.header("retry-after")) == (503, "1")
        assert late.transport.is_closed
    connections[-1].lose()
    assert Connection(site).send(head(MAX_BODY)).transport.value() == b""
    assert Connection(site).send(head(MAX_BODY)).status == 503
    later.callback(WebResponse(b""))
    for _ in range(3):
        assert Connection(site).send(head(MAX_BODY)).transport.value() == b""
    assert Connection(site).send(head(MAX_BODY)).status == 503


def test_a_connection_with_a_body_under_way_does_not_give_way():
    """One too many takes the place of one that waits for nothing."""
    site, _ = open_echo(lambda request: Deferred())
    answering = Connection(site).send(head(1) + "x")
    reading = Connection(site).send(head(2) + "x")
    idle = Connection(site).get("/healthz")
    others = [Connection(site).get("/healthz") for _ in range(198)]
    assert idle.transport.disconnected
    assert not any(each.transport.disconnected for each in (answering, reading, *others))


def test_where_all_connections_are_busy_the_oldest_gives_way():
    """Otherwise nobody could look at the gateway any more."""
    site, _ = open_echo()
    busy = [Connection(site).send(head(2)) for _ in range(200)]
    assert Connection(site).get("/healthz").status == 200
    assert [each.transport.disconnected for each in busy] == [True] + [False] * 199


def test_every_way_to_end_frees_the_memory_of_a_body():
    """Lost, too slow, too short, refused by the endpoint's fault: nothing stays occupied."""
    site, _ = open_echo(lambda request: 1 / 0)
    with capturedLogs():
        for _ in range(50):
            Connection(site).send(head(MAX_BODY)).lose()
            Connection(site).send(head(MAX_BODY)).protocol.readConnectionLost()
            Connection(site).send(head(MAX_BODY)).clock.advance(BODY_SECONDS)
            assert Connection(site).send(head(MAX_BODY) + "x" * MAX_BODY).status == 500
            complete = Connection(site).send(head(5))
            complete.protocol.dataReceived(b"hello")
            complete.lose()
            complete.take_turns()
    assert site._bodies.free == MAX_BODIES_BYTES


def test_what_is_below_an_endpoint():
    """It gets the rest of the path, without the query."""
    connection = connect()
    assert connection.send(head(None, path="/echo/a/b%2f?c", method="GET")).body == b"GET a/b%2f "
    reply = connection.send(head(None, path="/echo/a", method="HEAD"))
    assert (reply.status, reply.body, reply.header("content-length")) == (200, b"", "7")
    assert connection.get("/echoes").status == 404


def test_where_a_request_comes_from():
    """The endpoint is told the address of the client, and the last of several headers."""
    site, echo = open_echo()
    Connection(site).send(head(1, "X-A: 1", "x-a: 2") + "x")
    assert echo.asked[0].source == ("192.168.1.1", 54_321)
    assert echo.asked[0].headers[b"x-a"] == b"2"
