"""Pushes by UDP."""

import socket
from ipaddress import ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.error import CannotListenError

from node2dm_tw.intake.udp import UDPIntake, bind
from tests.intake.support import Intake

LOOPBACK = (ip_network("127.0.0.0/8"), ip_network("::1/128"))
PUSH = b"a:b:c"


class BoundTransport:
    """A transport as the reactor makes one: it has a socket."""

    def __init__(self):
        self.socket = bind("127.0.0.1", 0, 65_536, reuse_port=False)


@pytest.fixture
def bound():
    """An intake on a real socket, without a reactor, and who sends to it."""
    intake = Intake()
    udp = UDPIntake(intake.lines, LOOPBACK)
    transport = BoundTransport()
    udp.makeConnection(transport)
    with transport.socket, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.connect(transport.socket.getsockname())
        yield intake, udp, sender


def unbound(allow=LOOPBACK):
    intake = Intake()
    return intake, UDPIntake(intake.lines, allow)


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
    assert intake.stats.invalid == ({} if allowed else {"source": 2})


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
    assert intake.stats.invalid == {"source": 2}


def test_sources_without_end_do_not_fill_the_memory():
    """What is remembered of them is bounded, and right all the same."""
    intake, udp = unbound([ip_network("10.0.0.0/15")])
    for number in range(25_000):
        udp.datagramReceived(PUSH, (f"10.{number % 4}.{number // 256}.{number % 256}", 9))
    assert len(intake.shop.queue.pushes) == 12_500
    assert intake.stats.invalid["source"] == 12_500
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
    udp.read_dry()
    payloads = [push.payload for push in intake.shop.queue.pushes]
    assert payloads == [b"%d" % number for number in range(20)]
    udp.read_dry()


def test_a_stream_without_end_does_not_keep_it_reading(bound):
    """At most a buffer full is read."""
    intake, udp, sender = bound
    deliver = udp.datagramReceived

    def deliver_and_send_another(datagram, addr):
        deliver(datagram, addr)
        sender.send(datagram)

    udp.datagramReceived = deliver_and_send_another
    sender.send(PUSH)
    udp.read_dry()
    assert 10 < len(intake.shop.queue.pushes) < 1_000


def test_an_intake_that_was_never_bound_has_nothing():
    """Neither drops nor a buffer."""
    _, udp = unbound()
    assert (udp.dropped, udp.effective_rcvbuf) == (0, 0)
    udp.read_dry()


def test_a_port_is_shared_by_those_who_all_agree():
    """With reuse_port two sockets bind one port; who does not ask for it is told it is taken."""
    with bind("127.0.0.1", 0, 65_536, reuse_port=True) as first:
        port = first.getsockname()[1]
        bind("127.0.0.1", port, 65_536, reuse_port=True).close()
        with pytest.raises(CannotListenError, match="Address already in use"):
            bind("127.0.0.1", port, 65_536, reuse_port=False)
