"""Datagrams at eight times the rate of sending: none may be lost."""

import time

from benchmarks import load
from benchmarks.bench import Bench, Check, Outcome
from benchmarks.contenders import CURL1, CURL2, SETUPS
from benchmarks.waiting import wait_for_count, wait_until

RATE = 40_000.0


def burst(bench: Bench) -> Outcome:
    """Send them in one go, to a gateway that sends on meanwhile."""
    names = (CURL1,) if bench.quick else (CURL1, CURL2)
    return Outcome(checks=[_burst(bench, name) for name in names])


def _burst(bench: Bench, name: str) -> Check:
    count = bench.scaled(200_000, 50_000)
    bench.progress.step(f"{count:,} datagrams at {RATE:,.0f} a second, {name}")
    with bench.gateway(SETUPS[name]) as gateway:
        wait_until(gateway.is_signed_in, "it signs in", 60)
        base = bench.upstream.requests()
        begun = time.monotonic()
        load.fill(gateway, count, RATE)
        seconds = time.monotonic() - begun
        wait_for_count(lambda: bench.upstream.requests() - base, count)
        in_all = time.monotonic() - begun
        wait_for_count(lambda: int(gateway.stats()["messages_sent"]), count, 2, 0.1)
        stats = gateway.stats()
        dropped = gateway.dropped()
        arrived = bench.upstream.requests() - base
    delivered = int(stats["messages_sent"])
    return Check(
        f"{count:,} datagrams at {RATE:,.0f} a second, {name}",
        f"sent in {seconds:.1f} s, {dropped} dropped, {arrived:,} arrived, {delivered:,} delivered"
        f" after {in_all:.1f} s ({count / in_all:,.0f} a second)",
        "none lost, all delivered",
        dropped == 0 and delivered == count and arrived >= count,
    )
