"""Pushes by UDP."""

import socket
from ipaddress import ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IReadDescriptor
from twisted.logger import capturedLogs, formatEvent
from zope.interface.verify import verifyObject

from node2dm_tw.intake.udp import DATAGRAM_OVERHEAD, MAX_BYTES_PER_WAKEUP, UDPIntake, bind, listen
from tests.unit.intake.support import Intake


def has_ipv6():
    try:
        bind("::1", 0, 65_536, reuse_port=False).close()
    except CannotListenError:
        return False
    return True


LOOPBACK = (ip_network("127.0.0.0/8"), ip_network("::1/128"))
PUSH = b"a:b:c"


class BoundTransport:
    """A transport as the reactor makes one: it has a socket."""

    def __init__(self, *, reuse_port=False):
        self.socket = bind("127.0.0.1", 0, 65_536, reuse_port)


@pytest.fixture
def bound():
    """An intake on a real socket, without a reactor, and who sends to it."""
    intake = Intake()
    udp = UDPIntake(intake.parser, LOOPBACK, intake.verifier)
    transport = BoundTransport()
    udp.makeConnection(transport)
    with transport.socket, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.connect(transport.socket.getsockname())
        yield intake, udp, sender


def unbound(allow=LOOPBACK):
    intake = Intake()
    return intake, UDPIntake(intake.parser, allow, intake.verifier)


@pytest.mark.parametrize(
    ("source", "allowed"),
    [
        ("127.0.0.1", True),
        ("127.255.0.1", True),
        ("::1", True),
        ("::ffff:127.0.0.1", True),
        ("192.0.2.1", False),
        ("::2", False),
        ("::ffff:192.0.2.1", False),
        ("fe80::1%eth0", False),
    ],
)
def test_only_allowed_sources_are_read(source, allowed):
    """The others are counted as invalid; an IPv4 source on an IPv6 socket is that source."""
    intake, udp = unbound()
    for _ in range(2):
        udp.datagramReceived(PUSH, (source, 9))
    assert len(intake.shop.queue.pushes) == (2 if allowed else 0)
    assert intake.stats.invalid == ({} if allowed else {"denied": 2})


def test_link_local_sources_have_a_scope():
    """It is no part of the address."""
    intake, udp = unbound([ip_network("fe80::/10")])
    udp.datagramReceived(PUSH, ("fe80::1%eth0", 9))
    assert len(intake.shop.queue.pushes) == 1


def test_other_networks_from_now_on():
    """What was remembered of a source is forgotten with the old list."""
    intake, udp = unbound()
    udp.datagramReceived(PUSH, ("192.0.2.1", 9))
    udp.datagramReceived(PUSH, ("127.0.0.1", 9))
    udp.allow_only([ip_network("192.0.2.0/24")])
    udp.datagramReceived(PUSH, ("192.0.2.1", 9))
    udp.datagramReceived(PUSH, ("127.0.0.1", 9))
    assert len(intake.shop.queue.pushes) == 2
    assert intake.stats.invalid == {"denied": 2}


def test_sources_without_end_do_not_fill_the_memory():
    """What is remembered of them is bounded, and right all the same."""
    intake, udp = unbound([ip_network("10.0.0.0/15")])
    for number in range(25_000):
        udp.datagramReceived(PUSH, (f"10.{number % 4}.{number // 256}.{number % 256}", 9))
    assert len(intake.shop.queue.pushes) == 12_500
    assert intake.stats.invalid["denied"] == 12_500
    assert len(udp._sources) <= 10_000


@given(st.binary(max_size=200))
def test_arbitrary_datagrams_do_no_harm(datagram):
    """Nothing is raised into the reactor."""
    intake, udp = unbound()
    udp.datagramReceived(datagram, ("127.0.0.1", 9))
    assert intake.shop.queue.pushes or intake.news.queue.pushes or intake.stats.invalid


def test_the_receive_buffer_is_what_was_asked_for(bound):
    """As far as the kernel grants it."""
    _, udp, _ = bound
    assert udp.effective_rcvbuf == 65_536


def test_what_the_kernel_dropped_is_counted(bound):
    """A full buffer is seen, also after the socket is closed."""
    _, udp, sender = bound
    assert udp.dropped == 0
    for _ in range(1_000):
        sender.send(b"x" * 1_000)
    dropped = udp.dropped
    assert 800 < dropped < 1_000
    udp.transport.socket.close()
    assert udp.dropped == dropped


def test_what_the_kernel_still_holds_is_read_before_the_end(bound):
    """In order, and nothing is raised when there is no more."""
    intake, udp, sender = bound
    for number in range(20):
        sender.send(b"a:b:%d" % number)
    udp.drain_socket()
    payloads = [push.payload for push in intake.shop.queue.pushes]
    assert payloads == [b"%d" % number for number in range(20)]
    udp.drain_socket()


def test_a_stream_without_end_does_not_keep_it_reading(bound):
    """What comes once it drains is refused, so that the sender can know."""
    intake, udp, sender = bound
    sender.send(PUSH)
    udp.drain_socket()
    sender.send(PUSH)
    with pytest.raises(ConnectionRefusedError):
        sender.send(PUSH)
    udp.drain_socket()
    assert len(intake.shop.queue.pushes) == 1


def test_what_comes_while_it_drains_goes_to_those_that_share_the_port():
    """No datagram is left in a socket that is about to be closed."""
    _, udp = unbound()
    transport = BoundTransport(reuse_port=True)
    udp.makeConnection(transport)
    port = transport.socket.getsockname()[1]
    udp.drain_socket()
    with transport.socket, bind("127.0.0.1", port, 65_536, reuse_port=True) as staying:
        for _ in range(100):
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
                sender.sendto(PUSH, staying.getsockname())
            assert staying.recv(100) == PUSH


def test_an_intake_that_was_never_bound_has_nothing():
    """Neither drops nor a buffer."""
    _, udp = unbound()
    assert (udp.dropped, udp.effective_rcvbuf) == (0, 0)
    udp.drain_socket()


def test_a_port_is_shared_by_those_who_all_agree():
    """With reuse_port two sockets bind one port; who does not ask for it is told it is taken."""
    with bind("127.0.0.1", 0, 65_536, reuse_port=True) as first:
        port = first.getsockname()[1]
        bind("127.0.0.1", port, 65_536, reuse_port=True).close()
        with pytest.raises(CannotListenError, match="Address already in use"):
            bind("127.0.0.1", port, 65_536, reuse_port=False)


class WatchedBy:
    """A reactor that is asked to watch descriptors, and does not."""

    def __init__(self):
        self.readers = []

    def addReader(self, reader):
        self.readers.append(reader)

    def removeReader(self, reader):
        self.readers.remove(reader)


class Place:
    """An intake that listens at an address, and who sends to it."""

    def __init__(self, host="127.0.0.1", allow=LOOPBACK):
        self.intake = Intake()
        self.reactor = WatchedBy()
        self.udp = UDPIntake(self.intake.parser, allow, self.intake.verifier)
        found = bind(host, 0, 4_194_304, reuse_port=False)
        self.listening = listen(self.reactor, self.udp, found)
        self.sender = socket.socket(found.family, socket.SOCK_DGRAM)
        self.sender.connect(found.getsockname())

    @property
    def payloads(self):
        return [push.payload for push in self.intake.shop.queue.pushes]

    def close(self):
        self.sender.close()
        self.listening.stopListening()


@pytest.fixture
def place():
    place = Place()
    yield place
    place.close()


class FailsAtTheSecond(tuple):
    """Networks that cannot be compared with a second source."""

    def __iter__(self):
        if hasattr(self, "asked"):
            raise ValueError("no network")
        self.asked = True
        return super().__iter__()


def test_the_reactor_watches_the_socket_until_it_is_closed(place):
    """It is asked for the descriptor and for a name in its log; closing twice does no harm."""
    assert place.reactor.readers == [place.listening]
    assert verifyObject(IReadDescriptor, place.listening)
    assert place.listening.fileno() == place.udp.transport.socket.fileno()
    assert place.listening.logPrefix() == "UDPIntake"
    place.listening.stopListening()
    place.listening.connectionLost(None)
    assert place.reactor.readers == []
    assert place.listening.fileno() == -1
    assert place.udp.transport is None


def test_a_wake_up_reads_many_datagrams(place):
    """In their order, and each queue gets them at once."""
    for number in range(50):
        place.sender.send(b"a:b:%d" % number)
    place.listening.doRead()
    assert place.payloads == [b"%d" % number for number in range(50)]
    assert place.intake.shop.queue.puts == 1
    place.listening.doRead()
    assert len(place.payloads) == 50


@pytest.mark.parametrize("size", [0, 1_000, 65_000])
def test_a_wake_up_of_the_reactor_ends(place, size):
    """However fast, small or large datagrams come, sending has its turn; the rest waits."""
    place.intake.on_line(place.sender.send)
    place.sender.send(b"a:b:" + b"x" * size)
    place.listening.doRead()
    first = len(place.payloads)
    assert 1 < first <= MAX_BYTES_PER_WAKEUP // DATAGRAM_OVERHEAD
    assert (first - 1) * size < MAX_BYTES_PER_WAKEUP
    place.listening.doRead()
    assert len(place.payloads) == 2 * first


def test_the_longest_datagram_there_is_comes_whole(place):
    """And the shortest is counted as none."""
    line = b"a:b:" + b"x" * 65_503
    place.intake.on_line(lambda line: None)
    place.sender.send(line)
    place.sender.send(b"")
    place.sender.send(PUSH)
    place.listening.doRead()
    assert place.payloads == [line[4:], b"c"]
    assert place.intake.stats.invalid == {"empty": 1}


def test_sources_that_are_not_allowed_are_counted(place):
    """One by one, among the others; none of it is queued."""
    place.udp.allow_only([ip_network("127.0.0.2/32")])
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        other.bind(("127.0.0.2", 0))
        for number in range(3):
            place.sender.send(PUSH)
            other.sendto(b"a:b:%d" % number, place.listening.socket.getsockname())
        place.listening.doRead()
    assert place.payloads == [b"0", b"1", b"2"]
    assert place.intake.stats.invalid == {"denied": 3}


def test_a_fault_of_ours_costs_no_other_push(place):
    """It is logged, and the rest of the wake-up, and the next, are read."""

    def fail_at_times(line):
        if line.endswith(b"1"):
            raise ValueError(line)

    place.intake.on_line(fail_at_times)
    for number in range(5):
        place.sender.send(b"a:b:%d" % number)
    with capturedLogs() as events:
        place.listening.doRead()
        place.sender.send(PUSH)
        place.listening.doRead()
    assert place.payloads == [b"0", b"2", b"3", b"4", b"c"]
    assert [event["log_level"].name for event in events] == ["critical"]


def test_a_fault_outside_the_lines_does_not_close_the_socket(place):
    """It is logged, what came before is queued, and the next wake-up reads on."""
    place.sender.send(PUSH)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        other.bind(("127.0.0.2", 0))
        other.sendto(PUSH, place.listening.socket.getsockname())
    place.sender.send(PUSH)
    place.udp.allow_only(FailsAtTheSecond(LOOPBACK))
    with capturedLogs() as events:
        place.listening.doRead()
        place.listening.doRead()
    assert place.payloads == [b"c", b"c"]
    assert [formatEvent(event) for event in events] == ["a datagram could not be handled"]


def test_a_socket_that_fails_keeps_what_was_read(place):
    """The error is the reactor's to log; what came before it is queued."""
    place.intake.on_line(lambda line: place.listening.socket.close())
    place.sender.send(PUSH)
    with pytest.raises(OSError, match="Bad file descriptor"):
        place.listening.doRead()
    assert place.payloads == [b"c"]


@pytest.mark.skipif(not has_ipv6(), reason="there is no ::1 here")
def test_ipv6():
    """Sources on an IPv6 socket are known by their address alone."""
    place = Place("::1")
    place.sender.send(PUSH)
    place.listening.doRead()
    place.udp.allow_only(LOOPBACK[:1])
    place.sender.send(PUSH)
    place.listening.doRead()
    place.close()
    assert place.payloads == [b"c"]
    assert place.intake.stats.invalid == {"denied": 1}
