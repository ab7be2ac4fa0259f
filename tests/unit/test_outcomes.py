"""The records of pushes that ended: the file, and the recent ones by id."""

import json
import os
import random
import resource
import signal

import attrs
import pytest
from twisted.internet.task import Clock
from twisted.logger import capturedLogs, formatEvent

from node2dm_tw import outcomes
from node2dm_tw.core.json_form import read_json
from node2dm_tw.core.outcome import Ended
from node2dm_tw.core.push import split_at_colons
from node2dm_tw.outcomes import LineFile, OutcomeRecorder, RecentOutcomes

WALL = 1_700_000_000.25
TOKEN = "APA91bHun4MxP5egoKMwt2KZFBaFUH-1RYqx"
PUSH = split_at_colons(f"{TOKEN}:key:x".encode(), 0.0)
SENT = Ended("fcm", PUSH, "sent", "", b"projects/demo/messages/0:1", 2, 1.5004, 0.0126)
EXPIRED = Ended("c2dm", PUSH, "expired", "older than its ttl", None, 0, 60.0, None)
FIELDS = [
    "time",
    "id",
    "route",
    "target",
    "outcome",
    "reason",
    "message_name",
    "attempts",
    "waited_ms",
    "answered_ms",
]


def with_id(push_id, ended=SENT, data="x"):
    line = json.dumps({"token": TOKEN, "id": push_id, "data": data}).encode()
    return ended._replace(push=read_json(line, 0.0)[1])


@attrs.define
class Bench:
    """A recorder with a file in `folder`, and what the tests hold in their hands."""

    recorder: OutcomeRecorder
    clock: Clock
    file: LineFile

    def records(self, path=None):
        """The records in a file, each line of which is whole."""
        content = (path or self.file.path).read_bytes()
        assert not content or content.endswith(b"\n")
        return [json.loads(line) for line in content.splitlines()]


@pytest.fixture
def make(tmp_path):
    def make_bench(sample=100.0, targets="short", wall=lambda: WALL, recent=None):
        clock = Clock()
        file = LineFile(tmp_path / "outcomes.jsonl", clock)
        file.open()
        rng = random.Random(1)
        recorder = OutcomeRecorder(file, sample, targets, wall, rng.random, recent)
        return Bench(recorder, clock, file)

    return make_bench


def test_a_record_has_exactly_these_fields(make):
    """Of a sent push and of another one; what does not exist is null."""
    bench = make()
    bench.recorder.record(SENT)
    bench.recorder.record(with_id("order-7", EXPIRED))
    bench.clock.advance(1)
    sent, expired = bench.records()
    assert list(sent) == list(expired) == FIELDS
    made = sent.pop("id")
    assert made.endswith("-1")
    assert sent == {
        "time": "2023-11-14T22:13:20.250Z",
        "route": "fcm",
        "target": "APA91bHun4...",
        "outcome": "sent",
        "reason": None,
        "message_name": "projects/demo/messages/0:1",
        "attempts": 2,
        "waited_ms": 1500,
        "answered_ms": 12,
    }
    assert expired == sent | {
        "id": "order-7",
        "route": "c2dm",
        "outcome": "expired",
        "reason": "older than its ttl",
        "message_name": None,
        "attempts": 0,
        "waited_ms": 60_000,
        "answered_ms": None,
    }


def test_ids_that_are_made_differ_from_process_to_process(make):
    """And from push to push."""
    one, other = make(), make()
    for recorder in (one.recorder, one.recorder, other.recorder):
        recorder.record(SENT)
    one.file.stop()
    other.file.stop()
    assert len({record["id"] for record in one.records()}) == 3


@pytest.mark.parametrize(
    ("targets", "shown"), [("short", "APA91bHun4..."), ("full", TOKEN), ("none", None)]
)
def test_how_a_record_names_the_target(make, targets, shown):
    """As `outcomes_targets` says."""
    bench = make(targets=targets)
    bench.recorder.record(SENT)
    bench.file.stop()
    assert bench.records()[0]["target"] == shown


def test_whatever_an_upstream_or_a_sender_writes_is_one_line_of_json(make):
    """Controls, quotes, separators, invalid UTF-8 and endless texts."""
    evil = '"\\\n\r\x00\x1b\x7f\u2028\u202eé😀'
    topic = json.dumps({"topic": evil + "t" * 60_000, "data": "x"}).encode()
    push = read_json(topic, 0.0)[1]
    bench = make(targets="full")
    name = evil.encode() + b"\xff" + b"n" * 100_000
    bench.recorder.record(SENT._replace(push=push, message_name=name))
    bench.recorder.record(EXPIRED._replace(reason="\ud800" + evil + "r" * 100_000))
    bench.file.stop()
    raw = bench.file.path.read_bytes()
    assert raw.isascii()
    assert max(map(len, raw.splitlines())) < outcomes.MAX_LINE_BYTES
    sent, expired = bench.records()
    assert sent["target"].startswith(evil)
    assert sent["message_name"].startswith(evil + "\ufffd")
    assert expired["reason"].startswith("\ud800" + evil)


def test_the_longest_record_is_shorter_than_a_half_line_that_can_be_cut(make):
    """However many bytes each character takes when it is escaped."""
    push = split_at_colons("😀".encode() * 1024 + b":k:x", 0.0)
    topic = read_json(json.dumps({"topic": "😀" * 9_000}).encode(), 0.0)[1]
    long = "😀" * 9_000
    bench = make(targets="full")
    for each in (push, topic):
        bench.recorder.record(Ended("r" * 64, each, "refused", long, long.encode(), 9, 1e9, 1e9))
    bench.file.stop()
    lines = bench.file.path.read_bytes().splitlines()
    assert 10_000 < max(map(len, lines)) < outcomes.MAX_LINE_BYTES


def test_the_time_of_each_record(make):
    """Its milliseconds follow the clock, over the end of a second and back."""
    moments = iter([0.9994, 1.0, 1.0019, 59.999, 60.0, 0.5])
    bench = make(wall=lambda: 1_700_000_000 + next(moments))
    for _ in range(6):
        bench.recorder.record(SENT)
    bench.file.stop()
    assert [record["time"][14:] for record in bench.records()] == [
        "13:20.999Z",
        "13:21.000Z",
        "13:21.001Z",
        "14:19.999Z",
        "14:20.000Z",
        "13:20.500Z",
    ]


def test_a_sample_of_the_sent_and_all_others(make):
    """About the share that was asked for; those with an id can all be found."""
    bench = make(sample=10.0, recent=RecentOutcomes())
    for number in range(10_000):
        bench.recorder.record(with_id(f"s{number}") if number % 2 else SENT)
    for _ in range(500):
        bench.recorder.record(EXPIRED)
    bench.file.stop()
    found = [record["outcome"] for record in bench.records()]
    assert 850 <= found.count("sent") <= 1_150
    assert found.count("expired") == 500
    assert all(bench.recorder.find_outcome(f"s{number}") for number in range(1, 10_000, 2))


def test_a_sample_of_none(make):
    """Percent may be 0, and a record may be in no file but found by its id."""
    bench = make(sample=0.0, recent=RecentOutcomes())
    bench.recorder.record(with_id("a"))
    bench.file.stop()
    assert bench.records() == []
    assert json.loads(bench.recorder.find_outcome("a"))["outcome"] == "sent"


def test_records_are_written_together(make):
    """After a second, or when there are 64 KiB."""
    bench = make()
    bench.recorder.record(SENT)
    bench.clock.advance(0.99)
    assert bench.records() == []
    bench.clock.advance(0.01)
    assert len(bench.records()) == 1
    for _ in range(1_000):
        bench.recorder.record(SENT)
    size = bench.file.path.stat().st_size
    assert size > outcomes.FLUSH_BYTES
    bench.clock.advance(1)
    assert len(bench.records()) == 1_001
    assert not bench.clock.getDelayedCalls(), "nothing is left to do while no push ends"


def test_a_record_can_be_found_by_the_id_of_its_push(make):
    """The latest of an id that was used twice; none of pushes without one."""
    bench = make(recent=RecentOutcomes())
    bench.recorder.record(with_id("a"))
    bench.recorder.record(with_id("b", EXPIRED))
    bench.recorder.record(with_id("b"))
    bench.recorder.record(SENT)
    bench.file.stop()
    records = bench.records()
    assert json.loads(bench.recorder.find_outcome("a")) == records[0]
    assert json.loads(bench.recorder.find_outcome("b")) == records[2]
    assert bench.recorder.find_outcome(records[3]["id"]) is None
    assert bench.recorder.find_outcome("c") is None


def test_nothing_is_kept_that_nobody_can_ask_for():
    """Without a file and without look-ups no push pays; look-ups can be switched on and off."""
    recorder = OutcomeRecorder(None, 100.0, "short", lambda: WALL, random.random)
    assert recorder.on_ended is None
    recorder.keep_recent(True)
    recorder.on_ended(with_id("a"))
    recorder.keep_recent(True)
    assert recorder.find_outcome("a") is not None
    recorder.keep_recent(False)
    assert (recorder.find_outcome("a"), recorder.on_ended) == (None, None)
    recorder.open()
    recorder.reopen()
    recorder.stop()
    assert recorder.dropped == 0


def test_recent_records_are_bounded_in_number_and_bytes():
    """The oldest goes first; an id that is used again counts once, as the newest."""
    recent = RecentOutcomes()
    for number in range(outcomes.MAX_RECENT + 2):
        recent.add(str(number), b"x")
        recent.add("again", b"y")
    assert [recent.find(each) for each in ("0", "1", "2")] == [None, None, None]
    assert (recent.find("3"), recent.find("again")) == (b"x", b"y")
    big = b"z" * (1 << 20)
    for number in range(70):
        recent.add(f"big{number}", big)
    kept = [number for number in range(70) if recent.find(f"big{number}")]
    assert kept == list(range(7, 70))
    assert recent.find("again") is None


@pytest.mark.parametrize("how", ["moved", "removed", "replaced"])
def test_a_file_that_was_taken_away_is_opened_anew(make, how):
    """Without a signal; no record is lost, and all are in the file that was there at the time."""
    bench = make()
    path, old = bench.file.path, bench.file.path.with_suffix(".1")
    bench.recorder.record(SENT)
    bench.clock.advance(1)
    os.link(path, old)
    path.unlink()
    if how == "replaced":
        path.write_bytes(b'{"other":1}\n')
    elif how == "moved":
        bench.recorder.record(EXPIRED)  # waits meanwhile
    bench.recorder.record(EXPIRED)
    bench.clock.advance(1)
    assert [record["outcome"] for record in bench.records(old)] == ["sent"]
    assert bench.records()[-1]["outcome"] == "expired"
    assert path.stat().st_mode & 0o777 == 0o600
    assert bench.recorder.dropped == 0


def test_reopening_writes_what_waits(make):
    """As at SIGHUP; the new file is there at once."""
    bench = make()
    bench.recorder.record(SENT)
    bench.file.path.rename(bench.file.path.with_suffix(".1"))
    bench.recorder.reopen()
    assert len(bench.records()) == 1


@pytest.mark.parametrize(
    "rest", [b"{", b'{"time":"', b'{"time":"2023-11-14T22:13:20.250Z","id":"a']
)
def test_half_a_record_of_a_killed_process_is_cut_off(make, rest):
    """Whole records before it stay."""
    bench = make()
    bench.recorder.record(SENT)
    bench.file.stop()
    with bench.file.path.open("ab") as file:
        file.write(rest)
    bench.file.open()
    bench.recorder.record(EXPIRED)
    bench.file.stop()
    assert [record["outcome"] for record in bench.records()] == ["sent", "expired"]


@pytest.mark.parametrize("foreign", [b"a text", b"x" * 200_000])
def test_a_line_of_somebody_else_is_never_cut(make, foreign):
    """It gets a line feed, so that the records begin on a line of their own."""
    bench = make()
    bench.file.path.write_bytes(foreign)
    bench.file.open()
    bench.recorder.record(SENT)
    bench.file.stop()
    first, second, _ = bench.file.path.read_bytes().split(b"\n")
    assert first == foreign
    assert json.loads(second)["outcome"] == "sent"


def test_a_full_disk_loses_whole_records_counts_them_and_is_logged_twice(make):
    """At its beginning, and when there is room again. The limit of a file's size is as good."""
    bench = make()
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    previous = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, old[1]))
        with capturedLogs() as events:
            for number in range(2_000):
                bench.recorder.record(with_id(f"n{number}"))
            bench.clock.advance(1)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)
        signal.signal(signal.SIGXFSZ, previous)
    kept = bench.records()
    assert 0 < len(kept) < 2_000
    assert bench.recorder.dropped == 2_000 - len(kept)
    assert [record["id"] for record in kept] == [f"n{number}" for number in range(len(kept))]
    with capturedLogs() as later:
        bench.clock.advance(1)
        bench.recorder.record(SENT)
        bench.clock.advance(1)
    assert len(bench.records()) == len(kept) + 1
    path = bench.file.path
    line = f"cannot write {path} (File too large): outcomes are lost until it can be written"
    assert formatEvent(events[0]) == line
    assert len(events) <= 2, "one a second"
    lost = bench.recorder.dropped
    assert [formatEvent(event) for event in later] == [
        f"{path} is written again: {lost} outcomes were lost"
    ]


@pytest.mark.parametrize("kind", ["symbolic link", "directory", "FIFO"])
def test_what_is_not_a_file_is_not_written(make, tmp_path, kind):
    """At the start an error; later the records are lost and counted."""
    bench = make()
    path = bench.file.path
    path.unlink()
    if kind == "symbolic link":
        path.symlink_to(tmp_path / "elsewhere")
    elif kind == "directory":
        path.mkdir()
    else:
        os.mkfifo(path)
    with pytest.raises(OSError, match=kind):
        LineFile(path, bench.clock).open()
    bench.recorder.record(SENT)
    bench.clock.advance(1)
    bench.recorder.reopen()
    assert bench.recorder.dropped == 1
    assert not (tmp_path / "elsewhere").exists()


def test_others_may_not_read_the_file(make):
    """Even if it was there before, with another mode."""
    bench = make()
    bench.file.stop()
    bench.file.path.chmod(0o644)
    bench.file.open()
    assert bench.file.path.stat().st_mode & 0o777 == 0o600
