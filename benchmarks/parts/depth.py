"""Whether a push costs more when a million others wait."""

from benchmarks.bench import Bench, Check, Outcome
from benchmarks.contenders import CURL1, SETUPS
from benchmarks.meters import instruction_meter
from benchmarks.pushing import Amount, measure

MOST = 1.1


def depth(bench: Bench) -> Outcome:
    """Count the instructions of pushes at both depths."""
    deep = bench.scaled(1_000_000, 100_000)
    counts = []
    # 1,000 to 2,000 wait while the shallow ones are measured.
    for amount in (Amount(2_000, 1_000), Amount(2_000, 1_000, before=deep - 2_000)):
        bench.progress.step(f"instructions with {amount.before + amount.count:,} queued")
        meter = instruction_meter(bench.folder)
        counts.append(measure(bench, SETUPS[CURL1], meter, amount).total)
    ratio = counts[1] / counts[0]
    return Outcome(
        checks=[
            Check(
                f"instructions a push with {deep:,} queued, times those with 1,000",
                f"{ratio:.3f} ({counts[1]:,.0f} / {counts[0]:,.0f})",
                f"below {MOST:g}",
                ratio < MOST,
            )
        ],
        details={"counter": meter.name},
    )
