"""What the kernel says of a UDP socket that is not ours (/proc/net/udp)."""

from collections.abc import Iterable
from pathlib import Path

import attrs


@attrs.frozen
class UDPSocket:
    """Bytes that wait to be read, and datagrams that were dropped because the buffer was full."""

    waiting: int
    dropped: int


def udp_socket(port: int, lines: Iterable[str] | None = None) -> UDPSocket | None:
    """Find the socket bound to `port` of IPv4; None while there is none."""
    if lines is None:
        lines = Path("/proc/net/udp").read_text(encoding="ascii").splitlines()
    for line in lines:
        fields = line.split()
        if len(fields) >= 13 and fields[1].endswith(f":{port:04X}"):
            return UDPSocket(int(fields[4].partition(":")[2], 16), int(fields[12]))
    return None
