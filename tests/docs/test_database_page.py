"""What docs/database.md shows works on a database of the gateway."""

import subprocess
from pathlib import Path

from node2dm_tw.queues.sqlite_file import open_database
from tests.docs.pages import RUN_BY, Page
from tests.support.queue_database import ids, make_database
from tests.support.tools import tool

PAGE = Page("database.md", (Path(__file__).parents[2] / "docs/database.md").read_text("utf-8"))


def test_the_commands_of_the_page(tmp_path):
    """They show what waits, and the database is whole after them."""
    tool("sqlite3")
    (tmp_path / "state").mkdir()
    path = make_database(tmp_path / "state/queue.sqlite", 50)
    shown, line, _ = (
        subprocess.run(
            ["sh", "-e", "-c", block.text],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        ).stdout
        for block in PAGE.blocks
        if block.marker == RUN_BY
    )
    assert "│ c2dm │ 50      │" in shown
    assert line.startswith("token-7:key:7 ")
    assert open_database(path).aside is None
    assert ids(path) == list(range(50))
