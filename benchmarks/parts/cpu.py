"""CPU a push and pushes a second, of all contenders in turn."""

from collections import defaultdict
from collections.abc import Callable
from functools import partial
from pathlib import Path

import attrs

from benchmarks import h2load, node2dm
from benchmarks.bench import Bench, Check, Outcome, Value
from benchmarks.contenders import CURL1, H2LOAD1, H2LOAD2, LIMITS, NODE2DM, SETUPS, TREQ
from benchmarks.figures import Spread, ratios, spread
from benchmarks.meters import CPU
from benchmarks.pushing import Amount, Cost, measure

MOST_TIMES_H2LOAD = 7.0


@attrs.frozen
class Sample:
    """One run: CPU microseconds a push, pushes a second, pushes lost, and bytes at the peak."""

    cpu: float
    rate: float
    lost: int = 0
    peak_memory: int = 0


def cpu(bench: Bench) -> Outcome:
    """Run every contender once a round; compare those of one round with one another."""
    runs = _runs(bench)
    samples: dict[str, list[Sample]] = defaultdict(list)
    for number in range(bench.rounds):
        for name, run in runs.items():
            bench.progress.step(f"CPU of {name}, round {number + 1} of {bench.rounds}")
            samples[name].append(run())
    rows = {name: _row(name, samples) for name in samples}
    times = _against_limit(CURL1, samples)
    check = Check(
        f"CPU of {CURL1}, times h2load",
        str(times),
        f"at most {MOST_TIMES_H2LOAD:g}",
        times.median <= MOST_TIMES_H2LOAD,
    )
    details = {name: [attrs.asdict(each) for each in found] for name, found in samples.items()}
    return Outcome(rows, [check], details)


def _runs(bench: Bench) -> dict[str, Callable[[], Sample]]:
    """Say how each is run, those next to one another that are compared."""
    amounts = {name: Amount(2_000, bench.scaled(60_000, 12_000)) for name in SETUPS}
    amounts[TREQ] = Amount(1_000, bench.scaled(8_000, 3_000))
    gateways = {name: partial(_gateway, bench, name, amounts[name]) for name in SETUPS}
    requests = bench.scaled(100_000, 30_000)
    runs: dict[str, Callable[[], Sample]] = {
        H2LOAD1: partial(_h2load, bench, requests, http2=False),
        CURL1: gateways.pop(CURL1),
        H2LOAD2: partial(_h2load, bench, requests, http2=True),
        **gateways,
    }
    if bench.node2dm is not None:
        runs[NODE2DM] = partial(_node2dm, bench, bench.node2dm)
    return runs


def _sample(cost: Cost) -> Sample:
    return Sample(cost.used * 1e6, cost.rate, cost.lost, cost.peak_memory)


def _gateway(bench: Bench, name: str, amount: Amount) -> Sample:
    return _sample(measure(bench, SETUPS[name], CPU(), amount))


def _h2load(bench: Bench, requests: int, *, http2: bool) -> Sample:
    run = h2load.cost(bench.upstream, requests, http2=http2)
    return Sample(run.cpu * 1e6, run.rate)


def _node2dm(bench: Bench, checkout: Path) -> Sample:
    return _sample(node2dm.measure(bench, checkout))


def _against_limit(name: str, samples: dict[str, list[Sample]]) -> Spread:
    limit = samples[LIMITS[name]]
    return ratios([each.cpu for each in samples[name]], [each.cpu for each in limit])


def _row(name: str, samples: dict[str, list[Sample]]) -> dict[str, Value]:
    mine = samples[name]
    row: dict[str, Value] = {
        "rate": spread([each.rate for each in mine]),
        "cpu": spread([each.cpu for each in mine]),
    }
    if name in LIMITS:
        row["x_h2load"] = _against_limit(name, samples)
        row["lost"] = sum(each.lost for each in mine)
        row["peak_memory"] = max(each.peak_memory for each in mine)
    return row
