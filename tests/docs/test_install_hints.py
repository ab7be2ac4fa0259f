"""A message that names a missing library also names a command that installs it, as it stands."""

import ast
import re
import shlex
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement

PACKAGE = Path(__file__).parents[2] / "node2dm_tw"


def texts(file: Path) -> list[str]:
    """Every text in the source of a module."""
    found = []
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        value = node.value if isinstance(node, ast.Constant) else None
        if isinstance(value, str | bytes):
            found.append(value if isinstance(value, str) else value.decode("latin-1"))
    return found


HINTS = {
    f"{file.relative_to(PACKAGE)}: {shown[1]}": shown[1]
    for file in sorted(PACKAGE.rglob("*.py"))
    for text in texts(file)
    for shown in re.finditer(r"pip install ('[^']*'|[^\s,;:)]+)", text)
}


def extras() -> dict[str, set[str]]:
    """The libraries of each extra, as a command names them."""
    found: dict[str, set[str]] = {}
    for line in metadata.requires("node2dm_tw") or ():
        requirement = Requirement(line)
        extra = re.search(r'extra == "(\w+)"', str(requirement.marker))
        if extra and extra[1] not in ("all", "dev"):
            chosen = f"[{','.join(sorted(requirement.extras))}]" if requirement.extras else ""
            found.setdefault(extra[1], set()).add(requirement.name + chosen)
    return found


@pytest.mark.parametrize("hint", HINTS)
def test_a_hint_names_the_libraries_of_an_extra(hint):
    """The package itself is on no index, so its extra by name would not be found."""
    assert set(shlex.split(HINTS[hint])) in extras().values()


def test_every_extra_has_a_hint():
    """Whoever lacks it is told."""
    named = {library for hint in HINTS.values() for library in shlex.split(hint)}
    assert named == set().union(*extras().values())
