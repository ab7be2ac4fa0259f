"""Sustained sending to an upstream that takes 50 ms, over HTTP/2, and how soon a push is sent."""

import time

import attrs

from benchmarks import load
from benchmarks.bench import Bench, Check, Outcome
from benchmarks.contenders import CURL2
from benchmarks.figures import percentile
from benchmarks.gateway import Gateway, Setup
from benchmarks.latency import Arrival, arrivals
from benchmarks.waiting import wait_for_count

RATE = 5_000.0
MOST_P99 = 0.020
SETUP = Setup(http2=True, answers="slow", max_in_flight=512)


@attrs.frozen
class Sending:
    """What a rate led to.

    Args:
        rate: pushes a second that arrived.
        lost: pushes that did not.
        behind: seconds between the last datagram and the last arrival.
        p50: seconds from datagram to request, at the median.
        p99: the same, of 99 in a hundred.
    """

    rate: float
    lost: int
    behind: float
    p50: float
    p99: float


def latency(bench: Bench) -> Outcome:
    """Send at full and at half rate; the gateway has been warmed up before."""
    seconds = bench.scaled(20, 4)
    found = []
    with bench.gateway(SETUP) as gateway:
        bench.progress.step("50 ms answers: warming up")
        _send(bench, gateway, RATE, 2, 0)
        for number, rate in enumerate((RATE, RATE / 2), 1):
            bench.progress.step(f"50 ms answers: {rate:,.0f} a second")
            found.append(_send(bench, gateway, rate, seconds, number * 1_000_000))
    full, half = found
    checks = [
        Check(
            "pushes a second with 50 ms answers, HTTP/2, lost, seconds behind at the end",
            f"{full.rate:,.0f}, {full.lost} lost, {full.behind:.2f} s behind",
            f"{RATE:,.0f}, 0, below 0.5",
            full.rate > 0.99 * RATE and not full.lost and full.behind < 0.5,
        ),
        Check(
            f"p99 from datagram to request at {RATE / 2:,.0f} a second",
            f"{half.p99 * 1000:.1f} ms",
            f"below {MOST_P99 * 1000:.0f} ms",
            half.p99 < MOST_P99 and not half.lost,
        ),
    ]
    rows = {CURL2: {"p50": half.p50 * 1000, "p99": half.p99 * 1000}}
    return Outcome(rows, checks, {"full": attrs.asdict(full), "half": attrs.asdict(half)})


def _send(bench: Bench, gateway: Gateway, rate: float, seconds: float, first: int) -> Sending:
    count = int(rate * seconds)
    since = time.time_ns()
    load.fill(gateway, count, rate, first)
    log = bench.upstream.access_log

    def logged() -> list[Arrival]:
        with log.open(encoding="ascii") as lines:
            return [each for each in arrivals(lines) if each.sent >= since / 1e9]

    wait_for_count(lambda: len(logged()), count, stall=5, every=0.5)
    found = logged()
    taken = [each.taken for each in found]
    span = max(each.arrived for each in found) - min(each.arrived for each in found)
    return Sending(
        rate=(len(found) - 1) / span,
        lost=count - len(found),
        behind=max(each.arrived for each in found) - max(each.sent for each in found),
        p50=percentile(taken, 50),
        p99=percentile(taken, 99),
    )
