"""Linux functions for a TCP connection, by its file descriptor (tcp(7))."""

import os
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager, suppress

_LAST_DATA_RECEIVED = struct.Struct("=52xI")
"""tcpi_last_data_recv, in milliseconds, of struct tcp_info in linux/tcp.h."""


@contextmanager
def _borrowed(descriptor: int) -> Iterator[socket.socket]:
    """Make a socket object for a descriptor that another object owns."""
    borrowed = socket.socket(fileno=descriptor)
    try:
        yield borrowed
    finally:
        borrowed.detach()


def set_user_timeout(descriptor: int, seconds: float) -> None:
    """Let the kernel end the connection if data stays unacknowledged for `seconds`."""
    with suppress(OSError), _borrowed(descriptor) as borrowed:
        milliseconds = max(1, int(seconds * 1000))
        borrowed.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, milliseconds)


def seconds_silent(descriptor: int) -> float:
    """Return the seconds since data last arrived; 0 if unknown."""
    with suppress(OSError, struct.error), _borrowed(descriptor) as borrowed:
        size = _LAST_DATA_RECEIVED.size
        known = borrowed.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, size)
        (milliseconds,) = _LAST_DATA_RECEIVED.unpack(known)
        return float(milliseconds) / 1000
    return 0.0


def local_port(descriptor: int) -> int:
    """Return the local port; 0 if there is none."""
    with suppress(OSError, IndexError), _borrowed(descriptor) as borrowed:
        port: int = borrowed.getsockname()[1]
        return port
    return 0


def shut_down(descriptor: int) -> None:
    """Shut down both directions of the connection; its owner finds it closed."""
    with suppress(OSError), _borrowed(descriptor) as borrowed:
        borrowed.shutdown(socket.SHUT_RDWR)


def identity(descriptor: int) -> int:
    """Return a number that is unique among open sockets; 0 if the descriptor is closed."""
    with suppress(OSError):
        return os.fstat(descriptor).st_ino
    return 0
