"""What a push costs with each queue engine."""

from statistics import median

from benchmarks.bench import Bench, spread
from benchmarks.gateway import CURL1, SUBJECTS
from benchmarks.measure import Cost, measure
from benchmarks.meters import CPU

MAX_TIMES_MEMORY = 1.6


def engines(bench: Bench) -> None:
    """Run both engines once a round, on the same disk; compare those of one round."""
    samples: dict[str, list[Cost]] = {"memory": [], "sqlite": []}
    rounds = bench.scaled(bench.rounds, 2)
    for number in range(rounds):
        for name, found in samples.items():
            bench.step(f"CPU with queue = {name}, round {number + 1} of {rounds}")
            subject = {**SUBJECTS[CURL1], "queue": name}
            found.append(measure(bench, subject, CPU(), bench.scaled(60_000, 12_000)))
    for name, found in samples.items():
        used = spread([each.used * 1e6 for each in found])
        bench.rows[f"queue = {name}"] |= {
            "pushes/s": f"{median(each.rate for each in found):,.0f}",
            "CPU us a push": used,
        }
    times = [
        sqlite.used / memory.used
        for memory, sqlite in zip(samples["memory"], samples["sqlite"], strict=True)
    ]
    bench.check(
        "CPU of a push, queue = sqlite, times queue = memory",
        spread(times, ".2f"),
        f"at most {MAX_TIMES_MEMORY:g}",
        median(times) <= MAX_TIMES_MEMORY,
    )
