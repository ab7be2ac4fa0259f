"""docs/troubleshooting.md leaves out no state, exit status, or number that rises."""

import re

from node2dm_tw.admin.health import HELD_BACK
from node2dm_tw.admin.lines import is_counter
from node2dm_tw.app.process import FAILED, STATUS
from node2dm_tw.core.snapshot import LaneState
from node2dm_tw.core.stats import COUNTERS
from tests.docs.pages import ROOT

TEXT = (ROOT / "docs/troubleshooting.md").read_text(encoding="utf-8")


def section(title: str) -> str:
    return re.split(r"^## ", TEXT.partition(f"## {title}\n")[2], flags=re.MULTILINE)[0]


def first_cells(title: str) -> str:
    """The first column of a section's tables."""
    return "\n".join(re.findall(r"^\| (.*?) \|", section(title), re.MULTILINE))


def test_every_state_is_explained():
    """With the alarm, and the connection that the page has lost."""
    found = first_cells("The state of a route")
    for state in (*(state.value for state in LaneState), HELD_BACK, "connection lost"):
        assert re.search(rf"`[^`]*{state}", found), state


def test_every_exit_status_is_explained():
    """Those of the gateway's own, and no status is invented."""
    found = set(re.findall(r"^\d+", first_cells("It ended by itself"), re.MULTILINE))
    assert found == {"0", "137", *map(str, (FAILED, *STATUS.values()))}


def test_every_counter_is_explained():
    """What it means when it rises; a name that is no line of the stats is a fault."""
    named = set(re.findall(r"`(\w+)[.`]", section("A number that increases")))
    assert {name for name in named if is_counter(name)} >= {
        *COUNTERS,
        *("total_errors", "messages_invalid", "handshakes", "reconnects", "udp_dropped"),
    }
    stats = (ROOT / "docs/stats.md").read_text(encoding="utf-8")
    shown = re.findall(r"^\| `(\w+)", section("A number that increases"), re.MULTILINE)
    assert not {name for name in shown if f"| `{name}` |" not in stats}


def test_every_line_of_the_log_that_it_shows_exists():
    """Each begins as one of the reference does."""
    log = (ROOT / "docs/operations.md").read_text(encoding="utf-8")
    events = re.findall(
        r"^\| `(.*?)` \| \w+ \|", log.partition("| line | level |")[2], re.MULTILINE
    )
    begins = {re.sub(r"^\{route\}: ", "", event).partition("{")[0].strip(" :") for event in events}
    shown = re.findall(r"^\| `(.*?)` \|", section("A line in the log"), re.MULTILINE)
    assert len(shown) > 5
    for line in shown:
        assert any(line.startswith(begin) for begin in begins if begin), line
