"""Several processes on one UDP port, and one process on several."""

import socket

from tests.support.ports import free_port
from tests.support.upstream import Answer, upstream
from tests.support.waiting import wait_until


def test_two_processes_share_a_port(make_gateway):
    """With reuse_port the kernel spreads sources over the processes; nothing is lost."""
    with upstream(lambda sent: Answer()) as google:
        first = make_gateway(google.section(), node2dm="reuse_port = yes").start()
        second = make_gateway(google.section(), node2dm="reuse_port = yes", udp=first.udp).start()
        for number in range(200):
            first.push(b"d%d:key:%d" % (number, number))

        def shares():
            return [gateway.stats()["messages_sent"] for gateway in (first, second)]

        wait_until(lambda: sum(shares()) == 200, "all have been sent")
        assert min(shares()) > 0
        assert len(google.delivered()) == 200


def test_one_process_listens_at_several_addresses(make_gateway):
    """Each address of `udp` takes pushes in, IPv6 too."""
    other = free_port(socket.SOCK_DGRAM)
    with upstream(lambda sent: Answer()) as google:
        gateway = make_gateway(google.section(), more_udp=f", [::1]:{other}").start()
        gateway.push(b"phone:key:1")
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as sender:
            sender.sendto(b"phone:key:2", ("::1", other))
        gateway.wait_for(messages_sent=2)
