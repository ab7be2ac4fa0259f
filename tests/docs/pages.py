"""The pages of the documentation, as blocks, links and names."""

import re
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path

import attrs

ROOT = Path(__file__).parents[2]

NOT_RUN, RUN_BY = "not run", "run by"

_BLOCK = re.compile(
    r"(?:^ *<!-- (?P<marker>not run|run by):(?P<note>.*?)-->\n)?"
    r"^(?P<indent> *)```(?P<language>[^\n`]*)\n(?P<text>.*?)^(?P=indent)```$",
    re.MULTILINE | re.DOTALL,
)


@attrs.frozen
class Block:
    """A fenced block.

    Args:
        place: page and line, for messages.
        language: its tag; empty where it has none.
        marker: `NOT_RUN` or `RUN_BY`; empty where no marker stands on the line before it.
        note: what the marker says: a reason, or a test.
    """

    place: str
    language: str
    text: str
    marker: str = ""
    note: str = ""


@attrs.define(slots=False)
class Page:
    """A page of the documentation.

    Args:
        name: its path, relative to the root of the repository.
    """

    name: str
    text: str

    @cached_property
    def blocks(self) -> list[Block]:
        return [
            Block(
                f"{self.name}:{self.text.count(chr(10), 0, found.start('indent')) + 1}",
                found["language"].strip(),
                re.sub(f"^{found['indent']}", "", found["text"], flags=re.MULTILINE),
                found["marker"] or "",
                (found["note"] or "").strip(),
            )
            for found in _BLOCK.finditer(self.text)
        ]

    @cached_property
    def prose(self) -> str:
        """The page without its fenced blocks and their markers."""
        return _BLOCK.sub("", self.text)

    @cached_property
    def anchors(self) -> set[str]:
        """What a link to a heading of this page may name, as GitHub makes it."""
        headings = re.findall(r"^#+ (.*)$", self.prose, re.MULTILINE)
        words = [re.sub(r"[^\w\- ]", "", heading.lower()) for heading in headings]
        return {heading.strip().replace(" ", "-") for heading in words}

    def links(self) -> Iterator[tuple[str, str]]:
        """Give path and anchor of each link within the repository; one of them may be empty."""
        for link in re.findall(r"\]\((?!\w+:)([^)\s]+)\)", self.prose):
            path, _, anchor = link.partition("#")
            yield path, anchor


def read_pages() -> list[Page]:
    """README.md, and everything in docs/."""
    files = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
    return [Page(str(file.relative_to(ROOT)), file.read_text(encoding="utf-8")) for file in files]


PAGES = read_pages()
