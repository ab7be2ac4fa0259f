"""Ports for servers of the tests that must know their port before they listen."""

import itertools
import random
import socket
from collections.abc import Iterator
from functools import cache

FIRST, LAST = 10_000, 32_000
"""Below the range from which the kernel gives ports to those that name none."""

SIZE = 200


@cache
def _range() -> tuple[socket.socket, Iterator[int]]:
    """Claim a range of ports for this process: it holds the first one for as long as it lives."""
    starts = range(FIRST, LAST, SIZE)
    for start in random.sample(starts, len(starts)):
        holder = socket.socket()
        try:
            holder.bind(("127.0.0.1", start))
        except OSError:
            holder.close()
        else:
            return holder, itertools.cycle(range(start + 1, start + SIZE))
    raise RuntimeError("every range of ports is taken")


def free_port(kind: int = socket.SOCK_STREAM) -> int:
    """Return a port on which nobody listens; no other process of the tests will take it."""
    _, ports = _range()
    for port in itertools.islice(ports, SIZE):
        with socket.socket(socket.AF_INET, kind) as probe:
            # As a server does: a connection of an earlier one that lingers is no obstacle.
            is_stream = kind == socket.SOCK_STREAM
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, is_stream)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise RuntimeError("every port of the range is taken")
