"""The file that keeps a pause over a restart."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from node2dm_tw.state.pause_file import PauseFile
from tests.support.odd_files import ODD, is_untouched

NOW = 1_700_000_000.0


def make(folder: Path, later: float = 0.0) -> PauseFile:
    return PauseFile(folder / "shop.pause", lambda: NOW + later)


@pytest.mark.parametrize(
    ("later", "left"), [(0.0, 300.0), (100.0, 200.0), (300.0, 0.0), (9_000.0, 0.0), (-50.0, 300.0)]
)
def test_what_is_left_of_a_pause(tmp_path, later, left):
    """By the wall clock; where that was set back, no more than was named."""
    make(tmp_path).keep(300.0)
    assert make(tmp_path, later).read() == left


def test_a_short_pause_is_not_written(tmp_path):
    """A restart takes as long."""
    make(tmp_path).keep(4.0)
    assert not list(tmp_path.iterdir())


def test_a_pause_that_is_over_leaves_no_file(tmp_path):
    """Whoever wrote it."""
    made = make(tmp_path)
    made.keep(300.0)
    later = make(tmp_path)
    later.read()
    later.forget()
    assert not list(tmp_path.iterdir())
    made.forget()


def test_a_disk_that_takes_nothing_is_no_fault_of_the_pause(tmp_path):
    """It is logged, and nothing is raised."""
    made = make(tmp_path / "missing")
    made.keep(300.0)
    made.forget()
    assert made.read() == 0.0


@pytest.mark.parametrize("kind", ODD)
def test_what_may_be_in_its_place(tmp_path, kind):
    """It is not used, and nothing hangs."""
    made = make(tmp_path)
    ODD[kind](made.path)
    assert made.read() == 0.0
    made.forget()
    assert is_untouched(made.path)


ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)
PAUSES = st.fixed_dictionaries({}, optional={"until": ANY_JSON, "named": ANY_JSON})


@given(st.binary() | (ANY_JSON | PAUSES).map(lambda content: json.dumps(content).encode()))
def test_any_content_is_a_pause_of_some_seconds_or_none(tmp_path_factory, content):
    """Never a negative one, and nothing is raised."""
    made = make(tmp_path_factory.mktemp("pause"))
    made.path.write_bytes(content)
    assert made.read() >= 0.0
