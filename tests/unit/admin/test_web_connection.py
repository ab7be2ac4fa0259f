"""HTTP on one connection: how long a client may take, and how much it may ask at once."""

import pytest

from node2dm_tw.admin.connections import CLOSE_SECONDS, IDLE_SECONDS
from node2dm_tw.admin.web_connection import HEAD_SECONDS
from tests.unit.admin.http import Connection, open_site

GET = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"


def connect():
    return Connection(open_site())


def answers(connection):
    return connection.transport.value().count(b"HTTP/1.1 200 OK")


def test_a_head_that_comes_byte_by_byte_is_cut_off():
    """However steadily: it has 15 s from its first byte on."""
    connection = connect()
    connection.clock.advance(IDLE_SECONDS - 1)
    for second in range(int(HEAD_SECONDS)):
        assert not connection.transport.is_closed, second
        connection.protocol.dataReceived(GET[second : second + 1])
        connection.clock.advance(1)
    assert connection.transport.is_closed
    connection.protocol.dataReceived(GET[int(HEAD_SECONDS) :])
    connection.take_turns()
    assert answers(connection) == 0


def test_the_next_head_has_its_own_time():
    """Also one that began with what came before it."""
    connection = connect()
    connection.protocol.dataReceived(GET + GET[:10])
    connection.take_turns()
    connection.clock.advance(HEAD_SECONDS - 1)
    connection.protocol.dataReceived(GET[10:])
    connection.take_turns()
    assert answers(connection) == 2
    connection.clock.advance(IDLE_SECONDS - 1)
    connection.protocol.dataReceived(GET)
    connection.take_turns()
    assert answers(connection) == 3
    connection.protocol.dataReceived(GET[:10])
    connection.clock.advance(HEAD_SECONDS)
    assert connection.transport.is_closed


@pytest.mark.parametrize("asked", [b"", GET])
def test_an_idle_connection_is_closed(asked):
    """After a minute, with or without a request before, in silence."""
    connection = connect()
    if asked:
        connection.protocol.dataReceived(asked)
        connection.take_turns()
    connection.clock.advance(IDLE_SECONDS - 0.1)
    assert not connection.transport.is_closed
    connection.clock.advance(0.2)
    assert connection.transport.is_closed
    connection.clock.advance(CLOSE_SECONDS)
    assert connection.transport.disconnected


@pytest.mark.parametrize("size", [1, 7, 44, 10_000])
def test_requests_are_found_however_they_arrive(size):
    """In any pieces, with an empty line before or between: each is answered, in order."""
    connection = connect()
    asked = b"\r\n" + GET + b"\r\n\r\n" + GET * 3
    for start in range(0, len(asked), size):
        connection.protocol.dataReceived(asked[start : start + size])
        connection.take_turns()
    assert answers(connection) == 4
    assert connection.transport.value().count(b"alive\n") == 4
    assert not connection.transport.is_closed


def test_a_client_that_closes_its_side_gets_its_answers():
    """To what it asked; a head that is not complete is none."""
    connection = connect()
    connection.protocol.dataReceived(GET + GET + GET[:-2])
    connection.protocol.readConnectionLost()
    connection.take_turns()
    assert answers(connection) == 2
    assert connection.transport.disconnecting


def test_nothing_is_answered_after_the_last_answer():
    """What a client sent behind `Connection: close` is dropped."""
    connection = connect()
    last = GET.replace(b"Host", b"Connection: close\r\nHost")
    connection.protocol.dataReceived(last + GET)
    connection.take_turns()
    assert answers(connection) == 1
    assert connection.transport.is_closed


def test_a_client_that_never_reads_is_answered_a_little():
    """A megabyte of requests leaves a few answers in memory, and no more of the requests."""
    connection = connect()
    connection.transport.is_read = False
    request = GET.replace(b"/healthz", b"/page.js")
    for _ in range(1_000_000 // 4_096):
        if connection.transport.is_reading:
            connection.protocol.dataReceived((request * 94)[:4_096])
        connection.take_turns()
    assert answers(connection) == 1
    assert not connection.transport.is_reading


def test_a_lost_connection_leaves_no_timer():
    """Whatever was under way."""
    for asked in (b"", GET[:5], GET, GET * 5, b"GET /events HTTP/1.1\r\n\r\n"):
        connection = connect()
        connection.protocol.dataReceived(asked)
        connection.lose()
        connection.take_turns()
        assert connection.clock.getDelayedCalls() == []
