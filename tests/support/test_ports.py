"""Ports that a test is given are nobody else's."""

import socket
import subprocess
import sys
from pathlib import Path

from tests.support.ports import LAST, SIZE, free_port

PROGRAM = """
import sys
from tests.support.ports import free_port
print(free_port(), flush=True)
sys.stdin.read()
"""


def test_a_port_is_not_given_twice_in_a_row():
    """Nor is one on which somebody listens, and all are below those that the kernel gives."""
    with socket.create_server(("127.0.0.1", free_port() + 1)) as taken:
        ports = [free_port() for _ in range(SIZE // 2)]
        assert taken.getsockname()[1] not in ports
    assert len(set(ports)) == len(ports)
    assert max(ports) < LAST
    given = Path("/proc/sys/net/ipv4/ip_local_port_range").read_text(encoding="ascii")
    assert int(given.split()[0]) >= LAST


def test_each_process_has_a_range_of_its_own():
    """As long as it lives."""
    command = [sys.executable, "-c", PROGRAM]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    processes = [subprocess.Popen(command, **pipes) for _ in range(4)]
    ports = [free_port(), *(int(process.stdout.readline()) for process in processes)]
    assert len({port // SIZE for port in ports}) == 5
    for process in processes:
        process.communicate()
