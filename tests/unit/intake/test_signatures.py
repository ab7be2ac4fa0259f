"""Signed datagrams: who may send, and that nothing is read twice."""

import hashlib
import hmac
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from node2dm_tw.intake import signatures
from node2dm_tw.intake.signatures import skip_signature
from node2dm_tw.intake.udp import UDPIntake
from tests.unit.intake.support import WALL, Intake
from tests.unit.intake.test_udp import LOOPBACK

KEY = b"an application's key of 32 bytes"


def sign(rest: bytes, seconds: object = int(WALL), key: bytes = KEY) -> bytes:
    """As the documentation has it, without the gateway's code."""
    text = str(seconds).encode()
    signature = hmac.new(key, text + b"\n" + rest, hashlib.sha256).hexdigest()
    return b"#v1 " + text + b" " + signature.encode() + b"\n" + rest


class SignedIntake(Intake):
    """An intake with a key, and what came of datagrams."""

    def __init__(self, key=KEY):
        super().__init__()
        self.verifier.use_key(key)
        self.udp = UDPIntake(self.parser, LOOPBACK, self.verifier)

    def send(self, *datagrams):
        for datagram in datagrams:
            self.udp.datagramReceived(datagram, ("127.0.0.1", 9))
        return [push.payload for push in self.shop.queue.pushes]

    def pass_time(self, seconds):
        self.clock.advance(seconds)
        self.wall += seconds


@pytest.fixture
def signed():
    return SignedIntake()


def test_what_is_signed_is_read(signed):
    """Every line after the first; a sender may end the first line with CR LF."""
    first = sign(b"a:b:1\na:b:2\n\nn|a:b:3")
    second = sign(b'{"token":"a","collapse_key":"k"}').replace(b"\n", b"\r\n", 1)
    assert signed.send(first, second)[:2] == [b"1", b"2"]
    assert len(signed.shop.queue.pushes) == 3
    assert [push.payload for push in signed.news.queue.pushes] == [b"3"]
    assert signed.stats.invalid == {}


GOOD = sign(b"a:b:1\na:b:2")


@pytest.mark.parametrize(
    ("datagram", "reason"),
    [
        (b"", "unsigned"),
        (b"a:b:1\na:b:2", "unsigned"),
        (b"#v2" + GOOD[3:], "unsigned"),
        (b"\n" + GOOD, "unsigned"),
        (b"GET / HTTP/1.1\r\n\r\n", "unsigned"),
        (GOOD[4:], "unsigned"),
        (GOOD + b"\n", "signature"),
        (GOOD[:-1], "signature"),
        (GOOD.replace(b"a:b:1", b"a:b:9"), "signature"),
        (GOOD.replace(b"1800000000", b"1800000001"), "signature"),
        (GOOD.replace(b"1800000000", b"+1800000000"), "signature"),
        (GOOD.replace(b"1800000000", b"01800000000"), "signature"),
        (GOOD[:15] + GOOD[15:79].upper() + GOOD[79:], "signature"),
        (sign(b"a:b:1", key=b"another key of 16 bytes"), "signature"),
        (sign(b"a:b:1", 1_800_000_000.5), "signature"),
        (b"#v1 \na:b:1", "signature"),
        (sign(b"a:b:1", int(WALL) - 61), "stale"),
        (sign(b"a:b:1", int(WALL) + 61), "stale"),
        (sign(b"a:b:1", int(WALL) * 1000), "stale"),
    ],
)
def test_what_is_not_right_is_invalid_once(signed, datagram, reason):
    """However many lines it has; none of them is read."""
    assert signed.send(datagram) == []
    assert signed.stats.invalid == {reason: 1}


@pytest.mark.parametrize("seconds", [int(WALL) - 60, int(WALL) + 60])
def test_clocks_may_differ_by_a_minute(signed, seconds):
    """Either way."""
    assert signed.send(sign(b"a:b:1", seconds)) == [b"1"]


@pytest.mark.parametrize("ahead", [-60, 0, 60])
def test_a_datagram_is_read_once(signed, ahead):
    """It is a replay for as long as its time is near, and stale from then on."""
    datagram = sign(b"a:b:1", int(WALL) + ahead)
    signed.send(datagram)
    for _ in range(130):
        signed.send(datagram)
        signed.pass_time(1)
    assert len(signed.shop.queue.pushes) == 1
    assert signed.stats.invalid == {"replayed": 61 + ahead, "stale": 69 - ahead}


def test_a_replay_is_known_though_the_wall_clock_was_set(signed):
    """What is remembered goes by the monotonic clock, for two minutes."""
    datagram = sign(b"a:b:1")
    signed.send(datagram)
    signed.wall += 3600
    signed.clock.advance(110)
    signed.send(sign(b"a:b:2", int(signed.wall)))
    signed.wall = WALL
    signed.send(datagram)
    assert signed.stats.invalid == {"replayed": 1}


def test_signatures_are_forgotten_in_time(signed):
    """After two minutes; their memory is bounded by the rate."""
    for number in range(300):
        signed.send(sign(b"a:b:%d" % number, int(signed.wall)))
        signed.pass_time(1)
    assert len(signed.verifier._seen) == len(signed.verifier._order) == 121


def test_the_oldest_signatures_are_forgotten_when_there_are_too_many(signed, monkeypatch):
    """The datagram that is forgotten can be repeated, the others cannot."""
    monkeypatch.setattr(signatures, "MAX_REMEMBERED", 100)
    datagrams = [sign(b"a:b:%d" % number) for number in range(101)]
    signed.send(*datagrams)
    assert len(signed.verifier._seen) == 100
    signed.send(*datagrams[1:])
    assert signed.stats.invalid == {"replayed": 100}
    signed.send(datagrams[0])
    assert signed.stats.invalid == {"replayed": 100}


def test_a_million_signatures_fit_the_memory(signed):
    """The documentation names 200 MB."""
    tracemalloc.start()
    for number in range(20_000):
        signed.verifier._remember(hashlib.sha256(b"%d" % number).digest()[:16])
    size, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert size / 20_000 < 220


def test_without_a_key_the_first_line_is_skipped():
    """Whatever it says: senders can sign before the gateway asks for it."""
    intake = SignedIntake(None)
    stale = sign(b"a:b:2\na:b:3", 5, b"another key of 16 bytes")
    assert intake.send(sign(b"a:b:1"), stale, stale) == [b"1", b"2", b"3", b"2", b"3"]
    assert intake.stats.invalid == {}


@pytest.mark.parametrize("rest", [b"", b"\n", b"\r\n\0"])
@pytest.mark.parametrize("key", [None, KEY])
def test_a_signature_of_nothing_is_an_empty_datagram(key, rest):
    """With and without a key."""
    intake = SignedIntake(key)
    intake.send(sign(rest))
    assert intake.stats.invalid == {"empty": 1}


def test_a_first_line_that_is_no_signature_is_an_invalid_line():
    """Without a key; the other lines are read."""
    intake = SignedIntake(None)
    assert intake.send(b"#v1 now x\na:b:1") == [b"1"]
    assert intake.stats.invalid == {"colons": 1}


def test_another_key_from_now_on(signed):
    """What the old one signed is invalid then."""
    signed.verifier.use_key(b"another key of 16 bytes")
    assert signed.send(GOOD, sign(b"a:b:9", key=b"another key of 16 bytes")) == [b"9"]
    assert signed.stats.invalid == {"signature": 1}


@given(st.binary(max_size=120) | st.binary(max_size=120).map(lambda rest: b"#v1 " + rest))
def test_no_bytes_pass_without_the_key(datagram):
    """Nothing is read, nothing is raised, and each counts once."""
    intake = SignedIntake()
    assert intake.send(datagram) == []
    assert sum(intake.stats.invalid.values()) == 1


@given(st.binary(max_size=120))
def test_what_was_signed_is_what_is_read(rest):
    """With and without the key the same bytes are left."""
    assert skip_signature(sign(rest)) == rest
    intake = SignedIntake()
    assert intake.verifier.verify(sign(rest)) == rest
