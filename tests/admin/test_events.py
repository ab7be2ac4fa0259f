"""Server-sent events: pages that read, read slowly, or not at all."""

import json

import pytest

from node2dm_tw.admin.events import MOST_PAGES, PATIENCE, Pages, event
from tests.admin.http import Connection, open_site


@pytest.fixture
def pages():
    return Pages(lambda: event("history", {"": []}))


def test_an_event_is_one_line_of_json():
    """Whatever the texts in it."""
    text = event("now", {"a": "one\ntwo\r\nevent: three\u2028"})
    assert text.startswith(b"event: now\ndata: {")
    assert text.endswith(b"}\n\n")
    assert text.count(b"\n") == 3
    assert json.loads(text.partition(b"data: ")[2])["a"].startswith("one\ntwo")


def open_page(pages):
    connection = Connection(open_site(pages=pages))
    connection.get("/events")
    return connection


def test_a_page_is_told_the_past_first_and_then_what_comes(pages):
    """In the form of server-sent events, with a wait of 2 s before it connects again."""
    connection = open_page(pages)
    assert connection.header("content-type") == "text/event-stream"
    assert b"retry: 2000\n\nevent: history\n" in connection.body
    pages.tell(event("now", 1))
    assert b"event: now\ndata: 1\n\n" in connection.transport.value()


def test_a_page_that_goes_is_forgotten(pages):
    """Nothing is kept of it."""
    connection = open_page(pages)
    assert len(pages) == 1
    connection.lose()
    assert len(pages) == 0
    pages.tell(event("now", 1))


def test_a_page_that_reads_slowly_misses_events_but_holds_none_up(pages):
    """Memory does not fill; once it reads, it is told again."""
    slow, fast = open_page(pages), open_page(pages)
    slow.transport.producer.pauseProducing()
    for _ in range(PATIENCE):
        pages.tell(event("now", 1))
    assert b"event: now" not in slow.transport.value()
    assert fast.transport.value().count(b"event: now") == PATIENCE
    slow.transport.producer.resumeProducing()
    pages.tell(event("now", 2))
    assert b"data: 2" in slow.transport.value()


def test_a_page_that_never_reads_is_let_go(pages):
    """After half a minute."""
    slow = open_page(pages)
    slow.transport.producer.pauseProducing()
    for _ in range(PATIENCE + 1):
        pages.tell(event("now", 1))
    assert slow.transport.disconnecting or slow.transport.disconnected


def test_a_hundred_pages_and_no_more(pages):
    """The next is told to come later; it finds room when one has gone."""
    connections = [open_page(pages) for _ in range(MOST_PAGES)]
    refused = open_page(pages)
    assert refused.status == 503
    assert refused.header("retry-after") == "60"
    connections[0].lose()
    assert open_page(pages).status == 200


def test_closing_lets_every_page_go(pages):
    """At the stop."""
    connections = [open_page(pages) for _ in range(3)]
    pages.close()
    assert all(connection.transport.disconnecting for connection in connections)
