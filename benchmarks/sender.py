"""Sends pushes by UDP, evenly and at little cost: sendmmsg, many datagrams a system call.

A process of its own: `python -m benchmarks.sender PORT COUNT RATE [--first N]`.
"""

import argparse
import ctypes
import os
import socket
import time
from contextlib import closing

from benchmarks.pushes import SIZE, datagram

TICK = 0.001
"""Seconds between two system calls, at the least."""

_MOST = 1024
"""Datagrams in one system call; the kernel takes no more."""


class _Part(ctypes.Structure):
    _fields_ = (("base", ctypes.c_void_p), ("length", ctypes.c_size_t))


class _Header(ctypes.Structure):
    _fields_ = (
        ("name", ctypes.c_void_p),
        ("name_length", ctypes.c_uint32),
        ("parts", ctypes.POINTER(_Part)),
        ("parts_count", ctypes.c_size_t),
        ("control", ctypes.c_void_p),
        ("control_length", ctypes.c_size_t),
        ("flags", ctypes.c_size_t),
        ("sent", ctypes.c_size_t),
    )


class Batch:
    """Room for datagrams of one size that one system call sends.

    Args:
        port: of the gateway, on 127.0.0.1.
    """

    def __init__(self, port: int) -> None:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.connect(("127.0.0.1", port))
        self._room = ctypes.create_string_buffer(SIZE * _MOST)
        start = ctypes.addressof(self._room)
        self._parts = (_Part * _MOST)(*(_Part(start + SIZE * i, SIZE) for i in range(_MOST)))
        self._headers = (_Header * _MOST)()
        for header, part in zip(self._headers, self._parts, strict=True):
            header.parts, header.parts_count = ctypes.pointer(part), 1
        self._sendmmsg = ctypes.CDLL(None, use_errno=True).sendmmsg

    def close(self) -> None:
        """Send nothing more."""
        self._socket.close()

    def send(self, datagrams: list[bytes]) -> None:
        """Send them all."""
        for start in range(0, len(datagrams), _MOST):
            some = datagrams[start : start + _MOST]
            joined = b"".join(some)
            ctypes.memmove(self._room, joined, len(joined))
            sent = self._sendmmsg(self._socket.fileno(), self._headers, len(some), 0)
            if sent != len(some):
                code = ctypes.get_errno()
                raise OSError(code, f"{sent} of {len(some)} were sent: {os.strerror(code)}")


def send_evenly(port: int, count: int, rate: float, first: int = 0) -> None:
    """Send `count` pushes, `rate` a second, each with the moment of its sending.

    Args:
        first: number of the first.
    """
    start, sent = time.monotonic(), 0
    with closing(Batch(port)) as batch:
        while sent < count:
            due = min(count, 1 + int((time.monotonic() - start) * rate))
            if due > sent:
                now = time.time_ns()
                batch.send([datagram(first + i, now) for i in range(sent, due)])
                sent = due
            time.sleep(max(TICK, start + sent / rate - time.monotonic()))


def main() -> None:
    """Read the command line and send."""
    parser = argparse.ArgumentParser()
    parser.add_argument("port", type=int)
    parser.add_argument("count", type=int)
    parser.add_argument("rate", type=float)
    parser.add_argument("--first", type=int, default=0)
    given = parser.parse_args()
    send_evenly(given.port, given.count, given.rate, given.first)


if __name__ == "__main__":
    main()
