"""The snapshot to statsd: counters by what was added, gauges as they are, many to a datagram."""

import re
import socket
from collections.abc import Callable, Iterable, Iterator
from typing import cast

import attrs
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.defer import Deferred
from twisted.internet.error import DNSLookupError
from twisted.internet.interfaces import (
    IAddress,
    IHostnameResolver,
    IHostResolution,
    IReactorTime,
    IResolutionReceiver,
)
from twisted.python.failure import Failure
from zope.interface import implementer

from node2dm_tw.admin.lines import StatsLines, Values, is_counter
from node2dm_tw.core.logs import Throttle, logger

log = logger()

DATAGRAM = 1_432
"""Bytes that pass an Ethernet, its IPv6 and UDP headers taken off, in one piece."""

Resolve = Callable[[str], Deferred[str]]


@attrs.define(eq=False)
class StatsdFormatter:
    """Makes the lines of one snapshot after another.

    Args:
        prefix: what every name begins with.
    """

    prefix: str
    _told: dict[str, float] = attrs.field(factory=dict, init=False)

    def lines(self, lines: StatsLines) -> Iterator[bytes]:
        """Yield a line for each number; a counter to which nothing was added has none."""
        yield from self._lines(self.prefix, lines.totals)
        for route, values in lines.routes.items():
            yield from self._lines(f"{self.prefix}.{_clean(route)}", values)

    def _lines(self, prefix: str, values: Values) -> Iterator[bytes]:
        for name, value in values.items():
            if isinstance(value, str):
                continue
            first, _, reason = name.partition(".")
            full = f"{prefix}.{first}.{_clean(reason)}" if reason else f"{prefix}.{first}"
            if not is_counter(name):
                number = value if isinstance(value, float) else int(value)
                yield f"{full}:{number}|g".encode()
                continue
            added = value - self._told.get(full, 0)
            self._told[full] = value
            if added:
                yield f"{full}:{added}|c".encode()


def _clean(name: str) -> str:
    """Take out what has a meaning in statsd's or Graphite's names."""
    return re.sub(r"[^A-Za-z0-9_-]", "_", name)


def batches(lines: Iterable[bytes]) -> Iterator[bytes]:
    """Join lines to datagrams, each as long as may be."""
    batch = b""
    for line in lines:
        if batch and len(batch) + 1 + len(line) > DATAGRAM:
            yield batch
            batch = b""
        batch = batch + b"\n" + line if batch else line
    if batch:
        yield batch


@implementer(IResolutionReceiver)
@attrs.define(eq=False)
class _Lookup:
    """Collects the addresses of a host; `found` fires with one, of IPv4 if there is any."""

    host: str
    found: Deferred[str] = attrs.field(factory=Deferred)
    _addresses: list[str] = attrs.field(factory=list, init=False)

    def resolutionBegan(self, resolutionInProgress: IHostResolution) -> None:
        pass

    def addressResolved(self, address: IAddress) -> None:
        self._addresses.append(cast(IPv4Address | IPv6Address, address).host)

    def resolutionComplete(self) -> None:
        if self._addresses:
            self.found.callback(min(self._addresses, key=lambda address: ":" in address))
        else:
            self.found.errback(DNSLookupError(f"{self.host} has no address"))


def resolve_host(resolver: IHostnameResolver, host: str) -> Deferred[str]:
    """Look up an IP address of `host`, of IPv4 if there is any: most statsds know no other."""
    lookup = _Lookup(host)
    resolver.resolveHostName(lookup, host, transportSemantics="UDP")
    return lookup.found


@attrs.define(eq=False)
class StatsdSender:
    """Sends reports. What statsd does not get is lost, as always with UDP, and logged if we see it.

    Args:
        host: the host of the statsd; looked up for each report, since it may move.
        port: its UDP port.
        report: makes the lines.
        resolve: gives the IP address of a host.
        clock: to log failures once a second at the most.
    """

    host: str
    port: int
    report: StatsdFormatter
    resolve: Resolve
    clock: IReactorTime
    _throttle: Throttle = attrs.field(init=False)
    _address: str = attrs.field(default="", init=False)
    _is_stopped: bool = attrs.field(default=False, init=False)

    def __attrs_post_init__(self) -> None:
        self._throttle = Throttle(log, self.clock)

    def send(self, lines: StatsLines) -> None:
        """Send a report; to a host that is not found, the next one tells more."""
        self.resolve(self.host).addCallback(self._on_address, lines).addErrback(self._failed)

    def send_last(self, lines: StatsLines) -> None:
        """Send a report to where the one before went: a stop does not wait for a lookup."""
        self._is_stopped = True
        if self._address:
            try:
                self._send(lines)
            except OSError:
                self._failed(Failure())

    def _on_address(self, address: str, lines: StatsLines) -> None:
        self._address = address
        if not self._is_stopped:
            self._send(lines)

    def _send(self, lines: StatsLines) -> None:
        family = socket.AF_INET6 if ":" in self._address else socket.AF_INET
        with socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as sender:
            for datagram in batches(self.report.lines(lines)):
                sender.sendto(datagram, (self._address, self.port))

    def _failed(self, failure: Failure) -> None:
        self._throttle.warn(
            "statsd at {host} was not told: {error}", host=self.host, error=str(failure.value)
        )
