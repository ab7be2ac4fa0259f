"""What is printed."""

import json

from benchmarks.bench import Check, Outcome
from benchmarks.contenders import CURL1
from benchmarks.figures import Spread
from benchmarks.report import as_json, as_markdown, rows

OUTCOMES = {
    "cpu": Outcome({CURL1: {"cpu": Spread(35.5, 34.75, 36.06), "lost": 0}}),
    "instructions": Outcome(
        {CURL1: {"instructions": 231_352.6}},
        [Check("instructions a push", "231,353", "below 240,000", True)],
        {"counter": "callgrind"},
    ),
}


def test_parts_share_the_rows_of_the_table() -> None:
    """A contender has one row, whatever parts have measured it."""
    assert rows(OUTCOMES)[CURL1].keys() == {"cpu", "lost", "instructions"}


def test_the_report_names_figures_checks_and_the_counter() -> None:
    """Everything a reader needs is there: spread, bound, and how instructions were counted."""
    report = as_markdown(OUTCOMES, {"CPU": "one of a kind"})
    for text in ("CPU: one of a kind", "35.5 (34.8 to 36.1)", "231,353", "below 240,000", "holds"):
        assert text in report
    assert "counted by callgrind" in report


def test_columns_nobody_has_measured_are_left_out() -> None:
    """A part that did not run leaves no empty column."""
    assert "p99" not in as_markdown(OUTCOMES, {})


def test_a_table_is_aligned() -> None:
    """It can be read as text as well."""
    table = as_markdown(OUTCOMES, {}).split("\n\n")[0].splitlines()
    assert len(table) == 3
    assert len({len(line) for line in table}) == 1


def test_all_figures_are_json() -> None:
    """What was measured can be written down and compared later."""
    written = json.loads(json.dumps(as_json(OUTCOMES, {"CPU": "one"})))
    assert written["cpu"]["rows"][CURL1]["cpu"]["median"] == 35.5
    assert written["instructions"]["checks"][0]["holds"] is True
