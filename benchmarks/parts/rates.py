"""Datagrams that come at a rate: how soon they are sent, and whether any is lost."""

import time
from statistics import median, quantiles

from benchmarks.bench import Bench
from benchmarks.gateway import CURL1, CURL2, SUBJECTS, BenchmarkGateway
from benchmarks.measure import fill, warm_up
from tests.support.waiting import wait_for_count

BURST_RATE, RATE, MAX_P99_MS = 40_000.0, 5_000.0, 20.0


def burst(bench: Bench) -> None:
    """Send datagrams at eight times the rate of sending: none may be lost."""
    for name in (CURL1,) if bench.quick else (CURL1, CURL2):
        _burst(bench, name)


def _burst(bench: Bench, name: str) -> None:
    count = bench.scaled(200_000, 50_000)
    what = f"{count:,} datagrams at {BURST_RATE:,.0f} a second, {name}"
    bench.step(what)
    with bench.gateway(**SUBJECTS[name]) as gateway:
        arrived, begun = warm_up(bench, gateway, 0), time.monotonic()
        fill(gateway, count, BURST_RATE)
        seconds = time.monotonic() - begun
        wait_for_count(arrived, count)
        in_all = time.monotonic() - begun
        wait_for_count(gateway.sent, count, 2, 0.1)
        dropped, sent, at_upstream = gateway.stats()["udp_dropped"], gateway.sent(), arrived()
    bench.check(
        what,
        f"sent in {seconds:.1f} s, {dropped} dropped, {at_upstream:,} arrived, {sent:,} delivered"
        f" after {in_all:.1f} s ({count / in_all:,.0f} a second)",
        "none lost, all delivered",
        dropped == 0 and sent == count and at_upstream >= count,
    )


def latency(bench: Bench) -> None:
    """Send over HTTP/2 to an upstream that takes 50 ms, at full and at half rate."""
    seconds = bench.scaled(20, 4)
    with bench.gateway(http2=True, answers="/slow", max_in_flight=512) as gateway:
        bench.step("50 ms answers: warming up")
        _send(bench, gateway, RATE, 2, 0)
        bench.step(f"50 ms answers: {RATE:,.0f} and {RATE / 2:,.0f} a second")
        full = _send(bench, gateway, RATE, seconds, 1_000_000)
        half = _send(bench, gateway, RATE / 2, seconds, 2_000_000)
    bench.check(
        "pushes a second with 50 ms answers, HTTP/2, lost, seconds behind at the end",
        f"{full['rate']:,.0f}, {full['lost']} lost, {full['behind']:.2f} s behind",
        f"{RATE:,.0f}, 0, below 0.5",
        full["rate"] > 0.99 * RATE and not full["lost"] and full["behind"] < 0.5,
    )
    what = f"p99 from datagram to request at {RATE / 2:,.0f} a second"
    bench.below(what, half["p99"], MAX_P99_MS, "{:.1f} ms")
    bench.rows[CURL2] |= {f"{name} ms": f"{half[name]:.1f}" for name in ("p50", "p99")}


def _send(
    bench: Bench, gateway: BenchmarkGateway, rate: float, seconds: float, first: int
) -> dict[str, float]:
    """Send for so long; give pushes a second, pushes lost, seconds behind, milliseconds taken."""
    count, since = int(rate * seconds), time.time()
    fill(gateway, count, rate, first)
    wait_for_count(lambda: len(bench.upstream.arrivals(since)), count, stall=5, every=0.5)
    found = bench.upstream.arrivals(since)
    sent, arrived = zip(*found, strict=True)
    taken = [1e3 * (to - since) for since, to in found]
    return {
        "rate": (len(found) - 1) / (max(arrived) - min(arrived)),
        "lost": count - len(found),
        "behind": max(arrived) - max(sent),
        "p50": median(taken),
        "p99": quantiles(taken, n=100)[-1],
    }
