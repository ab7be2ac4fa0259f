"""Reading what callgrind wrote."""

from pathlib import Path

from benchmarks.callgrind import by_library, self_costs, total

OUTPUT = """\
# callgrind format
version: 1
positions: line
events: Ir
summary: 145

ob=(1) /usr/lib/libpython3.11.so.1.0
fl=(1) ceval.c
fn=(1) eval
10 20
+3 5
cob=(2) /usr/lib/libcurl.so.4
cfi=(2) multi.c
cfn=(2) perform
calls=2 40
12 100
* 10

ob=(2)
fl=(2)
fn=(2)
40 100
fn=(3) free
-2 10

totals: 145
"""


def test_a_function_is_charged_with_its_own_instructions_alone() -> None:
    """What it calls is charged to what is called; names that were given once are numbers later."""
    assert self_costs(OUTPUT.splitlines()) == {
        ("libpython3.11.so.1.0", "eval"): 35,
        ("libcurl.so.4", "perform"): 100,
        ("libcurl.so.4", "free"): 10,
    }


def test_libraries_are_added_up() -> None:
    """All functions of a library are one sum."""
    costs = by_library(self_costs(OUTPUT.splitlines()))
    assert costs == {"libpython3.11.so.1.0": 35, "libcurl.so.4": 110}


def test_the_total_is_read(tmp_path: Path) -> None:
    """It is the same as the sum of all functions."""
    file = tmp_path / "callgrind.out"
    file.write_text(OUTPUT)
    assert total(file) == sum(self_costs(OUTPUT.splitlines()).values()) == 145
