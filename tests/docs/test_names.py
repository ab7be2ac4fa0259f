"""What README.md and docs/ name exists: pages and headings, options, stats, metrics, alerts."""

import re
import runpy
from pathlib import Path

import pytest

from tests.docs.pages import PAGES, ROOT, Page

OPTIONS = {
    section: {row.name for row in rows}
    for section, rows in runpy.run_path(str(ROOT / "docs/generate.py"))["sections"]().items()
}
SECTIONS = {*OPTIONS}
BY_NAME = {page.name: page for page in PAGES}


def _rows(page: str, pattern: str) -> set[str]:
    """The first cells of a page's tables that fit a pattern."""
    return set(re.findall(rf"^\| `({pattern})` \|", BY_NAME[page].text, re.MULTILINE))


STATS = _rows("docs/stats.md", r"[a-z]\w+")
METRICS = _rows("docs/metrics.md", r"node2dm_\w+")
ALERTS = set(
    re.findall(r"alert: (\w+)", (ROOT / "etc/prometheus-rules.yml").read_text(encoding="utf-8"))
)


def link_faults(page: Page) -> list[str]:
    """Return the links of a page that lead nowhere."""
    faults = []
    for path, anchor in page.links():
        file = (ROOT / page.name).parent / path
        if path and not file.exists():
            faults.append(path)
        elif anchor:
            other = Page(path, file.read_text(encoding="utf-8")) if path else page
            faults += [] if anchor in other.anchors else [f"{path}#{anchor}"]
    return faults


def option_faults(page: Page) -> list[str]:
    """Return what a page writes as `option = value` or `[section] option` and is no option."""
    faults = []
    for section, name in re.findall(r"`\[(\w+)(?::\w+)?\] (\w+)[^`]*`", page.prose):
        if _plain(name) not in OPTIONS.get(section, {name}):
            faults.append(f"[{section}] {name}")
    known = set().union(*OPTIONS.values())
    named = re.findall(r"`([a-z_]+) =(?! ?[\[=])[^`]*`", page.prose)
    return faults + [name for name in named if _plain(name) not in known]


def _plain(name: str) -> str:
    return name.removesuffix("_file")


def name_faults(page: Page) -> list[str]:
    """Return the stats, metrics and alerts that a page names and do not exist."""
    stats = set(re.findall(r"\b(?:messages|callbacks)_[a-z_]+\b", page.text))
    metrics = set(re.findall(r"`(node2dm_[a-z_]+)`", page.text)) - {"node2dm_tw"}
    alerts = set(re.findall(r"`(Node2dm\w+)`", page.text))
    return sorted((stats - STATS) | (metrics - METRICS) | (alerts - ALERTS))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_what_a_page_names_exists(page):
    """Links, options, stats, metrics and alerts."""
    assert link_faults(page) == []
    assert option_faults(page) == []
    assert name_faults(page) == []


def test_every_page_is_linked_from_another():
    """Or nobody finds it."""
    linked = {
        (Path(page.name).parent / path).as_posix()
        for page in PAGES
        for path, _ in page.links()
        if Path(page.name).name != path
    }
    assert {page.name for page in PAGES} - linked == {"README.md"}


@pytest.mark.parametrize(
    "text",
    [
        "[a](docs/no.md)",
        "[a](docs/stats.md#no)",
        "[a](#no)",
        "`max_que = 5`",
        "`[fcm] username`",
        "`messages_lost`",
        "`node2dm_lost_total`",
        "`Node2dmLost`",
    ],
)
def test_what_does_not_exist_is_found(text):
    """Each kind."""
    page = Page("README.md", f"# Title\n\n{text}\n")
    assert len(link_faults(page) + option_faults(page) + name_faults(page)) == 1


def test_what_exists_is_found():
    """Or nothing would be held against anything."""
    assert {"node2dm", "c2dm", "fcm", "callback", "statsd", "emulator"} <= SECTIONS
    assert min(len(STATS), len(METRICS), len(ALERTS)) > 10
    text = "# A b\n\n[a](#a-b) [c](docs/stats.md#the-stats) `max_age = 5` `[fcm] max_age` `fcm`"
    page = Page("README.md", text)
    assert link_faults(page) + option_faults(page) + name_faults(page) == []
