"""Reading what nginx, h2load and the kernel say."""

import pytest

from benchmarks.h2load import read_output
from benchmarks.latency import arrivals
from benchmarks.udp_socket import UDPSocket, udp_socket

H2LOAD = """\
finished in 1.19s, 84144.20 req/s, 11.31MB/s
requests: 100000 total, 100000 started, 100000 done, 99998 succeeded, 2 failed, 0 errored
"""
PROC_NET_UDP = """\
   sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt uid timeout inode ref p d
 2190: 0100007F:1FB8 00000000:0000 07 00000000:00000500 00:00000000 00000000 0 0 8442 2 0000 17
"""  # noqa: E501


def test_an_arrival_is_the_log_entry_less_the_time_the_answer_took() -> None:
    """Nginx logs when it has answered; the millisecond it cuts off is added."""
    (found,) = arrivals(["1700000000123456789 1700000000.180 0.050\n"])
    assert found.sent == pytest.approx(1_700_000_000.123457)
    assert found.arrived == pytest.approx(1_700_000_000.131)
    assert found.taken == pytest.approx(0.0075, abs=1e-4)


def test_requests_without_a_stamp_are_left_out() -> None:
    """A sign-in holds none."""
    assert list(arrivals([" 1700000000.180 0.050\n"])) == []


def test_h2load_says_how_fast_and_how_many() -> None:
    """What did not succeed is not counted."""
    assert read_output(H2LOAD) == (84144.2, 99_998)


def test_output_of_h2load_that_says_nothing_is_nothing() -> None:
    """No request succeeded, then."""
    assert read_output("no connection") == (0.0, 0)


def test_the_kernel_says_what_waits_and_what_was_dropped() -> None:
    """The socket is found by its port; both figures are of that socket."""
    assert udp_socket(8120, PROC_NET_UDP.splitlines()) == UDPSocket(0x500, 17)


def test_a_port_nobody_has_bound_has_no_socket() -> None:
    """A port that only ends in the same figures is another."""
    assert udp_socket(0xFB8, PROC_NET_UDP.splitlines()) is None
