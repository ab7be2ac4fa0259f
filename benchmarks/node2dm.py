"""node2dm, the node.js server for C2DM, where somebody has a checkout of it."""

import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import attrs

from benchmarks import load
from benchmarks.bench import Bench
from benchmarks.machine import tool
from benchmarks.meters import CPU
from benchmarks.pushing import Cost
from benchmarks.server import Server
from benchmarks.upstream import Upstream
from benchmarks.waiting import wait_for_count, wait_until

RATE = 4_000.0
"""Pushes a second: from 5,000 on it loses datagrams."""

_REDIRECT = Path(__file__).with_name("redirect.js")


@attrs.define(eq=False)
class Node2DM(Server):
    """A node2dm as it was shipped, its requests led to our upstream.

    Args:
        upstream: where it sends to.
        checkout: the folder with node2dm.js.
    """

    upstream: Upstream = attrs.field(kw_only=True)
    checkout: Path = attrs.field(kw_only=True)

    def prepare(self) -> Sequence[str | Path]:
        options = {
            "port": self.udp,
            "debugServerPort": self.stats_port,
            "username": "sender@example.com",
            "password": "benchmark",
            "source": "benchmark",
        }
        file = self.folder / "config.js"
        file.write_text(f"module.exports = {json.dumps(options)};\n", encoding="utf-8")
        return (tool("node"), "-r", _REDIRECT, self.checkout / "node2dm.js", file)

    def environment(self) -> Mapping[str, str]:
        return {
            "BENCHMARK_UPSTREAM": self.upstream.url("", http2=False),
            "BENCHMARK_CA": str(self.upstream.places.ca_file),
        }


def measure(bench: Bench, checkout: Path) -> Cost:
    """Push evenly, once it has signed in: what comes before that it mostly loses."""
    count = bench.scaled(40_000, 8_000)
    upstream = bench.upstream
    base = upstream.requests()
    server = Node2DM(bench.new_folder(), upstream=upstream, checkout=checkout)
    with server:
        load.send(server, 1, RATE)  # Some versions sign in when there is something to send.
        wait_until(lambda: upstream.requests() > base, "node2dm signs in", 30)
        time.sleep(1)
        base = upstream.requests()
        load.fill(server, 1_000, RATE)
        wait_for_count(lambda: upstream.requests() - base, 1_000)
        base, meter = upstream.requests(), CPU()
        meter.begin(server.process.pid)
        begun = time.monotonic()
        load.fill(server, count, RATE)
        wait_for_count(lambda: upstream.requests() - base, count, stall=3)
        arrived = upstream.requests() - base
        return Cost(
            used=meter.lap() / arrived,
            rate=arrived / (time.monotonic() - begun),
            lost=count - arrived,
            peak_memory=server.peak_memory(),
        )
