"""`make bench`: what the gateway costs, measured on one machine in one go."""

import argparse
import os
import signal
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from benchmarks.bench import Bench
from benchmarks.machine import CORES, description, missing_requirements
from benchmarks.parts import DEFAULT, PARTS, QUICK
from benchmarks.report import as_markdown
from benchmarks.upstream import run_upstream
from tests.support import processes


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the parts that are asked for; the status is 1 where something does not hold."""
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="PART", help=", ".join(PARTS))
    parser.add_argument("--quick", action="store_true", help="a minute or two, fewer figures")
    parser.add_argument("--rounds", type=int, default=5, help="pairs for the medians of CPU")
    options = parser.parse_args(arguments)
    parts = set(options.parts or (QUICK if options.quick else DEFAULT))
    if unknown := parts - PARTS.keys():
        parser.error(f"expected some of {', '.join(PARTS)}, not {', '.join(unknown)}")
    if missing := missing_requirements(parts):
        print("not installed:", *missing, sep="\n  ", file=sys.stderr)
        return 2
    machine = description()
    os.sched_setaffinity(0, CORES[:1])  # What is measured has another core.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    processes.adopt_orphans()
    try:
        with tempfile.TemporaryDirectory() as folder, run_upstream(Path(folder)) as upstream:
            bench = Bench(Path(folder), upstream, options.quick, options.rounds)
            for name in PARTS:
                if name in parts:
                    PARTS[name](bench)
            print(as_markdown(bench, machine))
    except KeyboardInterrupt:
        print("\ninterrupted; nothing is left behind", file=sys.stderr)
        return 130
    finally:
        processes.kill_all()
    return int(not bench.passed)


if __name__ == "__main__":
    sys.exit(main())
