"""An outage: what a queued push takes of memory, and how the backlog drains."""

import time

from benchmarks import load
from benchmarks.bench import Bench, Check, Outcome
from benchmarks.gateway import Gateway, Setup
from benchmarks.pushes import SIZE
from benchmarks.pushing import FAST
from benchmarks.waiting import wait_for_count, wait_until

MOST_A_PUSH = 400
MOST_IN_ALL = 500_000_000
MEANWHILE_RATE = 2_000.0
FULL_SPEED = 0.8
"""The part of the speed of a short backlog that counts as full speed beside the intake."""


def outage(bench: Bench) -> Outcome:
    """Queue a million pushes while the upstream answers 503, then let it work again."""
    count = bench.scaled(1_000_000, 50_000)
    little = bench.scaled(100_000, 20_000)
    bench.upstream.begin_outage()
    with bench.gateway(Setup(http2=True, answers="outage")) as gateway:
        bench.progress.step(f"an outage: a backlog of {little:,}")
        load.fill(gateway, little, FAST)
        reference = _drain(bench, gateway, little, 0)
        bench.upstream.begin_outage()
        bench.progress.step(f"an outage: {count:,} pushes wait")
        # The second half shows what a push takes: the first may use what was used before.
        at_half = _queue(gateway, count // 2, count // 2)
        resident = _queue(gateway, count - count // 2, count)
        bench.progress.step("an outage: the backlog drains, with intake open")
        meanwhile = count // 10
        rate = _drain(bench, gateway, count, meanwhile)
        in_all = little + count + meanwhile
        wait_for_count(lambda: int(gateway.stats()["messages_sent"]), in_all, 2, 0.1)
        stats = gateway.stats()
        lost = gateway.dropped() + in_all - int(stats["messages_sent"])
    a_push = (resident - at_half) / (count - count // 2)
    return Outcome(
        checks=[
            Check(
                f"bytes of memory a queued push of {SIZE} bytes",
                f"{a_push:.0f}",
                f"at most {MOST_A_PUSH}",
                a_push <= MOST_A_PUSH,
            ),
            Check(
                f"resident with {count:,} queued",
                f"{resident / 1e6:.0f} MB",
                f"below {MOST_IN_ALL / 1e6:.0f} MB",
                resident < MOST_IN_ALL,
            ),
            Check(
                f"the backlog drains, with {MEANWHILE_RATE:,.0f} a second coming in",
                f"{rate:,.0f} a second; {reference:,.0f} with a backlog of {little:,}; {lost} lost",
                f"none lost, at least {FULL_SPEED:.0%} of the speed",
                lost == 0 and rate >= FULL_SPEED * reference,
            ),
        ]
    )


def _queue(gateway: Gateway, count: int, in_all: int) -> int:
    """Queue `count` pushes more; give the resident bytes when `in_all` wait."""
    load.fill(gateway, count, FAST)
    wait_until(lambda: int(gateway.stats()["messages_in_queue"]) == in_all, "all wait", 30)
    return gateway.memory()


def _drain(bench: Bench, gateway: Gateway, count: int, meanwhile: int) -> float:
    """End the outage and wait until `count` and those of `meanwhile` are sent; give the rate."""
    bench.upstream.end_outage()
    base = int(gateway.stats()["messages_sent"])

    def sent() -> int:
        return int(gateway.stats()["messages_sent"]) - base

    warm = count // 20
    wait_for_count(sent, warm, every=0.05)
    begun, before = time.monotonic(), sent()
    if meanwhile:
        sender = load.begin(gateway, meanwhile, MEANWHILE_RATE, 10 * count)
    wait_for_count(sent, count, every=0.05)
    rate = (sent() - before) / (time.monotonic() - begun)
    if meanwhile:
        load.finish(sender)
        wait_for_count(sent, count + meanwhile, every=0.05)
    return rate
