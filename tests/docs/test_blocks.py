"""Every fenced block of README.md and docs/ works, or says why no test runs it."""

import re

import pytest

from tests.docs.blocks import content_faults, marker_faults
from tests.docs.demo import Demo
from tests.docs.pages import NOT_RUN, PAGES, ROOT, Page

UNMARKED = [page for page in PAGES if any(not block.marker for block in page.blocks)]
TRIED_BY_NOBODY = [block for page in PAGES for block in page.blocks if block.marker == NOT_RUN]


@pytest.mark.parametrize("page", UNMARKED, ids=lambda page: page.name)
def test_every_block_works(page, make_gateway):
    """Those without a marker, in their order, in one folder with one demo gateway."""
    demo = Demo(make_gateway())
    faults = [
        f"{block.place}: {fault}"
        for block in page.blocks
        if not block.marker
        for fault in content_faults(block, demo)
    ]
    assert not faults, "\n".join(faults)
    if demo.gateway.process is not None:  # the demo has not the routes of every page
        stats = demo.gateway.stats()
        invalid = stats["messages_invalid"] - stats.get("messages_invalid.unknown_route", 0)
        assert invalid == 0, demo.gateway.log


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_block_has_a_language_and_who_runs_it_exists(page):
    """A marker gives a reason, or names a test; it stands right before its block.

    Code that is only indented has neither, so there is none.
    """
    faults = [f"{block.place}: {fault}" for block in page.blocks for fault in marker_faults(block)]
    assert not faults, "\n".join(faults)
    assert not re.search(r"^ *<!-- *(?:not run|run by)", page.prose, re.MULTILINE)
    assert re.findall(r"(?<=\n\n)    .*", page.prose) == []


@pytest.mark.parametrize("block", TRIED_BY_NOBODY, ids=lambda block: block.place)
def test_what_is_not_run(block):
    """Nothing is tested here: the summary of the run lists these blocks with their reasons."""
    pytest.skip(f"not run: {block.note}")


def test_every_target_of_make_exists():
    """`make` is called with targets that the Makefile has."""
    known = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    for page in PAGES:
        named = re.findall(r"(?:^|`)make ([a-z][\w-]*)", page.text, re.MULTILINE)
        assert set(named) <= set(known), page.name


def one_block(language, text, marker=""):
    """A page with one block, in a list so that it is indented."""
    lines = [f"<!-- {marker} -->"] * bool(marker) + [f"```{language}", *text.split("\n"), "```"]
    (block,) = Page("page.md", "- item\n\n" + "".join(f"  {line}\n" for line in lines)).blocks
    return block


@pytest.mark.parametrize(
    ("block", "fault"),
    [
        (one_block("", "x"), "no language"),
        (one_block("cobol", "x"), "nothing runs cobol"),
        (one_block("sh", "true", "not run:"), "no reason"),
        (one_block("sh", "true", "run by: tests/docs/test_blocks.py::test_no"), "no test"),
        (one_block("sh", "true", "run by: tests/docs/no.py::test_no"), "no test"),
        (one_block("sh", "true", "run by: tests/docs/test_blocks.py"), "no test"),
        (one_block("sh", "false"), "exit status 1"),
        (one_block("sh", "false | true"), "exit status 1"),
        (one_block("sh", "sudo true"), "for sudo: the block needs a marker"),
        (one_block("sh", "true >/etc/x"), "for >/etc/: the block needs a marker"),
        (one_block("python", "import no_such_module"), "no_such_module"),
        (one_block("ini", "max_que = 5"), "max_que"),
        (one_block("ini", "[fcm]\nproject_rate = 5"), "project_rate"),
        (one_block("json", "{'a': 1}"), "Expecting"),
        (one_block("json", '{"token": "a", "data": {"google": "b"}}'), "would not take this push"),
        (one_block("log", "c2dm: all is well"), "logs no such line"),
    ],
)
def test_what_is_wrong_is_found(block, fault, make_gateway):
    """Each kind of fault that a block can have."""
    faults = marker_faults(block) or content_faults(block, Demo(make_gateway()))
    assert fault in "\n".join(faults)


@pytest.mark.parametrize(
    "block",
    [
        one_block("sh", "node2dm-push demo-phone hello --collapse-key k\ntest -d run/emulator"),
        one_block("python", "if True:\n    import node2dm_tw"),
        one_block("ini", "[fcm:shop]\nservice_account = /etc/node2dm/shop.json"),
        one_block("json", '{}\n{"token": "a", "collapse_key": "b", "delay_while_idle": true}'),
        one_block("log", "2026-11-27T10:00:00+0000 [delivery#info] c2dm: signed in"),
        one_block("text", "anything"),
    ],
)
def test_what_is_right_passes(block, make_gateway):
    """Parts of a configuration are completed, and lines of the log may have their time."""
    assert marker_faults(block) == []
    assert content_faults(block, Demo(make_gateway())) == []
