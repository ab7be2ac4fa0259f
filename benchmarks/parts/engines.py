"""What a push costs with each queue engine, and the start with a long queue on disk."""

import sqlite3
import time
from contextlib import closing
from pathlib import Path
from statistics import median

from benchmarks.bench import Bench, spread
from benchmarks.gateway import CURL1, SUBJECTS
from benchmarks.measure import Cost, measure
from benchmarks.meters import CPU
from benchmarks.parts.process import accept_first
from benchmarks.pushes import datagram
from node2dm_tw.core.push import split_at_colons
from node2dm_tw.queues.sqlite_file import FILE_NAME, open_database
from node2dm_tw.queues.sqlite_rows import to_row
from tests.support.waiting import wait_until

MAX_TIMES_MEMORY = 1.6
MAX_OPEN_SECONDS, MAX_SEND_SECONDS, MAX_MEGABYTES = 2.0, 3.0, 200


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


def restart(bench: Bench) -> None:
    """Start with a million pushes in the database."""
    count = bench.scaled(1_000_000, 100_000)
    bench.step(f"start with {count:,} pushes on disk")
    gateway = bench.make_gateway(queue="sqlite")
    _fill_database(gateway.folder / "state" / FILE_NAME, count)
    base, started = bench.upstream.requests(), time.monotonic()
    opened = accept_first(gateway)
    wait_until(lambda: bench.upstream.requests() - base > 1, "a push is sent", every=0.01)
    sent = time.monotonic() - started
    time.sleep(1)
    resident = gateway.memory("VmHWM") / 1e6
    gateway.stop()
    what = f"start with {count:,} pushes on disk"
    bench.below(f"{what}: seconds to first datagram accepted", opened, MAX_OPEN_SECONDS, "{:.2f}")
    bench.below(f"{what}: seconds to first push sent", sent, MAX_SEND_SECONDS, "{:.2f}")
    bench.below(f"{what}: resident", resident, MAX_MEGABYTES, "{:.0f} MB")


def _fill_database(path: Path, count: int) -> None:
    """Make the database that a gateway with one route leaves, `c2dm`."""
    path.parent.mkdir()
    open_database(path)
    now = time.time()
    rows = (
        to_row(1 << 48 | number, split_at_colons(datagram(number), 0.0), now)
        for number in range(1, count + 1)
    )
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("INSERT INTO route VALUES (1, 'c2dm')")
        connection.executemany("INSERT INTO push VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", rows)
