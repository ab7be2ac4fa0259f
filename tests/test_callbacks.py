"""Bad-token callbacks, in simulated time."""

import base64
import hashlib
import hmac
import json
from pathlib import Path
from urllib.parse import parse_qs

import pytest
from twisted.internet.task import Clock

from node2dm_tw.callbacks import CAPACITY, IN_FLIGHT, CallbackSender, CallbackTarget
from node2dm_tw.http.interface import NoAnswer, NotSent
from node2dm_tw.push import Push, read_json, split_at_colons
from node2dm_tw.queues.spool import Spool
from node2dm_tw.stats import RouteStats
from tests.doubles import WALL, MemoryHTTP, no_jitter

KEY = b"0123456789abcdef0123456789abcdef"
PUSH = split_at_colons(b'gone:key:{"a": 1}', 0.0)


def make(folder: Path, key: bytes | None = None, retries: int = 5) -> CallbackSender:
    clock = Clock()
    return CallbackSender(
        CallbackTarget("https://app/bad", "shhh", key, retries),
        MemoryHTTP(),
        {"c2dm": RouteStats()},
        Spool(folder / "callbacks.spool"),
        clock,
        lambda: WALL + clock.seconds(),
        no_jitter,
    )


def form(body: bytes) -> dict[str, str]:
    return {name: values[0] for name, values in parse_qs(body.decode(), True).items()}


def test_a_report_carries_node2dms_fields_and_the_reason(tmp_path):
    """device_token, message_body and shared_secret as node2dm had them, and why."""
    sender = make(tmp_path)
    sender.report("c2dm", PUSH, "NotRegistered")
    (posted,) = sender.http.posted
    assert form(posted.body) == {
        "device_token": "gone",
        "message_body": '{"a": 1}',
        "shared_secret": "shhh",
        "reason": "NotRegistered",
    }
    posted.say(204, b"")
    assert sender.stats["c2dm"].callbacks_sent == 1
    assert len(sender) == 0


@pytest.mark.parametrize(
    ("data", "body"), [('"text"', "text"), ('{"a": "ü"}', '{"a": "ü"}'), ("{}", "{}")]
)
def test_the_message_of_the_json_form_is_its_data(tmp_path, data, body):
    """Data as an object is told as JSON text, data as a string as it is."""
    sender = make(tmp_path)
    line = f'{{"token": "gone", "collapse_key": "k", "data": {data}}}'
    _, push = read_json(line.encode(), 0.0)
    sender.report("c2dm", push, "NotRegistered")
    assert form(sender.http.posted[0].body)["message_body"] == body


def test_a_signed_report_verifies_as_standard_webhooks_says(tmp_path):
    """HMAC-SHA256 over id.timestamp.body; every try keeps the id and has its own time."""
    sender = make(tmp_path, KEY)
    sender.report("c2dm", PUSH, "NotRegistered")
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


@pytest.mark.parametrize("status", [400, 401, 404, 410, 422])
def test_a_4xx_ends_it(tmp_path, status):
    """The application has answered: the report is not sent again, and counted as failed."""
    sender = make(tmp_path)
    sender.report("c2dm", PUSH, "NotRegistered")
    sender.http.posted[0].say(status, b"")
    sender.clock.advance(3_600)
    assert len(sender.http.posted) == 1
    assert sender.stats["c2dm"].callbacks_failed == 1


@pytest.mark.parametrize("status", [302, 408, 429, 500, 503])
def test_anything_else_is_retried_until_the_retries_are_used_up(tmp_path, status):
    """Retries after 1, 2, 4... seconds, then counted as failed."""
    sender = make(tmp_path, retries=3)
    sender.report("c2dm", PUSH, "NotRegistered")
    for delay in (1, 2, 4):
        sender.http.posted[-1].say(status, b"")
        tries = len(sender.http.posted)
        sender.clock.advance(delay - 0.01)
        assert len(sender.http.posted) == tries
        sender.clock.advance(0.01)
        assert len(sender.http.posted) == tries + 1
    sender.http.posted[-1].say(status, b"")
    assert sender.stats["c2dm"].callbacks_failed == 1
    assert len(sender) == 0


def test_retry_after_is_obeyed(tmp_path):
    """An application may ask for quiet, too."""
    sender = make(tmp_path)
    sender.report("c2dm", PUSH, "NotRegistered")
    sender.http.posted[0].say(429, b"", Retry_After="30")
    sender.clock.advance(29)
    assert len(sender.http.posted) == 1
    sender.clock.advance(1)
    assert len(sender.http.posted) == 2


def test_few_are_in_flight_and_what_does_not_fit_is_dropped_and_counted(tmp_path):
    """A host that never answers holds four requests and ten thousand reports, no more."""
    sender = make(tmp_path)
    for _ in range(CAPACITY + 7):
        sender.report("c2dm", PUSH, "NotRegistered")
    assert len(sender.http.posted) == IN_FLIGHT
    assert len(sender) == CAPACITY
    assert sender.stats["c2dm"].callbacks_dropped == 7


def test_unsent_reports_survive_a_stop_with_their_tries(tmp_path):
    """Asleep, waiting or in flight: the next process goes on where this one stopped."""
    sender = make(tmp_path, retries=1)
    for number in range(IN_FLIGHT + 2):
        sender.report("c2dm", Push(b"d%d:k:p" % number, 2, 4, 0.0), "NotRegistered")
    sender.http.posted[0].fail(NotSent("refused"))
    sender.stop()
    again = make(tmp_path, retries=1)
    again.start()
    assert not (tmp_path / "callbacks.spool").exists()
    while again.http.waiting():
        for posted in again.http.waiting():
            posted.fail(NoAnswer("cut"))
    again.clock.advance(1)
    while again.http.waiting():
        for posted in again.http.waiting():
            posted.say()
    assert {form(posted.body)["device_token"] for posted in again.http.posted} == {
        f"d{number}" for number in range(IN_FLIGHT + 2)
    }
    assert again.stats["c2dm"].callbacks_failed == 1, "one had its only retry before"
    assert again.stats["c2dm"].callbacks_sent == IN_FLIGHT + 1


def test_a_damaged_file_of_reports_is_set_aside(tmp_path):
    """Readable reports are used, the file is kept."""
    sender = make(tmp_path)
    sender.report("c2dm", PUSH, "NotRegistered")
    sender.report("c2dm", PUSH, "NotRegistered")
    sender.stop()
    spool = tmp_path / "callbacks.spool"
    spool.write_bytes(spool.read_bytes()[:-10])
    again = make(tmp_path)
    again.start()
    assert len(again) == 1
    assert (tmp_path / "callbacks.spool.damaged").exists()


@pytest.mark.parametrize("record", [b"[]", b"{}", b"[1,2,3,4,5,6]", json.dumps(["a"] * 6).encode()])
def test_a_record_that_is_no_report_is_damage(tmp_path, record):
    """A line with a right checksum and a wrong content does no harm."""
    Spool(tmp_path / "callbacks.spool").write([record])
    again = make(tmp_path)
    again.start()
    assert len(again) == 0
    assert (tmp_path / "callbacks.spool.damaged").exists()
