"""Programs that tests call: each is listed, and a test without its program says so."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.tools import PROGRAMS

TESTS = Path(__file__).parents[1]


def test_every_program_that_a_test_calls_is_listed():
    """So that `make test` installs it."""
    sources = [file.read_text(encoding="utf-8") for file in TESTS.rglob("*.py")]
    called = {name for text in sources for name in re.findall(r"\btool\(\"(\w+)\"\)", text)}
    assert called <= set(PROGRAMS)


@pytest.mark.parametrize("is_ci", [False, True])
def test_a_program_that_is_not_there(tmp_path, is_ci):
    """Its test is skipped and the last lines say why; under CI=true it fails."""
    test = "tests/e2e/test_push.py::test_a_datagram_by_nc_reaches_the_phone_and_telnet_tells_of_it"
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", test],
        cwd=TESTS.parent,
        env={**os.environ, "PATH": str(tmp_path), "CI": "true" if is_ci else ""},
        capture_output=True,
        text=True,
        check=False,
    )
    reason = "nc is not installed (Debian: netcat-openbsd)"
    if is_ci:
        assert done.returncode == 1
        assert f"Failed: {reason}" in done.stdout
    else:
        assert done.returncode == 0, done.stdout
        assert f" 1 skipped: {reason} " in done.stdout
        assert f"\n{test}\n" in done.stdout
