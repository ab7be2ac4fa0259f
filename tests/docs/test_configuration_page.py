"""What docs/configuration.md shows is what happens."""

import re
from pathlib import Path

from tests.unit.config.test_mistakes import check

PAGE = (Path(__file__).parents[2] / "docs/configuration.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


def blocks(kind):
    return [text for found, text in BLOCKS if found == kind]


def test_the_errors_of_the_page(tmp_path):
    """All of them, in this order."""
    assert check(tmp_path, blocks("ini")[0]) == (1, blocks("text")[0].splitlines())


def test_a_secret_in_a_file_of_its_own(tmp_path):
    """It is found there."""
    (tmp_path / "secret").write_text("open-sesame\n", encoding="utf-8")
    (tmp_path / "secret").chmod(0o600)
    text = blocks("ini")[1].replace("/run/secrets/c2dm-password", "secret")
    assert check(tmp_path, text) == (0, ["config.ini: ok"])
