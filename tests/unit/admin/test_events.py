"""Server-sent events: streams that are read, read slowly, or not at all."""

import json

import pytest

from node2dm_tw.admin.events import MAX_SKIPPED, MAX_STREAMS, EventStreams, event
from tests.unit.admin.http import Connection, open_site


@pytest.fixture
def streams():
    return EventStreams(lambda: event("history", {"": []}))


def test_an_event_is_one_line_of_json():
    """Whatever the texts in it."""
    text = event("now", {"a": "one\ntwo\r\nevent: three\u2028"})
    assert text.startswith(b"event: now\ndata: {")
    assert text.endswith(b"}\n\n")
    assert text.count(b"\n") == 3
    assert json.loads(text.partition(b"data: ")[2])["a"].startswith("one\ntwo")


def open_stream(site):
    return Connection(site).get("/events")


def is_open(connection):
    return not connection.transport.disconnecting


def test_a_stream_begins_with_the_past_and_goes_on_with_what_comes(streams):
    """In the form of server-sent events, with a wait of 2 s before a page connects again."""
    connection = open_stream(open_site(streams=streams))
    assert connection.header("content-type") == "text/event-stream"
    assert b"retry: 2000\n\nevent: history\n" in connection.body
    streams.send(event("now", 1))
    assert b"event: now\ndata: 1\n\n" in connection.transport.value()


def test_a_stream_whose_client_goes_is_forgotten(streams):
    """Nothing is kept of it."""
    connection = open_stream(open_site(streams=streams))
    assert len(streams) == 1
    connection.lose()
    assert len(streams) == 0
    streams.send(event("now", 1))


@pytest.mark.parametrize("way", ["it closes its side", "it sends more"])
def test_a_stream_ends_when_its_client_does_anything_but_read(streams, way):
    """So that its end is noticed, and nothing it sends is kept."""
    connection = open_stream(open_site(streams=streams))
    assert connection.transport.is_reading
    if way == "it sends more":
        connection.protocol.dataReceived(b"GET /stats HTTP/1.1\r\n\r\n")
    else:
        connection.protocol.readConnectionLost()
    assert connection.transport.disconnected


def test_a_stream_lasts(streams):
    """An hour without anything but events closes none."""
    site = open_site(streams=streams)
    connection = open_stream(site)
    for _ in range(360):
        site.reactor.advance(10)
        streams.send(event("now", 1))
    assert is_open(connection)


def test_a_stream_skips_events_while_its_client_reads_nothing(streams):
    """Memory does not fill, nobody else waits; once the client reads, it gets the next one."""
    site = open_site(streams=streams)
    slow, fast = open_stream(site), open_stream(site)
    slow.transport.producer.pauseProducing()
    for _ in range(MAX_SKIPPED):
        streams.send(event("now", 1))
    assert b"event: now" not in slow.transport.value()
    assert fast.transport.value().count(b"event: now") == MAX_SKIPPED
    slow.transport.producer.resumeProducing()
    streams.send(event("now", 2))
    assert b"data: 2" in slow.transport.value()


def test_a_stream_whose_client_never_reads_is_closed(streams):
    """After half a minute, by force."""
    slow = open_stream(open_site(streams=streams))
    slow.transport.producer.pauseProducing()
    for _ in range(MAX_SKIPPED + 1):
        streams.send(event("now", 1))
    assert slow.transport.disconnected


@pytest.mark.parametrize("number", [0, 57, MAX_STREAMS - 1])
@pytest.mark.parametrize("sign", ["it skips events", "its kernel has no space"])
def test_for_one_stream_too_many_the_one_read_least_gives_way(streams, number, sign):
    """Wherever it stands, and also if its kernel still took everything."""
    site = open_site(streams=streams)
    connections = [open_stream(site) for _ in range(MAX_STREAMS)]
    if sign == "it skips events":
        connections[number].transport.producer.pauseProducing()
    else:
        connections[number].transport.socket.window -= 1_000
    streams.send(event("now", 1))
    newest = open_stream(site)
    assert newest.status == 200
    assert [c for c in connections if not is_open(c)] == [connections[number]]
    assert len(streams) == MAX_STREAMS
    connections[number].lose()
    assert len(streams) == MAX_STREAMS
    streams.send(event("now", 2))
    assert b"data: 2" in newest.transport.value()


def test_of_streams_read_alike_the_newest_gives_way(streams):
    """Also where events are on their way to the older ones."""
    site = open_site(streams=streams)
    connections = [open_stream(site) for _ in range(MAX_STREAMS)]
    streams.send(event("now", 1))
    for connection in connections[:50]:
        connection.transport.socket.window -= 2 * len(event("now", 1))
    open_stream(site)
    assert [c for c in connections if not is_open(c)] == connections[-1:]


def test_what_cannot_be_rendered_opens_no_stream():
    """The client is told so, and nothing is left."""
    broken = EventStreams([].pop)
    assert open_stream(open_site(streams=broken)).status == 500
    assert len(broken) == 0


def test_closing_ends_every_stream(streams):
    """At the stop."""
    site = open_site(streams=streams)
    connections = [open_stream(site) for _ in range(3)]
    streams.close()
    assert all(connection.transport.is_closed for connection in connections)
