"""What was measured, as tables, and the requirements."""

from collections.abc import Mapping, Sequence

from benchmarks.bench import Bench


def as_markdown(bench: Bench, machine: Mapping[str, str]) -> str:
    """Render everything for a reader."""
    columns = list(dict.fromkeys(column for cells in bench.rows.values() for column in cells))
    rows = [[name, *(row.get(each, "") for each in columns)] for name, row in bench.rows.items()]
    blocks = [
        "\n".join(f"{name}: {value}" for name, value in machine.items()),
        _table(["", *columns], rows),
        _table(["", "requirement", "limit", "measured"], bench.checks),
    ]
    for title, costs in bench.tables.items():
        rows = [[name, f"{cost:,.0f}"] for name, cost in costs.items()]
        blocks.append(_table([title, "instructions a push"], rows))
    return "\n\n".join(filter(None, blocks))


def _table(head: Sequence[str], body: Sequence[Sequence[str]]) -> str:
    """Write a table in Markdown, its columns aligned; nothing where it has no lines."""
    widths = [max(map(len, column)) for column in zip(head, *body, strict=True)]
    lines = [head, ["-" * width for width in widths], *body] if body else []
    return "\n".join(f"| {' | '.join(map(str.ljust, line, widths))} |" for line in lines)
