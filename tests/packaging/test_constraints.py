"""constraints.txt: a tested version of everything that an installation may bring."""

from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

TEXT = (Path(__file__).parents[2] / "constraints.txt").read_text(encoding="ascii")


def test_every_requirement_has_a_version_that_it_allows():
    """Of the package, its extras, and its tests."""
    pairs = (line.split("==") for line in TEXT.splitlines())
    versions = {canonicalize_name(name): version for name, version in pairs}
    for requirement in map(Requirement, metadata.requires("node2dm_tw")):
        assert requirement.specifier.contains(versions[canonicalize_name(requirement.name)])


def test_nothing_in_it_belongs_to_one_machine():
    """No addresses, no files, no hashes: any index serves it."""
    assert not [line for line in TEXT.splitlines() if set(line) & set("/@: ")]
