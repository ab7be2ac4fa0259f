"""What callgrind wrote: instructions in all, by library and by function."""

import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

_TOTAL = re.compile(r"^(?:totals|summary): (\d+)", re.MULTILINE)
_NAMED = re.compile(r"(ob|fn|cob|cfn)=(?:\((\d+)\))? ?(.*)")
_COST = re.compile(r"[+\-*\d]\S* (\d+)$")


def total(file: Path) -> int:
    """Read how many instructions a file is about."""
    found = _TOTAL.findall(file.read_text(encoding="utf-8"))
    return int(found[-1]) if found else 0


def self_costs(lines: Iterable[str]) -> Counter[tuple[str, str]]:
    """Count the instructions of each function, without those of what it calls.

    Args:
        lines: of callgrind's output; one event, and one position on a line.

    Returns:
        By (library, function).
    """
    names: dict[tuple[str, str], str] = {}
    costs: Counter[tuple[str, str]] = Counter()
    place = {"ob": "", "fn": ""}
    is_call = False
    for line in lines:
        if named := _NAMED.match(line):
            kind, number, name = named.groups()
            space = kind[-2:]
            # A name is written out once, and is its number from then on.
            name = names.setdefault((space, number), name) if number else name
            if kind == space:
                place[kind] = name
        elif line.startswith("calls="):
            is_call = True  # The line that follows is the cost of what is called.
        elif cost := _COST.match(line):
            if not is_call:
                costs[place["ob"].rpartition("/")[2], place["fn"]] += int(cost[1])
            is_call = False
    return costs


def by_library(costs: Counter[tuple[str, str]]) -> Counter[str]:
    """Add up the functions of each library."""
    libraries: Counter[str] = Counter()
    for (library, _), count in costs.items():
        libraries[library] += count
    return libraries
