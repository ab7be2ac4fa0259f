"""Tests that share a fixture stay together."""

import os
import subprocess
import sys
from pathlib import Path

MODULE = """
import os, pathlib, pytest

@pytest.fixture(scope="module")
def shared():
    pathlib.Path(f"made-by-{os.getpid()}").touch()

@pytest.mark.parametrize("number", range(8))
def test_it(shared, number): pass
"""


def test_a_fixture_of_a_module_is_made_once(tmp_path):
    """Though two workers run the tests."""
    (tmp_path / "test_shared.py").write_text(MODULE, encoding="utf-8")
    (tmp_path / "test_single.py").write_text("def test_it(): pass\n", encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "tests.conftest", "--numprocesses=2"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "9 passed" in done.stdout, done.stdout
    assert len(list(tmp_path.glob("made-by-*"))) == 1
