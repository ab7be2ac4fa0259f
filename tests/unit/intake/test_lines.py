"""Bytes to pushes on the queue of their route."""

import json

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.logger import capturedLogs, formatEvent

from node2dm_tw.core.push import REASONS, InvalidPush
from node2dm_tw.core.stats import LatestInvalid
from tests.unit.intake.support import NOW, Intake, KeptPushes


@pytest.mark.parametrize(
    ("datagram", "expected"),
    [
        (b"a:b:c", {"shop": [(b"a", b"b", b"c")]}),
        (b"a:b:", {"shop": [(b"a", b"b", b"")]}),
        (b"a:b:c:d|e", {"shop": [(b"a", b"b", b"c:d|e")]}),
        (b"a:b|c:d", {"shop": [(b"a", b"b|c", b"d")]}),
        (b"a:b:c\r", {"shop": [(b"a", b"b", b"c")]}),
        (b"a:b:c\r\n", {"shop": [(b"a", b"b", b"c")]}),
        (b"\r\na:b:c\0\r\n\0\n\r\nd:e:f\n\0", {"shop": [(b"a", b"b", b"c"), (b"d", b"e", b"f")]}),
        (
            b'\xef\xbb\xbf{"token":"a","collapse_key":"b"}\nd:e:f',
            {"shop": [(b"a", b"b", b'{"token":"a","collapse_key":"b"}'), (b"d", b"e", b"f")]},
        ),
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
        (b"\r", "empty"),
        (b"\r\n\0\n", "empty"),
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
    if reason != "empty":
        assert intake.got(b"x:y:1\n" + line + b"\nx:y:2") == {
            "shop": [(b"x", b"y", b"1"), (b"x", b"y", b"2")]
        }
        assert intake.stats.invalid == {reason: 2}
    assert intake.shop.stats.messages_received == (0 if reason == "empty" else 2)


class FullDisk:
    """A queue that cannot keep anything."""

    def put(self, pushes):
        raise OSError("no space left")


def test_a_queue_that_fails_does_not_stop_the_others():
    """What is for another route is queued; the fault is logged."""
    intake = Intake()
    intake.parser.default = attrs.evolve(intake.shop, queue=FullDisk())
    with capturedLogs() as events:
        intake.parser.datagram(b"a:b:1\nn|a:b:2", ("127.0.0.1", 9))
    assert [push.payload for push in intake.news.queue.pushes] == [b"2"]
    assert [formatEvent(event) for event in events] == ["shop: pushes could not be queued"]


def test_datagrams_that_come_together_are_queued_together():
    """Each route gets its own, in their order and at once."""
    intake = Intake()
    intake.parser.datagrams(
        [(line, ("127.0.0.1", 9)) for line in (b"a:b:1\nn|a:b:2", b"", b"a:b:3")]
    )
    for route, expected in ((intake.shop, [b"1", b"3"]), (intake.news, [b"2"])):
        assert [push.payload for push in route.queue.pushes] == expected
        assert (route.queue.puts, route.stats.messages_received) == (1, len(expected))
    assert intake.stats.invalid == {"empty": 1}


def test_the_receipt_time_is_kept():
    """By the wall clock, since it outlives the process."""
    intake = Intake()
    intake.parser.datagram(b"a:b:c", ("127.0.0.1", 9))
    (push,) = intake.shop.queue.pushes
    assert push.received == NOW


def test_faults_are_logged_once_a_second():
    """With source and size, never with the bytes themselves; no reason hides another."""
    intake = Intake()
    with capturedLogs() as events:
        for _ in range(1_000):
            intake.parser.datagram(b"hush", ("192.0.2.1", 4_711))
        intake.parser.datagram(b"hush:b:\xff", ("2001:db8::2", 80, 0, 0))
        intake.clock.advance(1)
        intake.parser.datagram(b"hush", ("192.0.2.2", 9))
        intake.parser.datagram(b'{"token":"t","notification":{"icon":"hush"}}', ("192.0.2.2", 9))
        intake.parser.datagram(b'{"token":"hush","ttl":"hush"}', ("192.0.2.2", 9))
    assert [formatEvent(event) for event in events] == [
        f"invalid push from 192.0.2.1:4711 (4 bytes): colons: {REASONS['colons']}",
        f"invalid push from [2001:db8::2]:80 (8 bytes): utf8: {REASONS['utf8']}",
        f"invalid push from 192.0.2.2:9 (4 bytes): colons: {REASONS['colons']}"
        " (999 more like it were not logged)",
        "invalid push from 192.0.2.2:9 (44 bytes): collapse_key: collapse_key:"
        f" {REASONS['collapse_key']}",
        "invalid push from 192.0.2.2:9 (29 bytes): field: ttl must be a whole number of seconds,"
        " 0 to 2419200",
    ]


REQUESTS = (
    b"GET / HTTP/1.1\r\nHost: localhost:8120\r\nAccept: */*\r\n\r\n",
    b"POST /v1/push HTTP/1.0\nHost: a:b:c\n\na:b:c",
    b"GET http://a:80/x:y HTTP/1.1",
    b"CONNECT a:443 HTTP/1.1\r\nHost: a:443:x\r\n\r\n",
    b"\r\nGET / HTTP/1.1\r\nHost: a:b:c\r\n\r\n",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    b"M-SEARCH * HTTP/1.1\r\nHOST: 239.255.255.250:1900\r\nMAN: a:b\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nLOCATION: http://192.0.2.1:80/\r\n\r\n",
    b"OPTIONS sip:a@b SIP/2.0\r\nVia: SIP/2.0/UDP a:5060:x\r\n\r\n",
)


@pytest.mark.parametrize("datagram", REQUESTS)
def test_http_is_one_invalid_datagram(datagram):
    """None of its header lines is a push, though they have the colons."""
    intake = Intake()
    with capturedLogs() as events:
        assert intake.got(datagram) == {}
    assert intake.stats.invalid == {"http": 1}
    assert f"({len(datagram)} bytes): http: " in formatEvent(events[0])


@pytest.mark.parametrize(
    "first", [b"a:b:GET / HTTP/1.1", b"shop|a:b:x HTTP/1.1", b"a:k e y HTTP/1.1:c HTTP/1.1"]
)
def test_a_push_may_speak_of_http(first):
    """A push has a colon before its first blank, a request has not."""
    intake = Intake()
    assert len(intake.got(first + b"\r\nd:e:f")["shop"]) == 2


def test_pretty_printed_json_is_no_push():
    """Each of its lines is counted, none is taken for a push."""
    fields = {"token": "t", "collapse_key": "k", "data": {"url": "http://x:80/", "list": "a:b:c"}}
    for value in (fields, [fields, fields]):
        for separators in ((",", ": "), (",", ":")):
            intake = Intake()
            lines = json.dumps(value, indent=2, separators=separators).encode().split(b"\n")
            for line in lines:
                assert intake.got(line) == {}
            assert intake.stats.invalid.total() == len(lines)
            assert intake.stats.invalid.keys() == {"json", "token"}


def test_the_latest_of_each_reason_is_kept():
    """What was wrong, where it came from, how often, and how long ago."""
    intake = Intake()
    for number in range(3):
        line = b'{"token":"secret","collapse_key":"k","ttl":"%d"}' % number
        intake.parser.datagram(line, ("192.0.2.1", number + 1))
        intake.clock.advance(1)
    intake.parser.datagram(b"secret", ("192.0.2.2", 9))
    field = "ttl must be a whole number of seconds, 0 to 2419200"
    assert intake.stats.latest_invalid() == (
        LatestInvalid("field", field, source="192.0.2.1:3", count=3, age=1.0),
        LatestInvalid("colons", REASONS["colons"], source="192.0.2.2:9", count=1, age=0.0),
    )


def test_a_datagram_of_rubbish_costs_no_more_than_its_lines():
    """64 KiB of the costliest lines are read in bounded time, whatever they are."""
    intake = Intake()
    for line in (b"x", b"[", b"{", b'"', b"1", b'"\\a', b"-", b" ", b":", b"::"):
        intake.parser.datagram((line + b"\n") * (8_000 // (len(line) + 1)), ("192.0.2.1", 9))
    names = b",".join(b'"%d":1' % number for number in range(6_000))
    for value in (b'"' + b"\\a" * 30_000, b"[" * 60_000, b"{" + names + b',"1":1}', b" " * 60_000):
        intake.parser.datagram(value, ("192.0.2.1", 9))
    assert intake.shop.stats.messages_received == 0


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
    intake.parser.datagram(datagram, ("127.0.0.1", 9))
    lines = [line for line in datagram.split(b"\n") if line.strip(b"\r\0")]
    received = intake.shop.stats.messages_received + intake.news.stats.messages_received
    assert received + intake.stats.invalid.total() == max(1, len(lines))
    assert received == len(intake.shop.queue.pushes) + len(intake.news.queue.pushes)


@given(st.binary(max_size=100) | NEAR_MISSES)
def test_nothing_but_invalid_push_escapes_the_parser(line):
    """A push that is read gives back its line's parts."""
    intake = Intake()
    try:
        route, (push,) = intake.parser.read(line, NOW)
    except InvalidPush:
        return
    assert route in (intake.shop, intake.news)
    assert push.device
    assert push.collapse_key
    assert isinstance(push.data, dict)
    if not push.is_json:
        said = b":".join((push.device, push.collapse_key, push.payload))
        assert line.rstrip(b"\r\n\0").endswith(said)


def test_the_deepest_nesting_that_json_can_read_is_counted():
    """Near the limit of the stack nothing but InvalidPush escapes either."""
    intake = Intake()
    for levels in range(940, 1_000):
        deep = b'{"a":' * levels + b"1" + b"}" * levels
        line = b'{"token":"a","collapse_key":"b","notification":' + deep + b"}"
        with pytest.raises(InvalidPush):
            intake.parser.read(line, NOW)


class SlowQueue(KeptPushes):
    """A queue that keeps pushes once its Deferred fires."""

    def put(self, pushes):
        super().put(pushes)
        self.kept = Deferred()
        return self.kept


def test_a_put_may_take_its_time():
    """A push is received once the queue has stored it; a put that fails is logged."""
    intake = Intake()
    queue = SlowQueue()
    intake.parser.default = attrs.evolve(intake.shop, queue=queue)
    assert intake.parser.wait_for_puts() is None
    intake.parser.datagram(b"a:b:c", ("127.0.0.1", 9))
    first, kept = intake.parser.wait_for_puts(), queue.kept
    intake.parser.datagram(b"d:e:f", ("127.0.0.1", 9))
    both = intake.parser.wait_for_puts()
    assert intake.shop.stats.messages_received == 0
    kept.callback(None)
    assert intake.shop.stats.messages_received == 1
    assert first.called
    assert not both.called
    with capturedLogs() as captured:
        queue.kept.errback(OSError("disk full"))
    assert both.called
    assert intake.parser.wait_for_puts() is None
    [line] = [formatEvent(event) for event in captured]
    assert line == "shop: pushes could not be queued"
    assert intake.shop.stats.messages_received == 1
