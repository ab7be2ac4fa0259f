"""docs/architecture.md: what it names exists, and no file of the package is missing."""

import ast
import re

from tests.docs.pages import ROOT
from tests.unit.test_architecture import ALLOWED

PACKAGE = ROOT / "node2dm_tw"
PAGE = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")
SOURCES = {file: file.read_text(encoding="utf-8") for file in sorted(PACKAGE.rglob("*.py"))}


def named_files():
    """Yield each name of a Python file on the page, and the file; None if there is none.

    A name without its folder is one in the folder of the path before it on the line.
    """
    for line in PAGE.split("\n"):
        folder = PACKAGE
        for name in re.findall(r"[\w/]+\.py\b", line):
            places = (place / name for place in (ROOT, PACKAGE, folder))
            file = next((place for place in places if place.is_file()), None)
            folder = file.parent if file else folder
            yield name, file


NAMED = list(named_files())


def test_every_file_named_exists():
    """The paths are those of the repository, or of the package."""
    assert [name for name, file in NAMED if file is None] == []
    assert len(NAMED) > 80


def test_no_file_of_the_package_is_missing():
    """A new one gets its place under "Files"; of the emulator the page has the folders."""
    listed = {file for _, file in NAMED}
    files = {file for file in SOURCES if file.name != "__init__.py"}
    emulator = {file for file in files if file.is_relative_to(PACKAGE / "emulator")}
    assert files - emulator - listed == set()


def test_the_table_of_packages_has_the_rules_that_hold():
    """Every package, with just what it may import."""
    rows = re.findall(r"^\| `(\w+)` \| .* \| (.*) \|$", PAGE, re.MULTILINE)
    shown = {package: set(re.findall(r"`([\w.]+)`", imports)) for package, imports in rows}
    assert shown == {**ALLOWED, "app": set()}
    parts = {file.relative_to(PACKAGE).parts[0].removesuffix(".py") for file in SOURCES}
    assert shown.keys() == parts - {"__init__"}


def members(node):
    """Return the names of a class's methods and declared attributes."""
    for each in node.body:
        if isinstance(each, ast.FunctionDef):
            yield each.name
        elif isinstance(each, ast.AnnAssign) and isinstance(each.target, ast.Name):
            yield each.target.id


MEMBERS = {
    f"{node.name}.{member}"
    for text in SOURCES.values()
    for node in ast.walk(ast.parse(text))
    if isinstance(node, ast.ClassDef)
    for member in members(node)
}


def test_every_method_named_exists():
    """`Class.member` is defined in the package."""
    named = re.findall(r"`([A-Z]\w+\.\w+)`", PAGE)
    assert set(named) <= MEMBERS
    assert named


def test_the_page_stays_short():
    """It is read from top to bottom."""
    assert PAGE.count("\n") <= 220
