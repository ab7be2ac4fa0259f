"""CONTRIBUTING.md names files, targets of make and tests that exist."""

import re
from pathlib import Path

from tests.docs.blocks import marker_faults
from tests.docs.pages import Page

ROOT = Path(__file__).parents[2]
PAGE = Page("CONTRIBUTING.md", (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8"))


def test_every_file_that_is_named_exists():
    """Below the root, or below the package where a step has named the package before."""
    named = set(re.findall(r"`([\w./]+/[\w./]*|[\w.]+\.(?:py|md|txt))`", PAGE.text))
    named |= set(re.findall(r"^pytest (\S+)", PAGE.text, re.MULTILINE))
    to_be_made = {name for name in named if re.search(r"NAME|SIGN_IN|build/", name)}
    existing = named - to_be_made
    places = [ROOT, ROOT / "node2dm_tw", ROOT / "node2dm_tw/providers"]
    assert len(existing) > 25
    assert [name for name in existing if not any((at / name).exists() for at in places)] == []


def test_every_name_of_the_code_that_is_named_exists():
    """Classes, and names with an underscore."""
    folders = (ROOT / "node2dm_tw", ROOT / "tests")
    code = "".join(file.read_text() for folder in folders for file in folder.rglob("*.py"))
    named = set(re.findall(r"`(?:Route\.)?([A-Z][a-z]\w+|\w*_\w+)`", PAGE.text))
    assert len(named) > 15
    assert [name for name in named if not re.search(rf"\b{name}\b", code)] == []


def test_make_has_every_target_that_is_named():
    """And every block says who runs it."""
    targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert set(re.findall(r"`make ([a-z-]+)", PAGE.prose)) <= {*targets}
    assert [fault for block in PAGE.blocks for fault in marker_faults(block)] == []
