"""What a push costs: CPU, and user-space instructions."""

from statistics import median

from benchmarks import h2load
from benchmarks.bench import Bench, spread
from benchmarks.gateway import CURL1, CURL2, FCM2, SUBJECTS, TREQ
from benchmarks.h2load import H2LOAD1, H2LOAD2, LIMITS
from benchmarks.measure import Cost, measure
from benchmarks.meters import CPU, Callgrind, instructions_of

MAX_INSTRUCTIONS = {CURL1: 240_000, CURL2: 260_000}
MAX_TIMES_H2LOAD, MAX_PART_OF_TREQ = 7.0, 1 / 9


def cpu(bench: Bench) -> None:
    """Run every subject once a round; compare those of one round with one another."""
    names = (H2LOAD1, CURL1, H2LOAD2, CURL2, FCM2, TREQ)  # Side by side what is compared.
    samples: dict[str, list[Cost]] = {name: [] for name in names}
    rounds = bench.scaled(bench.rounds, 2)
    for number in range(rounds):
        for name, found in samples.items():
            bench.step(f"CPU of {name}, round {number + 1} of {rounds}")
            found.append(_cpu(bench, name))
    times = _times_h2load(CURL1, samples)
    wanted, passed = f"at most {MAX_TIMES_H2LOAD:g}", median(times) <= MAX_TIMES_H2LOAD
    bench.check(f"CPU of {CURL1}, times h2load", spread(times), wanted, passed)
    for name in samples:
        bench.rows[name] |= _row(name, samples)


def _cpu(bench: Bench, name: str) -> Cost:
    if name not in SUBJECTS:
        used, rate = h2load.cost(bench.upstream, bench.scaled(100_000, 30_000), name)
        return Cost(used, rate)
    count = bench.scaled(8_000, 3_000) if name == TREQ else bench.scaled(60_000, 12_000)
    return measure(bench, SUBJECTS[name], CPU(), count)


def _times_h2load(name: str, samples: dict[str, list[Cost]]) -> list[float]:
    pairs = zip(samples[name], samples[LIMITS[name]], strict=True)
    return [mine.used / limit.used for mine, limit in pairs]


def _row(name: str, samples: dict[str, list[Cost]]) -> dict[str, str]:
    mine = samples[name]
    row = {
        "pushes/s": f"{median(each.rate for each in mine):,.0f}",
        "CPU us a push": spread([each.used * 1e6 for each in mine]),
    }
    if name in LIMITS:
        row["times h2load"] = spread(_times_h2load(name, samples))
        row["lost"] = f"{sum(each.lost for each in mine)}"
        row["peak MB"] = f"{max(each.peak_memory for each in mine) / 1e6:.0f}"
    return row


def instructions(bench: Bench) -> None:
    """Count once for each: the count hardly varies. A quick run leaves out whom to compare with."""
    names = (CURL1, CURL2, FCM2) if bench.quick else (*SUBJECTS, H2LOAD1, H2LOAD2)
    found: dict[str, float] = {}
    for name in names:
        bench.step(f"instructions of {name}")
        found[name] = _instructions(bench, name)
        bench.rows[name]["instructions a push"] = f"{found[name]:,.0f}"
    what = "instructions a push, {}".format
    for name, limit in MAX_INSTRUCTIONS.items():
        bench.below(what(name), found[name], limit)
    if TREQ in found:
        part = found[CURL1] / found[TREQ]
        measured, passed = f"1/{1 / part:.1f}", part <= MAX_PART_OF_TREQ
        bench.check(f"{what(CURL1)}, of those of treq", measured, "at most 1/9", passed)


def _instructions(bench: Bench, name: str) -> float:
    if name not in SUBJECTS:
        few, many = (
            instructions_of(h2load.command(bench.upstream, count, name), bench.folder)
            for count in (1_000, 3_000)
        )
        return (many - few) / 2_000
    count = 1_000 if name == TREQ else bench.scaled(5_000, 2_500)
    return measure(bench, SUBJECTS[name], Callgrind(bench.folder), count).used
