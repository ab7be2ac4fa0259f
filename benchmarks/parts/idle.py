"""What the gateway uses when there is nothing to do."""

import time

from benchmarks import load
from benchmarks.bench import Bench, Check, Outcome
from benchmarks.contenders import CURL1, SETUPS
from benchmarks.waiting import wait_for_count

MOST = 0.005


def idle(bench: Bench) -> Outcome:
    """Look at its CPU time for a while; connections stand, for it has sent something before."""
    seconds = bench.scaled(20, 5)
    bench.progress.step(f"idle for {seconds} s")
    with bench.gateway(SETUPS[CURL1]) as gateway:
        base = bench.upstream.requests()
        load.fill(gateway, 1_000, 5_000)
        wait_for_count(lambda: bench.upstream.requests() - base, 1_000)
        time.sleep(1)
        begun, before = time.monotonic(), gateway.cpu()
        time.sleep(seconds)
        used = (gateway.cpu() - before) / (time.monotonic() - begun)
    return Outcome(checks=[Check("CPU when idle", f"{used:.3%}", f"below {MOST:.1%}", used < MOST)])
