"""What one client, or many, can make the views' listeners hold and do."""

import socket
from itertools import pairwise

import pytest
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import ISSLTransport
from twisted.internet.task import Clock
from twisted.logger import capturedLogs, formatEvent
from twisted.python.failure import Failure
from zope.interface import directlyProvides

from node2dm_tw.admin.connections import (
    CLOSE_SECONDS,
    IDLE_SECONDS,
    MAX_BUFFERED_BYTES,
    MAX_DISCARDED_BYTES,
    SILENT_SECONDS,
    TURN_SECONDS,
    BoundedProtocol,
)
from tests.unit.admin.transport import ClientTransport, make_connections


class Echo(BoundedProtocol):
    """A request is a line; the answer is the line.

    ``big`` is answered at length, ``slow`` in a fifth of a turn's time, ``bad`` not at all.
    """

    MAX_REQUEST_BYTES = 100

    def find_end(self, data):
        return data.find(b"\n") + 1

    def answer(self, request):
        if request == b"bad\n":
            raise ZeroDivisionError("no")
        if request == b"slow\n":
            self._clock.rightNow += TURN_SECONDS / 5
        self.transport.write(b"x" * 100_000 if request == b"big\n" else request)
        self.finish_request()

    def refuse_long(self):
        self.transport.write(b"too long\n")
        self.close()


class TurningClock(Clock):
    """Like the reactor, leaves to its next turn what is scheduled in this one."""

    def advance(self, amount):
        self.rightNow += amount
        for call in [call for call in self.calls if call.getTime() <= self.rightNow]:
            if call.active():
                self.calls.remove(call)
                call.called = 1
                call.func(*call.args, **call.kw)


class Listener:
    """A listener of echoes."""

    def __init__(self, maximum=64, max_descriptor=1_000):
        self.clock = TurningClock()
        self.connections = make_connections(self.clock, maximum, max_descriptor)

    def connect(self, descriptor=10):
        protocol = Echo(self.connections)
        protocol.makeConnection(ClientTransport(descriptor))
        return protocol

    def turn(self):
        """One turn of the reactor, in which no time passes."""
        self.clock.advance(0)

    def end_aborted(self, *protocols):
        for protocol in protocols:
            if protocol.transport.disconnected:
                protocol.connectionLost(Failure(ConnectionDone()))


def is_open(protocol):
    return not protocol.transport.disconnecting


def test_each_connection_is_answered_one_request_a_turn():
    """However many came at once, in order, and without reading more meanwhile."""
    listener = Listener()
    one, other = listener.connect(), listener.connect()
    one.dataReceived(b"a\nb\nc\n")
    other.dataReceived(b"d\ne\n")
    assert (one.transport.value(), one.transport.is_reading) == (b"", False)
    expected = [(b"a\n", b"d\n"), (b"a\nb\n", b"d\ne\n"), (b"a\nb\nc\n", b"d\ne\n")]
    for written in expected:
        listener.turn()
        assert (one.transport.value(), other.transport.value()) == written
    assert one.transport.is_reading
    assert other.transport.is_reading


def test_all_connections_together_are_answered_for_so_long_in_a_turn():
    """Each in its order of asking, so that none is kept waiting by others that ask again."""
    listener = Listener()
    many = [listener.connect() for _ in range(12)]
    for protocol in many:
        protocol.dataReceived(b"slow\n" * 10)
    counts = []
    for _ in range(10):
        listener.turn()
        counts.append([protocol.transport.value().count(b"\n") for protocol in many])
    assert all(4 <= sum(b) - sum(a) <= 6 for a, b in pairwise(counts))
    assert all(max(c) - min(c) <= 1 for c in counts)


def test_what_a_client_does_not_read_stops_it():
    """Beyond a little that is unsent nothing is answered and nothing read; then it goes on."""
    listener = Listener()
    protocol = listener.connect()
    assert protocol.transport.bufferSize == MAX_BUFFERED_BYTES
    assert protocol.transport.socket.options[socket.SOL_SOCKET, socket.SO_SNDBUF] == 65_536
    protocol.transport.is_read = False
    protocol.dataReceived(b"big\n" * 3)
    for _ in range(5):
        listener.turn()
    assert len(protocol.transport.value()) == 100_000
    assert not protocol.transport.is_reading
    protocol.transport.read_again()
    for _ in range(5):
        listener.turn()
    assert len(protocol.transport.value()) == 300_000
    assert protocol.transport.is_reading


def test_a_client_that_never_reads_is_closed():
    """By force, a minute and a quarter after its last answer."""
    listener = Listener()
    protocol = listener.connect()
    protocol.transport.is_read = False
    protocol.dataReceived(b"big\nbig\n")
    listener.turn()
    listener.clock.advance(IDLE_SECONDS)
    assert not protocol.transport.disconnected
    listener.clock.advance(CLOSE_SECONDS)
    assert protocol.transport.disconnected


def test_for_one_connection_too_many_a_silent_one_gives_way():
    """The oldest of those first; then the one whose last request is the oldest."""
    listener = Listener(maximum=3)
    asked, silent, asked_again = (listener.connect() for _ in range(3))
    for protocol in (asked_again, asked, asked_again):
        protocol.dataReceived(b"a\n")
        listener.turn()
    listener.clock.advance(SILENT_SECONDS)
    newest = listener.connect()
    assert [is_open(p) for p in (asked, silent, asked_again, newest)] == [True, False, True, True]
    listener.end_aborted(silent)
    newest.dataReceived(b"a\n")
    listener.turn()
    assert newest.transport.value() == b"a\n"
    another = listener.connect()
    assert [is_open(p) for p in (asked, asked_again, newest, another)] == [False, True, True, True]


def test_new_connections_have_a_second_to_ask():
    """Before that the one whose last request is the oldest gives way; without one, the oldest."""
    listener = Listener(maximum=2)
    asked = listener.connect()
    asked.dataReceived(b"a\n")
    listener.turn()
    new = [listener.connect() for _ in range(3)]
    assert [is_open(p) for p in (asked, *new)] == [False, False, True, True]


def test_a_stream_of_connections_is_closed_unseen():
    """Those that made way hold a descriptor till the next turn; so many of them are enough."""
    listener = Listener(maximum=40)
    first = [listener.connect() for _ in range(40)]
    further = []
    while not listener.connections.is_overrun:
        further.append(listener.connect())
    assert len(further) == 32
    listener.end_aborted(*first, *further)
    assert not listener.connections.is_overrun
    assert len(listener.connections) == 40


def test_the_last_descriptors_are_not_for_clients():
    """One that would have such a number gets its place only from another."""
    listener = Listener(max_descriptor=60)
    low = listener.connect(descriptor=59)
    high = listener.connect(descriptor=60)
    assert not is_open(low)
    assert is_open(high)
    listener.end_aborted(low)
    high.connectionLost(Failure(ConnectionDone()))
    alone = listener.connect(descriptor=61)
    assert not is_open(alone)
    listener.end_aborted(alone)
    assert len(listener.connections) == 0
    assert not listener.connections.is_overrun


@pytest.mark.parametrize(
    ("pieces", "is_refused"),
    [
        ([b"x" * 99 + b"\n"], False),
        ([b"x" * 100 + b"\n"], True),
        ([b"x" * 101], True),
        ([b"x" * 60, b"x" * 41], True),
        ([b"a\n" + b"x" * 101], True),
    ],
)
def test_a_request_is_bounded(pieces, is_refused):
    """A longer one is refused as soon as that is seen, and closes the connection."""
    listener = Listener()
    protocol = listener.connect()
    for piece in pieces:
        protocol.dataReceived(piece)
        listener.turn()
    assert (b"too long" in protocol.transport.value()) == is_refused
    assert protocol.transport.is_closed == is_refused


def test_closing_lets_the_client_read_the_last_answer():
    """What it still sends is read and dropped, up to a bound; its end is waited for, not long."""
    listener = Listener()
    protocol = listener.connect()
    protocol.close()
    assert protocol.transport.has_half_closed
    assert protocol.transport.is_reading
    protocol.dataReceived(b"a\n")
    listener.turn()
    assert protocol.transport.value() == b""
    protocol.readConnectionLost()
    assert protocol.transport.disconnecting
    assert not protocol.transport.disconnected

    patient = listener.connect()
    patient.close()
    listener.clock.advance(CLOSE_SECONDS)
    assert patient.transport.disconnected

    endless = listener.connect()
    endless.close()
    for _ in range(MAX_DISCARDED_BYTES // 4_096):
        endless.dataReceived(b"x" * 4_096)
    assert not endless.transport.disconnected
    endless.dataReceived(b"x")
    assert endless.transport.disconnected


def test_closing_by_tls_is_left_to_tls():
    """It has a close of its own, and would not survive that half of the socket is closed."""
    listener = Listener()
    protocol = listener.connect()
    directlyProvides(protocol.transport, ISSLTransport)
    protocol.close()
    assert protocol.transport.disconnecting
    assert not protocol.transport.has_half_closed
    listener.clock.advance(CLOSE_SECONDS)
    assert protocol.transport.disconnected


def test_a_fault_ends_its_connection_alone():
    """It is logged once a second, and the others are answered in the same turn."""
    listener = Listener()
    with capturedLogs() as logged:
        for _ in range(3):
            bad, good = listener.connect(), listener.connect()
            bad.dataReceived(b"bad\n")
            good.dataReceived(b"a\n")
            listener.turn()
            assert bad.transport.disconnected
            assert good.transport.value() == b"a\n"
        assert [formatEvent(event) for event in logged] == ["a request could not be answered"]
        listener.clock.advance(1)
        bad = listener.connect()
        bad.dataReceived(b"bad\n")
        listener.turn()
    assert len(logged) == 2


def test_a_lost_connection_leaves_nothing():
    """No timer, no place; a request of its that waits for its turn is dropped."""
    listener = Listener()
    protocol = listener.connect()
    protocol.dataReceived(b"a\n")
    protocol.connectionLost(Failure(ConnectionDone()))
    listener.turn()
    assert protocol.transport.value() == b""
    assert listener.clock.getDelayedCalls() == []
    assert len(listener.connections) == 0


def test_the_peers_window_is_the_kernels():
    """Where there is none to ask, as on a Unix socket, it counts as 0."""
    client = socket.create_server(("127.0.0.1", 0))
    with client, socket.create_connection(client.getsockname()) as connected:
        protocol = Listener().connect()
        protocol.transport.socket = connected
        assert protocol.peer_window > 1_000
    one, other = socket.socketpair()
    with one, other:
        protocol.transport.socket = one
        assert protocol.peer_window == 0
