"""What PushClient sends is what a gateway reads, and nothing it meets reaches its caller."""

import ast
import hmac
import json
import logging
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from node2dm_tw import client as client_module
from node2dm_tw.client import MAX_DATAGRAM, Counters, Push, PushClient, connect, pack
from node2dm_tw.core.json_form import read_json
from node2dm_tw.core.push import split_at_colons
from tests.support.grammar import TOKENS

ROOT = Path(__file__).parents[2]
SIGNS = ':|{}\n\r\\",\x00\u2028 ab\u00e9\U0001f600'
texts = st.text(st.characters(exclude_categories=["Cs"])) | st.text(SIGNS, max_size=12)
names = texts.filter(bool)
tokens = TOKENS | st.text(":|_-a", min_size=1, max_size=8)


class Receiver:
    """A real UDP socket where a gateway would listen."""

    def __init__(self, family: socket.AddressFamily, host: str) -> None:
        self.socket = socket.socket(family, socket.SOCK_DGRAM)
        self.socket.bind((host, 0))
        self.socket.settimeout(60)
        self.host, self.port = self.socket.getsockname()[:2]

    def datagram(self) -> bytes:
        return self.socket.recv(65536)

    def lines(self, count: int) -> list[bytes]:
        """Read datagrams until they held that many lines."""
        found: list[bytes] = []
        while len(found) < count:
            found += self.datagram().split(b"\n")
        return found


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    made = Receiver(socket.AF_INET, "127.0.0.1")
    yield made
    made.socket.close()


@pytest.fixture
def vacant_port() -> int:
    """A port where nobody listens."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as bound:
        bound.bind(("127.0.0.1", 0))
        port: int = bound.getsockname()[1]
    return port


class Hands:
    """A clock that stands still until it is set."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def push_until_raised(client: PushClient) -> int:
    """Push until the client raises, which it must soon; return how many it took before."""
    for _ in range(100_000):
        before = client.counters.sent
        try:
            client.push("T", "x", "k")
        except ConnectionRefusedError:
            return before
    pytest.fail("never refused")


def read_line(line: bytes, service: str) -> dict[str, object]:
    """Read a line by the rules of the gateway's documentation, on a route of that service."""
    text = line.decode()
    if text.startswith("{"):
        return json.loads(text)
    head, separator, rest = text.partition("|")
    fields: dict[str, object] = {}
    if separator and ":" not in head:
        fields["route"], text = head, rest
    if service == "c2dm":
        fields["token"], fields["collapse_key"], fields["data"] = text.split(":", 2)
        return fields
    before, found, after = text.partition(":{")
    if found:
        fields["token"], fields["collapse_key"] = before.rsplit(":", 1)
        return fields | {"data": "{" + after}
    assert text.count(":") == 2, "ambiguous"
    fields["token"], fields["collapse_key"], fields["data"] = text.split(":")
    return fields


def meaning(fields: dict[str, object]) -> dict[str, object]:
    """Return a push without what says nothing, so that equal pushes are equal."""
    if isinstance(fields.get("data"), str):
        fields = fields | {"data": {"data": fields["data"]}}
    said = ("data", "ttl", "notification", "android", "validate_only", "urgent")
    return {
        name: value
        for name, value in fields.items()
        if value or (name in said and value is not None)
    }


def fields_of(push: Push) -> dict[str, object]:
    return {name: getattr(push, name) for name in Push.__dataclass_fields__}


pushes = st.builds(
    lambda target, **rest: Push(**{target[0]: target[1]}, **rest),
    st.tuples(st.sampled_from(["token", "token", "token", "fid"]), tokens)
    | st.tuples(st.sampled_from(["topic", "condition"]), names),
    data=st.none() | texts | texts | st.dictionaries(names, texts, max_size=3),
    collapse_key=texts,
    ttl=st.none() | st.none() | st.integers(0, 2_419_200),
    priority=st.sampled_from([None, None, "normal", "high"]),
    delay_while_idle=st.sampled_from([False, False, True]),
    id=st.just("") | st.from_regex(r"[A-Za-z0-9._:-]{1,64}", fullmatch=True),
    notification=st.none() | st.none() | st.dictionaries(names, texts, max_size=2),
    android=st.none() | st.none() | st.dictionaries(names, texts | st.integers(), max_size=2),
    validate_only=st.sampled_from([None, None, True, False]),
    urgent=st.sampled_from([None, None, True, False]),
    route=st.just("") | texts,
)


@given(pushes)
@example(Push("token", "a:{b", "key"))
@example(Push("token", "{c:d", "b:"))
@example(Push("a:b", "{}", ""))
@example(Push("token", "text", "{key"))
@example(Push("a|b", "text", "key", route="r"))
@example(Push("token", "text\r", "key"))
@example(Push("token", "{text\0", "key"))
@example(Push("token", "", ""))
@example(Push("token", "two\nlines", "key"))
def test_a_line_reads_back_as_its_push(push: Push) -> None:
    """Whatever the push, a C2DM and an FCM route both read that same push from its line."""
    line = push.line()
    assert b"\n" not in line
    for service in ("c2dm", "fcm"):
        assert meaning(read_line(line, service)) == meaning(fields_of(push))


@given(pushes)
def test_the_gateway_reads_the_line(push: Push) -> None:
    """The gateway's own code reads target, collapse key, data and route as they were meant."""
    line = push.line()
    found: dict[str, object] = {}
    if line.startswith(b"{"):
        route, read = read_json(line, 0.0)
        found = read.fields | {"route": route}
    else:
        route, line = line.split(b"|", 1) if push.route else (b"", line)
        read = split_at_colons(line, 0.0)
        found = {"route": route.decode(), "token": read.device.decode(), "data": read.data}
    found["collapse_key"] = read.collapse_key.decode()
    assert meaning(found) == meaning(fields_of(push))


@given(st.lists(pushes, max_size=20), st.integers(1, 2000))
def test_packed_lines_come_apart_again(many: list[Push], size: int) -> None:
    """Packing keeps every line and the order, and only a line alone exceeds the size."""
    lines = [push.line() for push in many]
    datagrams = [b"\n".join(gathered) for gathered in pack(lines, size)]
    assert [line for datagram in datagrams for line in datagram.split(b"\n")] == lines
    for datagram in datagrams:
        assert len(datagram) <= size or b"\n" not in datagram


@given(st.lists(pushes, min_size=1, max_size=10))
def test_pushes_survive_the_wire(many: list[Push]) -> None:
    """Through a real socket the receiver reads the pushes that were sent, in order."""
    receiver = Receiver(socket.AF_INET, "127.0.0.1")
    with receiver.socket, PushClient(port=receiver.port) as client:
        assert client.push_many(many) == len(many)
        found = [meaning(read_line(line, "fcm")) for line in receiver.lines(len(many))]
    assert found == [meaning(fields_of(push)) for push in many]


@pytest.mark.parametrize(
    ("push", "line"),
    [
        (Push("APA91b", "Hello, world", "greeting"), b"APA91b:greeting:Hello, world"),
        (Push("APA91b", '{"a":1}', "k"), b'APA91b:k:{"a":1}'),
        (Push("APA91b", "caf\u00e9", "k", route="app"), "app|APA91b:k:caf\u00e9".encode()),
        (Push("APA91b", "x", ""), b"APA91b::x"),
        (Push("APA91b", "a\nb", "k"), b'{"token":"APA91b","data":"a\\nb","collapse_key":"k"}'),
        (Push("c:APA91b", "x", "k"), b'{"token":"c:APA91b","data":"x","collapse_key":"k"}'),
        (Push("APA91b", {"a": "1"}), b'{"token":"APA91b","data":{"a":"1"}}'),
        (
            Push("APA91b", "x", "k", ttl=0),
            b'{"token":"APA91b","data":"x","collapse_key":"k","ttl":0}',
        ),
        (Push(topic="news", route="g"), b'{"topic":"news","route":"g"}'),
        (Push("T", "x", "k", id="a-1"), b'{"token":"T","data":"x","collapse_key":"k","id":"a-1"}'),
        (Push("T", delay_while_idle=True), b'{"token":"T","delay_while_idle":true}'),
    ],
)
def test_node2dms_form_wherever_it_is_exact(push: Push, line: bytes) -> None:
    """The colon form is taken where no route can misread it, else JSON."""
    assert push.line() == line


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({}, r"target = \[\]: expected exactly one of token, fid, topic, condition"),
        ({"token": "T", "topic": "t"}, r"target = \['token', 'topic'\]: expected exactly one of"),
        ({"token": 5}, "token = 5: expected a text"),
        ({"token": "T", "collapse_key": 5}, "collapse_key = 5: expected a text"),
        ({"token": "T", "fid": ""}, "fid = '': expected a text that is not empty"),
        ({"token": "T", "route": ""}, "route = '': expected"),
        ({"token": "T", "data": b"x"}, "data = b'x': expected a text, or an object"),
        ({"token": "T", "data": {"a": 1}}, "data.a = 1: expected a text"),
        ({"token": "T", "data": {"": "x"}}, "data = .*: expected names that are texts"),
        ({"token": "T", "data": {1: "x"}}, "data = .*: expected names that are texts"),
        ({"token": "T", "ttl": -1}, "ttl = -1: expected a whole number of seconds, 0 to 2419200"),
        ({"token": "T", "ttl": 2_419_201}, "ttl = 2419201: expected"),
        ({"token": "T", "ttl": True}, "ttl = True: expected"),
        ({"token": "T", "ttl": 1.5}, "ttl = 1.5: expected"),
        ({"token": "T", "ttl": 10**5000}, "ttl = int: expected"),
        ({"token": "T", "priority": "urgent"}, "priority = 'urgent': expected normal or high"),
        ({"token": "T", "delay_while_idle": 1}, "delay_while_idle = 1: expected true or false"),
        ({"token": "T", "notification": {"body": 3}}, "notification.body = 3: expected a text"),
        ({"token": "T", "notification": "x"}, "notification = 'x': expected an object"),
        ({"token": "T", "android": []}, r"android = \[\]: expected an object, nested at most 16"),
        ({"token": "T", "validate_only": 1}, "validate_only = 1: expected true or false"),
        ({"token": "T", "id": ""}, "id = '': expected a text that is not empty"),
        ({"token": "T", "id": 7}, "id = 7: expected a text"),
        ({"token": "T", "id": "a b"}, "id = 'a b': expected 1 to 64 of A-Z a-z 0-9 . _ : -"),
        ({"token": "T", "id": "x" * 65}, "id = 'xxx.*': expected 1 to 64 of"),
        ({"token": "T", "colour": "red"}, "unknown field 'colour': expected one of token, data,"),
        ({"token": "T", "colapse_key": "k"}, "unknown field 'colapse_key': expected collapse_key$"),
        ({"token": "a b"}, r"token = 'a b' \(' ' at index 1\): expected no white space"),
        ({"fid": "x" * 5000}, r"fid = 'xxxxxxxx'... \(5000 bytes\): expected no"),
        ({"token": "SECRETTOKEN\u200b"}, r"token = 'SECRETTO'... \('\\u200b' at index 11\)"),
    ],
)
def test_a_faulty_push_names_its_field(fields: dict[str, object], reason: str) -> None:
    """A push that cannot be is refused when it is made, with the field's name."""
    with pytest.raises(ValueError, match=reason):
        Push.from_fields(fields)


@pytest.mark.parametrize(
    ("push", "reason"),
    [
        (Push("T\ud800", "x", "k"), "not valid UTF-8: token"),
        (Push("T", "\ud800\n", "k"), "not valid UTF-8: data"),
        (Push("T", {"a": "\ud800"}, "k"), "not valid UTF-8: data"),
        (Push("T", "x" * MAX_DATAGRAM, "k"), "the push has 655.. bytes: expected at most 65507"),
        (Push("T", apns={"a": object()}), "not JSON: apns"),
        (Push("T", android={"a": float("nan")}, apns={}), "not JSON: android, apns"),
        (Push("T", webpush={"a": "\ud800"}), "not valid UTF-8: webpush"),
    ],
)
def test_what_no_datagram_can_carry_has_no_line(push: Push, reason: str) -> None:
    """Surrogates, overlong texts and values JSON lacks are refused, not mangled."""
    with pytest.raises(ValueError, match=reason):
        push.line()


def test_the_largest_push_goes_alone(receiver: Receiver) -> None:
    """65,507 bytes are sent, though pushes are packed to 1,400."""
    largest = Push("T", "x" * (MAX_DATAGRAM - 4), "k")
    with PushClient(port=receiver.port) as client:
        assert client.push_many([Push("A", "1", "k"), largest, Push("B", "2", "k")]) == 3
    assert [len(receiver.datagram()) for _ in range(3)] == [5, MAX_DATAGRAM, 5]


def test_several_pushes_share_a_datagram(receiver: Receiver) -> None:
    """A hundred small pushes travel in a few datagrams of at most 1,400 bytes."""
    with PushClient(port=receiver.port) as client:
        client.push_many(Push("token" * 10, "text", str(number)) for number in range(100))
    datagrams = [receiver.datagram() for _ in range(5)]
    assert sum(datagram.count(b"\n") + 1 for datagram in datagrams) == 100
    assert max(map(len, datagrams)) <= 1400


def test_ipv6(receiver: Receiver) -> None:
    """A gateway on ::1 is reached."""
    try:
        six = Receiver(socket.AF_INET6, "::1")
    except OSError:
        pytest.skip("no IPv6 on this machine")
    with six.socket, PushClient("::1", six.port) as client:
        assert client.push("T", "x", "k", route="r")
        assert six.datagram() == b"r|T:k:x"


def test_a_name_and_a_route_of_the_client(receiver: Receiver) -> None:
    """A host may be a name; the client's route holds where the push names none."""
    with PushClient("localhost", receiver.port, route="app") as client:
        client.push("T", "x", "k")
        client.push("T", "x", "k", route="other")
    assert receiver.lines(2) == [b"app|T:k:x", b"other|T:k:x"]


def test_a_missing_gateway_is_noticed_and_not_raised(
    vacant_port: int, caplog: pytest.LogCaptureFixture
) -> None:
    """Refused pushes are counted and logged once; the caller never sees an exception."""
    clock = Hands()
    with PushClient(port=vacant_port, clock=clock) as client:
        assert client.push("T", "x", "k")
        assert not client.check(wait=5)
        for _ in range(50):
            assert client.push("T", "x", "k")
            client.check(wait=5)
        assert client.counters == Counters(sent=51, failed=0, refused=51)
        client.push("", "x")
        clock.now += 61
        client.push("", "x")
    assert len(caplog.records) == 2
    assert "exactly one of" in caplog.text


def test_pushes_go_on_when_the_gateway_returns(receiver: Receiver) -> None:
    """After a refusal the next push already reaches the gateway that is back."""
    host, port = receiver.host, receiver.port
    with PushClient(host, port) as client:
        receiver.socket.close()
        client.push("T", "lost", "k")
        assert not client.check(wait=5)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as back:
            back.bind((host, port))
            back.settimeout(60)
            client.push("T", "found", "k")
            assert back.recv(100) == b"T:k:found"
            assert client.check()
    assert client.counters == Counters(sent=2, failed=0, refused=1)


def test_strict_raises(vacant_port: int) -> None:
    """With strict the caller gets ValueError for a fault and OSError for a refusal."""
    with PushClient(port=vacant_port, strict=True) as client:
        with pytest.raises(ValueError, match="exactly one"):
            client.push("", "x")
        with pytest.raises(ValueError, match="UTF-8"):
            client.push_many([Push("\ud800")])
        with pytest.raises(TypeError):
            client.push("T", "x", colour="red")
        client.push("T", "x", "k")
        client.check(wait=5)
        assert client.counters == Counters(sent=1, failed=2, refused=1)
    with pytest.raises(OSError, match="closed"):
        client.push("T", "x", "k")
    with pytest.raises(OSError, match="not a host name"):
        PushClient("a" * 300, strict=True)


def test_strict_tells_of_the_datagram_before(vacant_port: int) -> None:
    """A push that meets a refusal is not sent itself: to send it again makes no second one."""
    with PushClient(port=vacant_port, strict=True) as client:
        taken = push_until_raised(client)
        assert client.counters == Counters(sent=taken, failed=1, refused=1)


@pytest.mark.parametrize("options", [{"ttl": "x"}, {"notification": {"a": {1}}}])
def test_faults_of_the_caller_are_counted(
    receiver: Receiver, options: dict[str, object], caplog: pytest.LogCaptureFixture
) -> None:
    """A faulty call returns False and is logged without the token."""
    with PushClient(port=receiver.port) as client:
        assert not client.push("SECRET-TOKEN", "x", "k", **options)
        assert client.counters == Counters(sent=0, failed=1, refused=0)
    assert len(caplog.records) == 1
    assert "SECRET-TOKEN" not in caplog.text


def test_each_text_is_logged_once_a_minute(
    receiver: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    """No fault hides another one, and however many texts there are, the lines are bounded."""
    clock = Hands()
    with PushClient(port=receiver.port, clock=clock) as client:
        for _ in range(3):
            client.push("T", ttl=-1)
            client.push("T", priority="urgent")
        assert [record.getMessage().split("): ")[1] for record in caplog.records] == [
            "ttl = -1: expected a whole number of seconds, 0 to 2419200; "
            "Counters(sent=0, failed=1, refused=0)",
            "priority = 'urgent': expected normal or high; Counters(sent=0, failed=2, refused=0)",
        ]
        clock.now += 60
        client.push("T", ttl=-1)
        assert "(3 times since the last line like this): ttl = -1" in caplog.text
        for number in range(1000):
            client.push("T", ttl=-number - 2)
    assert len(caplog.records) < 50


def test_push_many_takes_pushes_alone(receiver: Receiver, caplog: pytest.LogCaptureFixture) -> None:
    """What is not a push is a fault of its own, and the others are sent."""
    with PushClient(port=receiver.port) as client:
        many: list[Any] = [{"token": "SECRET-TOKEN"}, Push("T", "x", "k")]
        assert client.push_many(many) == 1
    assert "the type of a push = 'dict': expected Push" in caplog.text
    assert "SECRET" not in caplog.text


@pytest.mark.parametrize("host", ["a" * 300, "\u00e9" * 80, ""])
def test_a_name_that_does_not_resolve(host: str, caplog: pytest.LogCaptureFixture) -> None:
    """It is logged, pushes fail, and it is looked up again once a second at the most."""
    clock = Hands()
    with PushClient(host, clock=clock) as client:
        for _ in range(3):
            assert not client.push("T", "x", "k")
            clock.now += 0.5
        assert client.counters == Counters(sent=0, failed=3, refused=0)
    assert len(caplog.records) == 1


def test_after_close_pushes_fail(receiver: Receiver) -> None:
    """A closed client counts and does not raise; closing twice is allowed."""
    client = PushClient(port=receiver.port)
    client.close()
    client.close()
    assert not client.push("T", "x", "k")
    assert client.push_many([Push("T", "x", "k"), Push("T", "y", "k")]) == 0
    assert not client.check()
    assert client.counters.failed == 3


@pytest.mark.parametrize(
    "options",
    [{"port": 0}, {"port": 65536}, {"port": "8120"}, {"max_datagram": 0}, {"max_datagram": 65508}],
)
def test_impossible_settings(options: dict[str, Any]) -> None:
    """Settings that cannot work are refused when the client is made."""
    with pytest.raises(ValueError, match="expected a whole number between 1 and"):
        PushClient(**options)


def read_signed(datagram: bytes, key: bytes) -> bytes:
    """What was signed, by the documentation's words."""
    first, rest = datagram.split(b"\n", 1)
    mark, seconds, signature = first.split(b" ")
    assert mark == b"#v1"
    assert abs(int(seconds) - time.time()) < 60
    expected = hmac.new(key, seconds + b"\n" + rest, "sha256").hexdigest()
    assert signature.decode() == expected
    return rest


@pytest.mark.parametrize("key", ["a key of 16 byte", b"\xff" * 32, "\u00fc" * 8])
def test_a_key_signs_every_datagram(receiver: Receiver, key: str | bytes) -> None:
    """With the line that the documentation describes; the size of datagrams includes it."""
    raw = key.encode() if isinstance(key, str) else key
    with PushClient(port=receiver.port, key=key) as client:
        assert client.push("T", "x", "k", ttl=5)
        line = b'{"token":"T","data":"x","collapse_key":"k","ttl":5}'
        assert read_signed(receiver.datagram(), raw) == line
        client.push_many(Push("T" * 60, "x", str(number)) for number in range(100))
        lines: list[bytes] = []
        while len(lines) < 100:
            datagram = receiver.datagram()
            assert len(datagram) <= 1400
            lines += read_signed(datagram, raw).split(b"\n")
    assert [line.split(b":")[1] for line in lines] == [b"%d" % number for number in range(100)]


def test_equal_datagrams_of_one_second_are_signed_differently(receiver: Receiver) -> None:
    """Otherwise the gateway would take the second one for a replay; the lines stay the same."""
    with PushClient(port=receiver.port, key="a key of 16 byte") as client:
        for _ in range(50):
            client.push("T", "x", "k")
        datagrams = [receiver.datagram() for _ in range(50)]
    assert len(set(datagrams)) == 50
    for datagram in datagrams:
        assert read_signed(datagram, b"a key of 16 byte").rstrip(b"\n") == b"T:k:x"


def test_a_short_key_is_refused() -> None:
    """As the gateway does, without showing it."""
    with pytest.raises(ValueError, match=r"key = '\*\*\*': expected at least 16 bytes"):
        PushClient(key="secret")


def test_threads_share_a_client(receiver: Receiver) -> None:
    """Eight threads push at once: every push arrives whole, every one is counted."""
    receiver.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
    with PushClient(port=receiver.port) as client:

        def work(name: int) -> None:
            for number in range(12):
                client.push("T", f"{name} {number}", "k")

        threads = [threading.Thread(target=work, args=(name,)) for name in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert client.counters.sent == 96
    wanted = {f"T:k:{name} {number}".encode() for name in range(8) for number in range(12)}
    assert set(receiver.lines(96)) == wanted


def test_a_slow_name_keeps_one_thread_only(receiver: Receiver) -> None:
    """While one thread waits for the gateway's name, the pushes of others fail at once."""
    asked, answered = threading.Event(), threading.Event()
    clock = Hands()

    def slow_after_a_failure(host: str, port: int) -> socket.socket:
        if clock.now == 1000.0:
            raise OSError("no such name")
        asked.set()
        assert answered.wait(60)
        return connect(host, port)

    with PushClient(port=receiver.port, clock=clock, connect=slow_after_a_failure) as client:
        clock.now += 2
        thread = threading.Thread(target=client.push, args=("T", "first", "k"))
        thread.start()
        assert asked.wait(60)
        assert not client.push("T", "second", "k")
        answered.set()
        thread.join()
        assert client.push("T", "third", "k")
    assert receiver.lines(2) == [b"T:k:first", b"T:k:third"]


class Names:
    """A resolver: what the gateway's name stands for now, and how often it was asked."""

    def __init__(self, receiver: Receiver) -> None:
        self.receiver = receiver
        self.asked = 0

    def __call__(self, host: str, port: int) -> socket.socket:
        self.asked += 1
        return connect(self.receiver.host, self.receiver.port)


@pytest.fixture
def moved() -> Iterator[Receiver]:
    """Where the gateway is after its move."""
    made = Receiver(socket.AF_INET, "127.0.0.2")
    yield made
    made.socket.close()


def test_a_name_is_looked_up_again_once_a_minute(receiver: Receiver, moved: Receiver) -> None:
    """The first push after a minute goes to the address that the name has by then."""
    clock, names = Hands(), Names(receiver)
    with PushClient("gateway", clock=clock, connect=names) as client:
        client.push("T", "1", "k")
        names.receiver = moved
        clock.now += 59
        client.push("T", "2", "k")
        assert names.asked == 1
        clock.now += 1
        for number in range(3, 6):
            client.push("T", str(number), "k")
        assert names.asked == 2
    assert receiver.lines(2) == [b"T:k:1", b"T:k:2"]
    assert moved.lines(3) == [b"T:k:3", b"T:k:4", b"T:k:5"]


@pytest.mark.parametrize("strict", [False, True])
def test_a_name_is_looked_up_again_after_a_refusal(
    receiver: Receiver, moved: Receiver, strict: bool
) -> None:
    """The push after a datagram that came back goes to where the gateway is now."""
    names = Names(receiver)
    with PushClient("gateway", clock=Hands(), connect=names, strict=strict) as client:
        receiver.socket.close()
        names.receiver = moved
        client.push("T", "lost", "k")
        assert not client.check(wait=5)
        client.push("T", "found", "k")
        assert moved.datagram() == b"T:k:found"
        assert client.counters == Counters(sent=2, failed=0, refused=1)
        assert names.asked == 2


def test_refusals_do_not_flood_the_resolver(vacant_port: int) -> None:
    """While the gateway is down its name is looked up once a second, however much is pushed."""
    clock = Hands()
    asked = []

    def count(host: str, port: int) -> socket.socket:
        asked.append(host)
        return connect("127.0.0.1", vacant_port)

    with PushClient("gateway", clock=clock, connect=count) as client:
        for _ in range(3):
            for _ in range(20):
                client.push("T", "x", "k")
                assert not client.check(wait=5)
            clock.now += 1
        assert client.counters == Counters(sent=60, failed=0, refused=60)
    assert len(asked) == 1 + 3


def test_a_slow_lookup_keeps_no_push(receiver: Receiver, moved: Receiver) -> None:
    """Pushes go to the known address meanwhile, and to the new one once it is known."""
    clock, names = Hands(), Names(receiver)
    asked, answered = threading.Event(), threading.Event()

    def slow(host: str, port: int) -> socket.socket:
        if names.asked:
            asked.set()
            assert answered.wait(20)
        return names(host, port)

    with PushClient("gateway", clock=clock, connect=slow) as client:
        names.receiver = moved
        clock.now += 61
        for number in range(20):
            client.push("T", str(number), "k")
        assert asked.is_set()
        assert len(receiver.lines(20)) == 20
        answered.set()
        client._lookup.join(20)
        client.push("T", "new", "k")
    assert moved.datagram() == b"T:k:new"
    assert names.asked == 2


def test_a_name_that_is_gone_leaves_the_address_that_is_known(receiver: Receiver) -> None:
    """A resolver that fails costs no push."""
    clock = Hands()
    faults: list[OSError] = []

    def fail_later(host: str, port: int) -> socket.socket:
        if faults:
            raise faults[0]
        faults.append(OSError("no such name"))
        return connect(receiver.host, receiver.port)

    with PushClient("gateway", clock=clock, connect=fail_later) as client:
        for _ in range(3):
            clock.now += 61
            assert client.push("T", "x", "k")
    assert receiver.lines(3) == [b"T:k:x"] * 3


def test_a_client_that_closes_during_a_lookup_stays_closed(receiver: Receiver) -> None:
    """What the lookup opened is closed again."""
    clock, names = Hands(), Names(receiver)
    answered = threading.Event()
    opened: list[socket.socket] = []

    def slow(host: str, port: int) -> socket.socket:
        if names.asked:
            assert answered.wait(20)
        opened.append(names(host, port))
        return opened[-1]

    client = PushClient("gateway", clock=clock, connect=slow)
    clock.now += 61
    client.push("T", "x", "k")
    client.close()
    answered.set()
    client._lookup.join(20)
    assert [each.fileno() for each in opened] == [-1, -1]
    assert not client.push("T", "y", "k")


def test_a_full_send_buffer_keeps_nobody() -> None:
    """A push that the kernel does not take in a tenth of a second has failed; the next may do."""
    pairs = [socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM) for _ in range(2)]
    opened = iter(pairs)

    def connect_pair(host: str, port: int) -> socket.socket:
        near = next(opened)[0]
        near.settimeout(0.01)
        return near

    with PushClient(connect=connect_pair) as client:
        while client.push("T", "x" * 1000, "k"):
            assert client.counters.sent < 100_000
        assert client.push("T", "x", "k")
        assert client.counters.failed == 1
        assert pairs[1][1].recv(100) == b"T:k:x"
    for near, far in pairs:
        near.close()
        far.close()


def test_logging_that_pushes_does_not_lock_up(receiver: Receiver) -> None:
    """A log handler may itself use the client that logs."""
    client = PushClient(port=receiver.port)

    class Pushing(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            client.push("T", "log", "k")

    handler = Pushing()
    logging.getLogger(client_module.__name__).addHandler(handler)
    try:
        client.push("")
    finally:
        logging.getLogger(client_module.__name__).removeHandler(handler)
        client.close()
    assert receiver.datagram() == b"T:k:log"


def test_a_signal_handler_may_push(receiver: Receiver) -> None:
    """Even where the signal comes while the same thread's push holds the lock."""
    signals = [signal.SIGUSR1]

    def interrupted() -> float:
        if client.counters.sent == 1 and signals:
            signal.raise_signal(signals.pop())
        return 0.0

    client = PushClient(port=receiver.port)
    before = signal.signal(signal.SIGUSR1, lambda *_: client.push("T", "signal", "k"))
    client.clock = interrupted
    try:
        client.push("T", "1", "k")
        client.push("T", "2", "k")
    finally:
        signal.signal(signal.SIGUSR1, before)
        client.close()
    assert receiver.lines(3) == [b"T:k:1", b"T:k:signal", b"T:k:2"]


def test_the_module_stands_alone(receiver: Receiver, tmp_path: Path) -> None:
    """Copied alone into another project it imports the standard library only, and works."""
    source = Path(client_module.__file__)
    tree = ast.parse(source.read_text())
    imported = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)} | {
        name.name for node in ast.walk(tree) if isinstance(node, ast.Import) for name in node.names
    }
    assert {str(name).partition(".")[0] for name in imported} <= sys.stdlib_module_names
    shutil.copy(source, tmp_path / "pushing.py")
    code = f"import pushing; pushing.PushClient(port={receiver.port}).push('T', 'alone', 'k')"
    subprocess.run([sys.executable, "-I", "-c", f"import sys; sys.path[0:0] = ['.']; {code}"],
                   cwd=tmp_path, check=True, timeout=60)  # fmt: skip
    assert receiver.datagram() == b"T:k:alone"


def test_the_documentation_works(receiver: Receiver, capsys: pytest.CaptureFixture[str]) -> None:
    """Every piece of Python in docs/application-servers.md runs and sends what it says."""
    text = (ROOT / "docs" / "application-servers.md").read_text(encoding="utf-8")
    for code in re.findall(r"```python\n(.*?)```", text, re.DOTALL):
        names: dict[str, PushClient] = {}
        exec(code.replace("8120", str(receiver.port)), names)
        names["gateway"].close()
    link = {"title": "Hi", "link": "https://example.com/"}
    first, second, *packed = receiver.lines(5)
    assert first == b"REGISTRATION_ID:greeting:Hello, world"
    assert json.loads(second) == {"token": "REGISTRATION_ID", "data": link, "collapse_key": "news"}
    assert packed == [b"app|ID-%d:greeting:Hello" % number for number in (1, 2, 3)]
    assert f"prints `{capsys.readouterr().out.strip()}`" in text


def test_the_documented_lines_are_read() -> None:
    """The lines that the documentation shows are read by the gateway's own code."""
    text = (ROOT / "docs" / "application-servers.md").read_text(encoding="utf-8")
    lines = re.findall(r"^((?:app\||REG|\{).*)$", text, re.MULTILINE)
    assert len(lines) == 3
    assert split_at_colons(lines[0].encode(), 0.0).payload == b"Hello, world"
    assert split_at_colons(lines[1][4:].encode(), 0.0).data["data"].startswith('{"text"')
    assert read_json(lines[2].encode(), 0.0)[1].fields["ttl"] == 600


def test_every_field_is_documented() -> None:
    """The table of fields names each field of a push."""
    text = (ROOT / "docs" / "application-servers.md").read_text(encoding="utf-8")
    for name in Push.__dataclass_fields__:
        assert f"`{name}`" in text
