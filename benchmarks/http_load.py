"""Posts pushes by HTTP at a rate, on connections that stay open; run in a process of its own."""

import json
import select
import socket
import sys
import time
from collections import Counter, deque
from collections.abc import Callable
from statistics import median, quantiles

import attrs

from benchmarks.pushes import datagram

CONNECTIONS = 16
BODIES = 8
"""Different bodies, which are sent in turn."""


@attrs.define(eq=False)
class Connection:
    """A connection with one request at a time.

    Args:
        due: when the present request had to be sent, in monotonic seconds.
    """

    socket: socket.socket
    due: float = 0.0
    _answer: bytes = b""

    def send(self, request: bytes, due: float) -> None:
        """Send a request: the kernel has a buffer for all of it."""
        self.due, self._answer = due, b""
        self.socket.sendall(request)

    def read(self) -> int | None:
        """Read what has come; give the status once the answer is complete, else None."""
        received = self.socket.recv(65_536)
        if not received:
            raise ConnectionError(f"the gateway closed a connection after {self._answer!r}")
        self._answer += received
        head, separator, body = self._answer.partition(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0] or 0)
        return int(head.split(b" ")[1]) if separator and len(body) >= length else None


def make_requests(token: str, pushes: int) -> list[bytes]:
    """Make requests with so many pushes each: one as an object, several as an array."""
    made = []
    for number in range(0, BODIES * pushes, pushes):
        lines = (datagram(each).decode().split(":", 2) for each in range(number, number + pushes))
        objects = [{"token": t, "collapse_key": key, "data": data} for t, key, data in lines]
        body = json.dumps(objects if pushes > 1 else objects[0], separators=(",", ":")).encode()
        head = (
            f"POST /v1/push HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        made.append(head.encode() + body)
    return made


def connect(port: int) -> Connection:
    """Open a connection to the gateway."""
    made = socket.create_connection(("127.0.0.1", port))
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4 * 1024 * 1024)
    return Connection(made)


def load(
    port: int, requests: list[bytes], rate: float, seconds: float
) -> tuple[Counter[int], list[float], float]:
    """Send `rate` requests a second for so long.

    Returns:
        How often each status came; the seconds from when each request was due to its answer; and
        the seconds from the first due request to the last answer.
    """
    statuses: Counter[int] = Counter()
    taken: list[float] = []
    idle = deque(connect(port) for _ in range(CONNECTIONS))
    busy = {each.socket.fileno(): each for each in idle}
    poll = select.epoll()
    for descriptor in busy:
        poll.register(descriptor, select.EPOLLIN)
    count, sent, start = int(rate * seconds), 0, time.monotonic()
    while len(taken) < count:
        while sent < count and idle and start + sent / rate <= time.monotonic():
            idle.popleft().send(requests[sent % len(requests)], start + sent / rate)
            sent += 1
        waits = start + sent / rate - time.monotonic() if sent < count and idle else 10.0
        for descriptor, _ in poll.poll(max(0.0, waits)):
            connection = busy[descriptor]
            status = connection.read()
            if status is not None:
                statuses[status] += 1
                taken.append(time.monotonic() - connection.due)
                idle.append(connection)
    return statuses, taken, time.monotonic() - start


def main(ask: Callable[[], list[str]] = lambda: sys.argv[1:]) -> None:
    """Print what was found: `PORT TOKEN PUSHES RATE SECONDS`, PUSHES a request, RATE requests."""
    port, token, pushes, rate, seconds = ask()
    requests = make_requests(token, int(pushes))
    statuses, taken, lasted = load(int(port), requests, float(rate), float(seconds))
    milliseconds = [1e3 * each for each in taken]
    found = {
        "statuses": statuses,
        "rate": statuses[202] * int(pushes) / lasted,
        "p50": median(milliseconds),
        "p99": quantiles(milliseconds, n=100)[-1],
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main()
