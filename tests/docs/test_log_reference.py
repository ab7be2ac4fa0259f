"""docs/operations.md names every line that the gateway logs."""

import ast
import re
from pathlib import Path

import pytest

from node2dm_tw.core.logs import LEVELS, PARTS

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "node2dm_tw"
PAGE = (ROOT / "docs/operations.md").read_text(encoding="utf-8")
NOT_THE_GATEWAY = ("emulator/", "client.py", "cli/")


def logged():
    """(event, level, part) of each call of a logger in the package."""
    found = set()
    for file in sorted(PACKAGE.rglob("*.py")):
        where = str(file.relative_to(PACKAGE))
        if where.startswith(NOT_THE_GATEWAY) or where == "core/logs.py":
            continue
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                level, of = node.func.attr, ast.unparse(node.func.value)
                if of in ("log", "self._throttle") and level in (*LEVELS, "failure"):
                    event = ast.literal_eval(node.args[0])
                    level = "critical" if level == "failure" else level
                    found.add((event, level, where.partition("/")[0].removesuffix(".py")))
    return found


def documented():
    rows = PAGE.partition("| line | level | part |")[2].partition("\n\n")[0].split("\n")[2:]
    cells = [[cell.strip() for cell in re.split(r"(?<!\\)\|", row.strip("|"))] for row in rows]
    assert all(meaning for *_, meaning in cells)
    return {(line.strip("`"), level, part) for line, level, part, _ in cells}


def test_every_line_that_is_logged_is_in_the_reference_and_no_other():
    """With its level, and the part whose level decides on it."""
    assert documented() == logged()


@pytest.mark.parametrize("part", PARTS)
def test_each_part_logs(part):
    """A level for it would have no effect otherwise."""
    assert part in {part for _, _, part in logged()}


def test_the_events_of_the_reference_are_bounded_to_what_a_person_can_read():
    """A line is one sentence."""
    assert all(len(event) < 160 for event, _, _ in logged())
    assert all("\n" not in event for event, _, _ in logged())


def test_every_alert_is_in_the_page():
    """With what to do about it."""
    rules = (ROOT / "etc/prometheus-rules.yml").read_text(encoding="utf-8")
    alerts = re.findall(r"alert: (\w+)", rules)
    assert alerts == re.findall(r"^\| `(Node2dm\w+)` \|", PAGE, re.MULTILINE)
