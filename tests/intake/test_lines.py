"""Bytes to pushes on the queue of their route."""

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.logger import capturedLogs, formatEvent

from node2dm_tw.push import InvalidPush
from tests.intake.support import NOW, Intake


@pytest.mark.parametrize(
    ("datagram", "expected"),
    [
        (b"a:b:c", {"shop": [(b"a", b"b", b"c")]}),
        (b"a:b:", {"shop": [(b"a", b"b", b"")]}),
        (b"a:b:c:d|e", {"shop": [(b"a", b"b", b"c:d|e")]}),
        (b"a:b|c:d", {"shop": [(b"a", b"b|c", b"d")]}),
        (b"a:b:c\r", {"shop": [(b"a", b"b", b"c\r")]}),
        ("a:b:\u2028\x85".encode(), {"shop": [(b"a", b"b", "\u2028\x85".encode())]}),
        (b"news|a:b:c", {"news": [(b"a", b"b", b"c")]}),
        (b"n|a:b:c", {"news": [(b"a", b"b", b"c")]}),
        (b"\na:b:c\n\n\nn|d:e:f\n", {"shop": [(b"a", b"b", b"c")], "news": [(b"d", b"e", b"f")]}),
    ],
)
def test_a_datagram_is_lines_and_each_finds_its_route(datagram, expected):
    """LF alone ends a line, `|` counts only before the first colon, empty lines are skipped."""
    intake = Intake()
    assert intake.got(datagram) == expected
    count = sum(map(len, expected.values()))
    received = intake.shop.stats.messages_received + intake.news.stats.messages_received
    assert (received, intake.stats.invalid.total()) == (count, 0)


def test_the_json_form_names_its_route_inside():
    """Without one it goes where a line without one goes."""
    intake = Intake()
    for route in ("shop", "news", "n"):
        line = b'{"route": "%s", "token": "a", "collapse_key": "b"}' % route.encode()
        assert list(intake.got(line)) == ["news" if route == "n" else route]
    assert list(intake.got(b'{"token": "a", "collapse_key": "b"}')) == ["shop"]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"a", "colons"),
        (b"a:b", "colons"),
        (b"|a:b:c", "unknown_route"),
        (b"SHOP|a:b:c", "unknown_route"),
        (b"nowhere|a:b:c", "unknown_route"),
        (b'{"route": "nowhere", "token": "a", "collapse_key": "b"}', "unknown_route"),
        (b'{"route": "\\ud800", "token": "a", "collapse_key": "b"}', "unknown_route"),
        (b"shop|shop|a:b:c", None),
        (b":b:c", "token"),
        (b"shop|:b:c", "token"),
        (b"a::c", "collapse_key"),
        (b'{"token": "a"}', "collapse_key"),
        (b"a:b:\xff", "utf8"),
        (b'{"token": "a", "collapse_key": "b", "priority": "high"}', "unsupported"),
        (b"{", "json"),
        (b"", "empty"),
        (b"\n\n", "empty"),
        (b"\r", "colons"),
    ],
)
def test_what_is_no_push_is_counted_by_its_reason(line, reason):
    """And was never received; it does not hinder the lines beside it."""
    intake = Intake()
    if reason is None:
        assert intake.got(line) == {"shop": [(b"shop|a", b"b", b"c")]}
        return
    assert intake.got(line) == {}
    assert intake.stats.invalid == {reason: 1}
    if line.strip(b"\n"):
        assert intake.got(b"x:y:1\n" + line + b"\nx:y:2") == {
            "shop": [(b"x", b"y", b"1"), (b"x", b"y", b"2")]
        }
        assert intake.stats.invalid == {reason: 2}
    totals = intake.stats.snapshot()["totals"]
    assert totals["messages_received"] == (2 if line.strip(b"\n") else 0)


class FullDisk:
    """A queue that cannot keep anything."""

    def put(self, pushes):
        raise OSError("no space left")


def test_a_queue_that_fails_does_not_stop_the_others():
    """What is for another route is queued; the fault is logged."""
    intake = Intake()
    intake.lines.default = attrs.evolve(intake.shop, queue=FullDisk())
    with capturedLogs() as events:
        intake.lines.datagram(b"a:b:1\nn|a:b:2", "127.0.0.1")
    assert [push.payload for push in intake.news.queue.pushes] == [b"2"]
    assert [formatEvent(event) for event in events] == ["shop: pushes could not be queued"]


def test_datagrams_that_come_together_are_queued_together():
    """Each route gets its own, in their order and at once."""
    intake = Intake()
    intake.lines.datagrams([(line, "127.0.0.1") for line in (b"a:b:1\nn|a:b:2", b"", b"a:b:3")])
    for route, expected in ((intake.shop, [b"1", b"3"]), (intake.news, [b"2"])):
        assert [push.payload for push in route.queue.pushes] == expected
        assert (route.queue.puts, route.stats.messages_received) == (1, len(expected))
    assert intake.stats.invalid == {"empty": 1}


def test_the_receipt_time_is_kept():
    """By the wall clock, since it outlives the process."""
    intake = Intake()
    intake.lines.datagram(b"a:b:c", "x")
    (push,) = intake.shop.queue.pushes
    assert push.received == NOW


def test_faults_are_logged_once_a_second():
    """With source and size, never with the bytes themselves."""
    intake = Intake()
    with capturedLogs() as events:
        for _ in range(1_000):
            intake.lines.datagram(b"hush", "192.0.2.1")
        intake.clock.advance(1)
        intake.lines.datagram(b"hush:b:\xff", "192.0.2.2")
    assert [formatEvent(event) for event in events] == [
        "4 bytes from 192.0.2.1 are no push: colons",
        "8 bytes from 192.0.2.2 are no push: utf8 (999 more like it were not logged)",
    ]


PARTS = (
    *(b":", b"|", b"\n", b"\r", b"{", b"}", b"[", b",", b'"'),
    *(b"shop", b"n", b'{"token":"a"', b'"route":', b'"data":'),
    *(b"\\ud800", b"\xff", "ü".encode(), b"\x00"),
)
NEAR_MISSES = st.lists(st.sampled_from(PARTS), max_size=40).map(b"".join)


@given(st.binary(max_size=300) | NEAR_MISSES)
def test_arbitrary_bytes_are_pushes_or_counted(datagram):
    """Every line that is not empty ends in exactly one of the two, and nothing is raised."""
    intake = Intake()
    intake.lines.datagram(datagram, "127.0.0.1")
    lines = [line for line in datagram.split(b"\n") if line]
    received = intake.shop.stats.messages_received + intake.news.stats.messages_received
    assert received + intake.stats.invalid.total() == max(1, len(lines))
    assert received == len(intake.shop.queue.pushes) + len(intake.news.queue.pushes)


@given(st.binary(max_size=100) | NEAR_MISSES)
def test_nothing_but_invalid_push_escapes_the_parser(line):
    """A push that is read gives back its line's parts."""
    intake = Intake()
    try:
        route, push = intake.lines.read(line, NOW)
    except InvalidPush:
        return
    assert route in (intake.shop, intake.news)
    assert push.device
    assert push.collapse_key
    assert isinstance(push.data, dict)
    if not push.is_json:
        assert line.endswith(b":".join((push.device, push.collapse_key, push.payload)))


def test_the_deepest_nesting_that_json_can_read_is_counted():
    """Near the limit of the stack nothing but InvalidPush escapes either."""
    intake = Intake()
    for levels in range(940, 1_000):
        deep = b'{"a":' * levels + b"1" + b"}" * levels
        line = b'{"token":"a","collapse_key":"b","notification":' + deep + b"}"
        with pytest.raises(InvalidPush):
            intake.lines.read(line, NOW)
