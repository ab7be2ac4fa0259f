"""`make bench`: what the gateway costs, measured on one machine in one go."""

import argparse
import json
import signal
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from benchmarks.bench import Bench, Outcome
from benchmarks.contenders import LIMITS, SETUPS
from benchmarks.machine import description
from benchmarks.needs import ECHO_MODULE, needs
from benchmarks.parts import DEFAULT, PARTS, QUICK, steps_in
from benchmarks.progress import Progress
from benchmarks.report import as_json, as_markdown
from benchmarks.upstream import Upstream

MINUTES = 30
_ENDS = (signal.SIGINT, signal.SIGTERM, signal.SIGALRM)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the parts that are asked for; the status is 1 where something does not hold."""
    options = _parser().parse_args(arguments)
    parts = tuple(options.parts) or (QUICK if options.quick else DEFAULT)
    missing = [each for each in needs(options.node2dm) if not each.is_there]
    missing = [each for each in missing if each.wanted_by(parts)]
    for each in missing:
        print(f"{each.name} is missing: {each.remedy}", file=sys.stderr)
    if missing:
        return 2
    for number in _ENDS:
        signal.signal(number, _interrupted)
    signal.alarm(options.minutes * 60)
    try:
        outcomes = _run(options, parts)
    except KeyboardInterrupt:
        print("\ninterrupted; nothing is left behind", file=sys.stderr)
        return 130
    machine = description()
    print(as_markdown(outcomes, machine))
    if options.json is not None:
        text = json.dumps(as_json(outcomes, machine), indent=1)
        options.json.write_text(text + "\n", encoding="utf-8")
    return int(not all(check.holds for each in outcomes.values() for check in each.checks))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="PART", type=_part, help=", ".join(PARTS))
    parser.add_argument("--quick", action="store_true", help="a minute or two, fewer figures")
    parser.add_argument("--rounds", type=int, help="pairs for the medians of CPU")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there as well")
    parser.add_argument("--node2dm", type=Path, metavar="PATH", help="a checkout of node2dm")
    parser.add_argument("--minutes", type=int, default=MINUTES, help="end after so many")
    return parser


def _part(name: str) -> str:
    if name not in PARTS:
        raise argparse.ArgumentTypeError(f"one of {', '.join(PARTS)} is wanted, not {name!r}")
    return name


def _interrupted(number: int, _: object) -> None:
    for each in _ENDS:
        signal.signal(each, signal.SIG_IGN)  # Cleaning up is not to be interrupted.
    raise KeyboardInterrupt


def _run(options: argparse.Namespace, parts: Sequence[str]) -> dict[str, Outcome]:
    outcomes: dict[str, Outcome] = {}
    rounds = options.rounds or (2 if options.quick else 5)
    limits = len(set(LIMITS.values()))
    contenders = len(SETUPS) + limits + (options.node2dm is not None)
    progress = Progress(steps_in(parts, rounds, contenders))
    with tempfile.TemporaryDirectory(prefix="node2dm-bench.") as name:
        folder = Path(name)
        with Upstream(folder, ECHO_MODULE if ECHO_MODULE.exists() else None) as upstream:
            bench = Bench(folder, upstream, progress, options.quick, rounds, options.node2dm)
            try:
                for part in PARTS:
                    if part in parts:
                        outcomes[part] = PARTS[part](bench)
            finally:
                progress.end()
    return outcomes


if __name__ == "__main__":
    sys.exit(main())
