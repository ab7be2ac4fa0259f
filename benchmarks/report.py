"""What was measured, as a table, a list of what must hold, and JSON."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import attrs

from benchmarks.bench import Check, Outcome, Value
from benchmarks.figures import Spread


@attrs.frozen
class Column:
    """A column of the table: its title, and how it writes a value."""

    title: str
    write: Callable[[Any], str]


def _with_spread(form: str) -> Callable[[Spread], str]:
    return lambda value: f"{value.median:{form}} ({value.least:{form}} to {value.greatest:{form}})"


COLUMNS: Mapping[str, Column] = {
    "rate": Column("pushes/s", lambda value: f"{value.median:,.0f}"),
    "cpu": Column("CPU us a push", _with_spread(".1f")),
    "x_h2load": Column("times h2load", _with_spread(".1f")),
    "instructions": Column("instructions a push", "{:,.0f}".format),
    "lost": Column("lost", "{:,.0f}".format),
    "p50": Column("p50 ms", "{:.1f}".format),
    "p99": Column("p99 ms", "{:.1f}".format),
    "peak_memory": Column("peak MB", lambda value: f"{value / 1e6:.0f}"),
}


def rows(outcomes: Mapping[str, Outcome]) -> dict[str, dict[str, Value]]:
    """Put together what all parts found of each contender."""
    merged: dict[str, dict[str, Value]] = {}
    for outcome in outcomes.values():
        for name, values in outcome.rows.items():
            merged.setdefault(name, {}).update(values)
    return merged


def as_markdown(outcomes: Mapping[str, Outcome], machine: Mapping[str, str]) -> str:
    """Render everything for a reader."""
    blocks = [[f"{name}: {value}" for name, value in machine.items()]]
    table = rows(outcomes)
    if table:
        blocks.append(_table(table))
    checks = [check for outcome in outcomes.values() for check in outcome.checks]
    if checks:
        blocks.append(_lines(["", "requirement", "limit", "measured"], map(_check, checks)))
    counter = {outcome.details.get("counter") for outcome in outcomes.values()} - {None}
    if counter:
        blocks.append([f"Instructions were counted by {', '.join(sorted(map(str, counter)))}."])
    for title, costs in outcomes["steps"].details.items() if "steps" in outcomes else ():
        cells = ([name, f"{cost:,.0f}"] for name, cost in costs.items())
        blocks.append(_lines([title, "instructions a push"], cells))
    return "\n\n".join("\n".join(block) for block in blocks if block)


def as_json(outcomes: Mapping[str, Outcome], machine: Mapping[str, str]) -> dict[str, Any]:
    """Give everything as JSON can say it."""
    return {"machine": dict(machine)} | {
        name: attrs.asdict(outcome) for name, outcome in outcomes.items()
    }


def _table(table: Mapping[str, Mapping[str, Value]]) -> list[str]:
    columns = {
        name: column
        for name, column in COLUMNS.items()
        if any(name in values for values in table.values())
    }
    cells = (
        [name, *(_cell(column, values.get(key)) for key, column in columns.items())]
        for name, values in table.items()
    )
    return _lines(["", *(column.title for column in columns.values())], cells)


def _cell(column: Column, value: Value | None) -> str:
    return "" if value is None else column.write(value)


def _check(check: Check) -> list[str]:
    return ["holds" if check.holds else "FAILS", check.what, check.wanted, check.measured]


def _lines(head: Sequence[str], body: Any) -> list[str]:
    """Write a table in Markdown, its columns aligned."""
    lines = [list(head), *body]
    widths = [max(len(line[i]) for line in lines) for i in range(len(head))]
    written = [
        "| "
        + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        + " |"
        for line in lines
    ]
    rule = "|" + "|".join("-" * (width + 2) for width in widths) + "|"
    return [written[0], rule, *written[1:]]
