"""The pushes that are sent: datagrams of 200 bytes, each to another device."""

import socket
import time

SIZE = 200
_DEVICE = b"APA91bH%012d" + b"x" * 102
_TEXT = b'{"alert":"Somebody likes your photo","stamp":"stamp_%019d"}'

_TICK = 0.001
"""Seconds between two bursts of datagrams, at least."""


def datagram(number: int, moment: int = 0) -> bytes:
    """Make the push to a device, by its number; `moment`, in ns, is found again at the upstream."""
    return b"%b:like:%b" % (_DEVICE % number, _TEXT % moment)


def send(port: int, count: int, rate: float, first: int = 0) -> None:
    """Send `count` pushes, `rate` a second, numbered from `first`, with the moment of sending."""
    start, sent = time.monotonic(), 0
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.connect(("127.0.0.1", port))
        while sent < count:
            due = min(count, 1 + int((time.monotonic() - start) * rate))
            for number in range(sent, due):
                sender.send(datagram(first + number, time.time_ns()))
            sent = max(sent, due)
            time.sleep(max(_TICK, start + sent / rate - time.monotonic()))
