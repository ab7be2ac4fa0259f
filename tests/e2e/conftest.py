"""An emulator, a browser, and where what it shows is kept."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from node2dm_tw.emulator.testing import push_emulator, push_emulator_process
from tests.e2e.browser import Browser, browser

__all__ = ["push_emulator", "push_emulator_process"]


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """One browser for all tests of a module."""
    with browser(tmp_path_factory.mktemp("browser")) as opened:
        yield opened


@pytest.fixture
def artefacts(tmp_path: Path) -> Path:
    """Where screenshots go: the folder that TEST_ARTEFACTS names, else one of the test's own."""
    folder = Path(os.environ.get("TEST_ARTEFACTS", tmp_path / "artefacts"))
    folder.mkdir(parents=True, exist_ok=True)
    return folder
