"""Callbacks, in simulated time."""

import base64
import hashlib
import hmac
import json
import os
import zlib
from collections.abc import Callable, Iterable
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.parse import parse_qs

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.task import Clock
from twisted.logger import capturedLogs, formatEvent

from node2dm_tw.callback_target import OVERHEAD_BYTES, Callback, CallbackTarget
from node2dm_tw.callbacks import (
    HOLD_INTERVAL,
    IN_FLIGHT,
    MAX_CALLBACKS_PER_TURN,
    MAX_WAITING_BYTES,
    CallbackBudget,
    Callbacks,
    CallbackSender,
)
from node2dm_tw.core.json_form import read_json
from node2dm_tw.core.outcome import Ended, PushOutcome
from node2dm_tw.core.push import Push, split_at_colons
from node2dm_tw.core.stats import RouteStats
from node2dm_tw.http.interface import NoAnswer, NotSent
from node2dm_tw.state.spool import Spool
from tests.support.doubles import WALL, MemoryHTTP, no_jitter
from tests.support.odd_files import ODD, is_untouched

KEY = b"0123456789abcdef0123456789abcdef"
PUSH = split_at_colons(b'gone:key:{"a": 1}', 0.0)
OTHER_STATUSES = (
    *(300, 301, 302, 307, 400, 401, 403, 404, 405, 408, 409, 411, 413, 422, 429, 451),
    *(500, 502, 503, 504, 520, 599, 600, 999),
)
RECORD = ["c2dm", "gone", "größer 😀", "NotRegistered", "msg_1", 0]


class BrokenHTTP(MemoryHTTP):
    """A client with a fault: it raises where it should send."""

    def send(self, url, headers, body, context):
        super().send(url, headers, body, context)
        raise UnicodeError("label too long")


class RefusingHTTP(MemoryHTTP):
    """A client whose requests fail before `post` returns."""

    def send(self, url, headers, body, context):
        super().send(url, headers, body, context).fail(NotSent("refused"))


@attrs.define(eq=False)
class Bench:
    """The callbacks of one gateway in memory, and what the tests hold in their hands."""

    callbacks: Callbacks
    http: MemoryHTTP
    clock: Clock
    stats: dict[str, RouteStats]
    budget: CallbackBudget

    def __len__(self) -> int:
        return len(self.callbacks)

    def enqueue(
        self,
        route: str,
        push: Push,
        reason: str,
        delay: float = 0.0,
        outcome: PushOutcome = "bad_device",
    ) -> None:
        ended = Ended(route, push, outcome, reason, None, 1, 0.0, None)
        self.callbacks.enqueue(ended, delay)

    def start(self) -> None:
        self.callbacks.start()

    def stop(self) -> None:
        self.callbacks.stop()


def make(
    folder: Path,
    key: bytes | None = None,
    retries: int = 5,
    http: MemoryHTTP | None = None,
    clock: Clock | None = None,
    max_bytes: int = MAX_WAITING_BYTES,
    should_hold: Callable[[Callback], bool] = lambda callback: False,
    targets: dict[str | None, CallbackTarget] | None = None,
    routes: Iterable[str] = ("c2dm",),
) -> Bench:
    """One sender for all routes, or one for each of `targets`; all post through the same client."""
    clock = clock or Clock()
    http = http or MemoryHTTP()
    stats = {route: RouteStats() for route in routes}
    budget = CallbackBudget(max_bytes)

    def wall() -> float:
        return WALL + clock.seconds()

    senders = {
        route: CallbackSender(target, http, stats, budget, clock, wall, no_jitter, should_hold)
        for route, target in (targets or {None: target_with(key, retries)}).items()
    }
    callbacks = Callbacks(senders, stats, Spool(folder / "callbacks.spool"), clock, wall)
    return Bench(callbacks, http, clock, stats, budget)


def target_with(key: bytes | None = None, retries: int = 5, **more) -> CallbackTarget:
    return CallbackTarget("https://app/bad", "shhh", key, retries, **more)


def push(number: int, size: int = 1) -> Push:
    return split_at_colons(b"d%d:k:" % number + b"p" * size, 0.0)


def form(body: bytes) -> dict[str, str]:
    return {name: values[0] for name, values in parse_qs(body.decode(), True).items()}


def devices(http: MemoryHTTP) -> list[str]:
    return [form(posted.body)["device_token"] for posted in http.posted]


def counters(sender: Bench) -> tuple[int, int, int]:
    stats = sender.stats["c2dm"]
    return stats.callbacks_sent, stats.callbacks_failed, stats.callbacks_dropped


def test_a_callback_carries_node2dms_fields_and_more(tmp_path):
    """device_token, message_body and shared_secret as node2dm had them; why, how, when it came."""
    sender = make(tmp_path)
    sender.clock.advance(60)
    sender.enqueue("c2dm", PUSH, "NotRegistered")
    (posted,) = sender.http.posted
    assert form(posted.body) == {
        "device_token": "gone",
        "message_body": '{"a": 1}',
        "shared_secret": "shhh",
        "reason": "NotRegistered",
        "route": "c2dm",
        "outcome": "bad_device",
        "received": "2023-11-14T22:13:20.000Z",
        "id": "",
    }
    posted.say(204, b"")
    assert counters(sender) == (1, 0, 0)
    assert len(sender) == 0


@pytest.mark.parametrize(
    ("data", "body"), [('"text"', "text"), ('{"a": "ü"}', '{"a": "ü"}'), ("{}", "{}")]
)
def test_the_message_of_the_json_form_is_its_data(tmp_path, data, body):
    """Data as an object is sent as JSON text, data as a string as it is."""
    sender = make(tmp_path)
    line = f'{{"token": "gone", "collapse_key": "k", "data": {data}}}'
    _, push = read_json(line.encode(), 0.0)
    sender.enqueue("c2dm", push, "NotRegistered")
    assert form(sender.http.posted[0].body)["message_body"] == body


def test_a_signed_callback_verifies_as_standard_webhooks_says(tmp_path):
    """HMAC-SHA256 over id.timestamp.body; every attempt keeps the id and has its own time."""
    sender = make(tmp_path, KEY)
    sender.enqueue("c2dm", PUSH, "NotRegistered")
    sender.http.posted[0].say(500, b"")
    sender.clock.advance(1)
    ids = set()
    for posted, moment in zip(sender.http.posted, (WALL, WALL + 1), strict=True):
        headers = dict(posted.headers)
        ids.add(headers[b"Webhook-Id"])
        assert headers[b"Webhook-Timestamp"] == b"%d" % moment
        signed = b".".join((headers[b"Webhook-Id"], b"%d" % moment, posted.body))
        mac = base64.b64encode(hmac.new(KEY, signed, hashlib.sha256).digest())
        assert headers[b"Webhook-Signature"] == b"v1," + mac
    assert len(ids) == 1


@pytest.mark.parametrize("status", [200, 201, 202, 204, 299])
def test_a_2xx_ends_a_callback(tmp_path, status):
    """Whatever the body says."""
    sender = make(tmp_path)
    sender.enqueue("c2dm", PUSH, "NotRegistered")
    sender.http.posted[0].say(status, b"<html>", Retry_After="5")
    sender.clock.advance(3_600)
    assert len(sender.http.posted) == 1
    assert counters(sender) == (1, 0, 0)


def test_410_gives_up(tmp_path):
    """The application wants no such callback."""
    sender = make(tmp_path)
    sender.enqueue("c2dm", PUSH, "NotRegistered")
    with capturedLogs() as events:
        sender.http.posted[0].say(410, b"")
    sender.clock.advance(3_600)
    assert len(sender.http.posted) == 1
    assert counters(sender) == (0, 1, 0)
    assert [formatEvent(event) for event in events] == ["callback abandoned: status 410"]


@pytest.mark.parametrize("status", OTHER_STATUSES)
def test_anything_else_is_retried_until_the_retries_are_used_up(tmp_path, status):
    """After 1, 2, 4... seconds; then the callback is counted as failed."""
    sender = make(tmp_path, retries=3)
    sender.enqueue("c2dm", PUSH, "NotRegistered")
    for delay in (1, 2, 4):
        sender.http.posted[-1].say(status, b"")
        tries = len(sender.http.posted)
        sender.clock.advance(delay - 0.01)
        assert len(sender.http.posted) == tries
        assert len(sender) == 1
        sender.clock.advance(0.01)
        assert len(sender.http.posted) == tries + 1
    sender.http.posted[-1].say(status, b"")
    assert counters(sender) == (0, 1, 0)
    assert len(sender) == 0


@pytest.mark.parametrize("status", [302, 404, 429, 503])
def test_retry_after_is_obeyed(tmp_path, status):
    """Whatever the status; one that is shorter than the back-off does not shorten it."""
    sender = make(tmp_path)
    sender.enqueue("c2dm", PUSH, "NotRegistered")
    sender.http.posted[0].say(status, b"", Retry_After="30")
    sender.clock.advance(29)
    assert len(sender.http.posted) == 1
    sender.clock.advance(1)
    assert len(sender.http.posted) == 2
    sender.http.posted[1].say(status, b"", Retry_After="0")
    sender.clock.advance(1.9)
    assert len(sender.http.posted) == 2
    sender.clock.advance(0.1)
    assert len(sender.http.posted) == 3


def test_without_retries_one_failure_is_enough(tmp_path):
    """Retries = 0."""
    sender = make(tmp_path, retries=0)
    sender.enqueue("c2dm", PUSH, "NotRegistered")
    sender.http.posted[0].fail(NotSent("refused"))
    assert counters(sender) == (0, 1, 0)


def test_a_client_that_raises_costs_a_try_and_no_place_in_flight(tmp_path):
    """A fault of ours is logged with its traceback, and the callback is tried again."""
    sender = make(tmp_path, retries=1, http=BrokenHTTP())
    with capturedLogs() as events:
        for number in range(3 * IN_FLIGHT):
            sender.enqueue("c2dm", push(number), "NotRegistered")
        sender.clock.pump([0.5] * 20)
    assert len(sender.http.posted) == 2 * 3 * IN_FLIGHT
    assert counters(sender) == (0, 3 * IN_FLIGHT, 0)
    assert len(sender) == 0
    failures = [event for event in events if "log_failure" in event]
    assert failures[0]["log_failure"].check(UnicodeError)
    assert len(failures) < 5, "throttled"


def test_requests_that_fail_at_once_are_no_recursion(tmp_path):
    """Thousands of them, each of which lets the next one go."""
    sender = make(tmp_path, retries=0, http=RefusingHTTP(), should_hold=lambda *_: held[0])
    held = [True]
    for number in range(5_000):
        sender.enqueue("c2dm", push(number), "NotRegistered")
    held[0] = False
    sender.clock.pump([HOLD_INTERVAL] + [0.0] * 20)
    assert counters(sender) == (0, 5_000, 0)


def test_few_are_in_flight_and_64_mib_wait(tmp_path):
    """What does not fit is dropped, counted and logged; what ends makes room again."""
    sender = make(tmp_path)
    fitting = MAX_WAITING_BYTES // Callback("c2dm", b"d0", b"p" * 60_000, b"gone", b"").size
    with capturedLogs() as events:
        for number in range(fitting + 7):
            sender.enqueue("c2dm", push(number % 10, 60_000), "gone")
    assert len(sender.http.posted) == IN_FLIGHT
    assert len(sender) == fitting
    assert counters(sender) == (0, 0, 7)
    full = "callback queue is full (64 MiB): callback dropped"
    assert [formatEvent(event) for event in events] == [full]
    sender.http.posted[0].say(200, b"")
    sender.enqueue("c2dm", push(0, 60_000), "gone")
    assert len(sender) == fitting
    assert counters(sender) == (1, 0, 7)


def test_a_callback_that_fails_keeps_its_place(tmp_path):
    """One that waits for its next try is not dropped for those that came later."""
    sender = make(tmp_path, max_bytes=2 * (OVERHEAD_BYTES + 100))
    for number in range(3):
        sender.enqueue("c2dm", push(number), "gone")
    assert counters(sender) == (0, 0, 1)
    for posted in sender.http.waiting():
        posted.fail(NotSent("refused"))
    sender.clock.advance(1)
    for posted in sender.http.waiting():
        posted.say(200, b"")
    assert counters(sender) == (2, 0, 1)
    assert sender.budget.used == 0


class WatchedClock(Clock):
    """Notes how much was done whenever something is scheduled."""

    def __init__(self, done: list) -> None:
        super().__init__()
        self.done, self.marks = done, [0]

    def callLater(self, delay, call, *arguments, **named):
        self.marks.append(len(self.done))
        return super().callLater(delay, call, *arguments, **named)


def test_callbacks_that_the_alarm_holds_are_looked_at_in_turns(tmp_path):
    """Thousands of them do not stop the reactor; those of other routes go meanwhile."""
    looks = []

    def should_hold(callback):
        looks.append(callback.route)
        return callback.route == "held"

    clock = WatchedClock(looks)
    sender = make(tmp_path, clock=clock, should_hold=should_hold)
    count = 3 * MAX_CALLBACKS_PER_TURN
    for number in range(count):
        sender.enqueue("held", push(number), "gone", HOLD_INTERVAL)
    sender.enqueue("c2dm", push(0), "gone")
    for _ in range(3):
        clock.advance(HOLD_INTERVAL)
    assert len(looks) == 1 + 3 * count
    turns = [after - before for before, after in pairwise([*clock.marks, len(looks)])]
    assert max(turns) <= MAX_CALLBACKS_PER_TURN + 1
    assert len(sender.http.posted) == 1
    assert len(sender) == count + 1


def test_unsent_callbacks_survive_a_stop_with_their_tries(tmp_path):
    """Asleep, waiting or in flight: the next process goes on where this one stopped."""
    sender = make(tmp_path, retries=1)
    sender.start()
    for number in range(IN_FLIGHT + 2):
        sender.enqueue("c2dm", push(number), "NotRegistered")
    sender.http.posted[0].fail(NotSent("refused"))
    sender.stop()
    assert counters(sender) == (0, 0, 0)
    again = make(tmp_path, retries=1)
    again.start()
    again.clock.advance(0)
    assert not list(tmp_path.iterdir())
    while again.http.waiting():
        for posted in again.http.waiting():
            posted.fail(NoAnswer("cut"))
    again.clock.advance(1)
    while again.http.waiting():
        for posted in again.http.waiting():
            posted.say()
    assert set(devices(again.http)) == {f"d{number}" for number in range(IN_FLIGHT + 2)}
    assert counters(again) == (IN_FLIGHT + 1, 1, 0), "one had its only retry before"


def test_a_callback_keeps_every_field_over_a_restart(tmp_path):
    """Its id too, so that the application can tell that it is the same."""
    sender = make(tmp_path, KEY)
    sender.start()
    _, push = read_json('{"token": "t:ö", "data": "größer\\n\\u0000😀"}'.encode(), 0.0)
    sender.enqueue("c2dm", push, "Ünregistered")
    sender.stop()
    again = make(tmp_path, KEY)
    again.start()
    again.clock.advance(0)
    (before,), (after,) = sender.http.posted, again.http.posted
    assert after.body == before.body
    assert dict(after.headers)[b"Webhook-Id"] == dict(before.headers)[b"Webhook-Id"]


def test_a_record_of_an_earlier_version_is_read(tmp_path):
    """The spool's version is 1; characters beyond ASCII were escaped."""
    Spool(tmp_path / "callbacks.spool").add([json.dumps(RECORD).encode()])
    sender = make(tmp_path)
    sender.start()
    sender.clock.advance(0)
    assert form(sender.http.posted[0].body)["message_body"] == "größer 😀"


def files(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def start(folder: Path, **more) -> tuple[Bench, list[str]]:
    """Start a sender and let it restore everything; return what it logged, too."""
    sender = make(folder, **more)
    with capturedLogs() as events:
        sender.start()
        sender.clock.pump([0.0] * 10)
    return sender, [formatEvent(event) for event in events]


def test_damaged_callbacks_are_set_aside(tmp_path):
    """The others are sent."""
    records = [json.dumps([*RECORD[:1], f"d{n}", *RECORD[2:]]).encode() for n in range(3)]
    path = Spool(tmp_path / "callbacks.spool").add(records)
    path.write_bytes(path.read_bytes().replace(b'"d1"', b'"dX"'))
    sender, logged = start(tmp_path)
    assert devices(sender.http) == ["d0", "d2"]
    assert files(tmp_path) == {"callbacks.spool.damaged"}
    assert logged == [
        f"{path} was damaged: 1 callbacks could not be read; they are kept in {path}.damaged"
    ]


@pytest.mark.parametrize("what", [*ODD, "a file of somebody else"])
def test_what_is_no_file_of_ours_is_left_as_it_is(tmp_path, what):
    """It stops neither the start nor the stop, which keeps callbacks in another file."""
    path = tmp_path / "callbacks.spool"
    if what in ODD:
        ODD[what](path)
    elif os.geteuid() != 0:
        pytest.skip("only root can give a file away")
    else:
        path.write_bytes(b"not yours")
        os.chown(path, 12_345, -1)
    before = path.lstat()
    sender, (line,) = start(tmp_path)
    assert line.startswith(f"cannot read {path} (it ")
    sender.enqueue("c2dm", PUSH, "NotRegistered")
    sender.stop()
    assert path.lstat()[:7] == before[:7]
    assert is_untouched(path)
    again, _ = start(tmp_path)
    assert devices(again.http) == ["gone"]


def test_a_file_that_could_not_be_read_is_read_by_the_next_process(tmp_path):
    """A stop meanwhile adds a file, and overwrites none."""
    sender, _ = start(tmp_path)
    sender.enqueue("c2dm", push(1), "NotRegistered")
    sender.stop()
    path, kept = tmp_path / "callbacks.spool", tmp_path / "kept"
    path.rename(kept)
    path.mkdir()
    sender, _ = start(tmp_path)
    sender.enqueue("c2dm", push(2), "NotRegistered")
    sender.stop()
    path.rmdir()
    kept.rename(path)
    sender, logged = start(tmp_path)
    assert (sorted(devices(sender.http)), logged) == (["d1", "d2"], [])
    assert not files(tmp_path)


def test_a_stop_while_callbacks_are_restored_loses_and_doubles_none(tmp_path):
    """What was read and what was not yet is in one file again, at every slice."""
    count = 2 * MAX_CALLBACKS_PER_TURN + 100
    records = [json.dumps([*RECORD[:1], f"d{n}", *RECORD[2:]]).encode() for n in range(count)]
    Spool(tmp_path / "callbacks.spool").add(records)
    for turns in range(4):
        sender = make(tmp_path, clock=(clock := TurnClock()))
        sender.start()
        clock.turn(turns)
        assert 0 < len(sender) <= count
        sender.stop()
        assert files(tmp_path) == {"callbacks.spool"}
    sender, logged = start(tmp_path)
    while waiting := sender.http.waiting():
        for posted in waiting:
            posted.say()
    assert sorted(devices(sender.http)) == sorted(f"d{n}" for n in range(count))
    assert logged == []


class TurnClock(Clock):
    """Lets what is due happen one call at a time."""

    def turn(self, turns: int) -> None:
        for _ in range(min(turns, len(self.calls))):
            call = self.calls.pop(0)
            call.called = 1
            call.func(*call.args, **call.kw)


def test_callbacks_that_cannot_be_kept_are_counted_and_logged(tmp_path):
    """A stop on a disk that is full or gone raises nothing."""
    folder = tmp_path / "gone"
    sender, _ = start(folder)
    for number in range(IN_FLIGHT + 1):
        sender.enqueue("c2dm", push(number), "NotRegistered")
    with capturedLogs() as events:
        sender.stop()
    assert counters(sender) == (0, 0, IN_FLIGHT + 1)
    (event,) = events
    assert event["log_level"].name == "critical"
    assert formatEvent(event) == "5 callbacks are lost: No such file or directory"


def test_a_file_that_cannot_be_removed_is_named(tmp_path):
    """Its callbacks go now, and again after the next start."""
    path = Spool(tmp_path / "callbacks.spool").add([json.dumps(RECORD).encode()])
    sender = make(tmp_path)
    sender.start()
    path.unlink()
    path.mkdir()
    with capturedLogs() as events:
        sender.clock.advance(0)
    assert devices(sender.http) == ["gone"]
    (event,) = events
    assert formatEvent(event) == (
        f"cannot remove {path} (Is a directory): its callbacks are sent again at the next start"
    )


def test_a_fault_while_requests_are_cancelled_is_logged_and_loses_nothing(tmp_path):
    """Callbacks are kept first."""
    sender, _ = start(tmp_path, http=(http := MemoryHTTP()))
    for number in range(2):
        sender.enqueue("c2dm", push(number), "NotRegistered")
    http.posted[0].on_outcomes = lambda outcomes: 1 / 0
    with capturedLogs() as events:
        sender.stop()
    assert [formatEvent(event) for event in events] == ["a callback could not be handled"]
    assert all(posted.answered for posted in http.posted)
    again, _ = start(tmp_path)
    assert sorted(devices(again.http)) == ["d0", "d1"]
    assert counters(sender) == (0, 0, 0)


CRC = st.binary(max_size=30).map(lambda record: b"%08x %b\n" % (zlib.crc32(record), record))


@given(st.lists(CRC | st.binary(max_size=30) | st.just(b"node2dm_tw spool 1\n")))
def test_no_file_stops_the_start(chunks):
    """Whatever bytes it holds, with right checksums or wrong ones."""
    with TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "callbacks.spool").write_bytes(b"".join(chunks))
        sender, _ = start(folder)
        assert len(sender) == 0
        assert "callbacks.spool" not in files(folder)
        sender.stop()
