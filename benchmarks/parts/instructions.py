"""User-space instructions a push."""

from benchmarks import h2load
from benchmarks.bench import Bench, Check, Outcome, Value
from benchmarks.contenders import CURL1, CURL2, FCM2, H2LOAD1, H2LOAD2, SETUPS, TREQ
from benchmarks.meters import instruction_meter, instructions_of
from benchmarks.pushing import Amount, measure

MOST = {CURL1: 240_000, CURL2: 260_000}
MOST_OF_TREQ = 1 / 9


def instructions(bench: Bench) -> Outcome:
    """Count once for each: the count hardly varies. A quick run leaves out whom to compare with."""
    rows: dict[str, dict[str, Value]] = {}
    amounts = {name: Amount(2_000, bench.scaled(5_000, 2_500)) for name in (*MOST, FCM2)}
    if not bench.quick:
        amounts[TREQ] = Amount(1_000, 1_000)
    counter = ""
    for name, amount in amounts.items():
        bench.progress.step(f"instructions of {name}")
        meter = instruction_meter(bench.folder)
        rows[name] = {"instructions": measure(bench, SETUPS[name], meter, amount).used}
        counter = meter.name
    for name in () if bench.quick else (H2LOAD1, H2LOAD2):
        bench.progress.step(f"instructions of {name}")
        rows[name] = {"instructions": _of_h2load(bench, http2=name == H2LOAD2)}
    return Outcome(rows, _checks(rows), {"counter": counter})


def _of_h2load(bench: Bench, *, http2: bool) -> float:
    few, many = (
        instructions_of(h2load.command(bench.upstream, count, http2=http2), bench.folder)
        for count in (1_000, 3_000)
    )
    return (many - few) / 2_000


def _checks(rows: dict[str, dict[str, Value]]) -> list[Check]:
    counts = {name: float(str(row["instructions"])) for name, row in rows.items()}
    checks = [
        Check(
            f"instructions a push, {name}",
            f"{counts[name]:,.0f}",
            f"below {most:,}",
            counts[name] < most,
        )
        for name, most in MOST.items()
    ]
    if TREQ in counts:
        part = counts[CURL1] / counts[TREQ]
        what = f"instructions a push, {CURL1}, of those of treq"
        checks.append(Check(what, f"1/{1 / part:.1f}", "at most 1/9", part <= MOST_OF_TREQ))
    return checks
