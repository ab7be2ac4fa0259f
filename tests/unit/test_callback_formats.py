"""What callbacks carry, which outcomes they tell of, and where they go, in simulated time."""

import base64
import json
from datetime import UTC, datetime
from urllib.parse import parse_qs

import pytest
from standardwebhooks import Webhook
from twisted.logger import capturedLogs, formatEvent

from node2dm_tw.callback_target import Callback, CallbackTarget
from node2dm_tw.callbacks import HOLD_INTERVAL, IN_FLIGHT, MAX_WAITING_BYTES
from node2dm_tw.config.sections import EVENTS
from node2dm_tw.core.json_form import read_json
from node2dm_tw.core.push import split_at_colons
from node2dm_tw.core.stats import TERMINAL_COUNTERS
from node2dm_tw.state.spool import Spool
from tests.support.doubles import WALL
from tests.unit.test_callbacks import KEY, PUSH, RECORD, counters, devices, make, push, target_with

SECRET = "whsec_" + base64.b64encode(KEY).decode()
AS_JSON = {None: target_with(KEY, is_json=True)}


def headers(posted) -> dict[str, str]:
    return {name.decode(): value.decode() for name, value in posted.headers}


def is_signed(posted, secret: str = SECRET) -> bool:
    """Whether the official library gives the same signature."""
    sent = headers(posted)
    moment = datetime.fromtimestamp(int(sent["Webhook-Timestamp"]), UTC)
    signature = Webhook(secret).sign(sent["Webhook-Id"], moment, posted.body.decode())
    return sent.get("Webhook-Signature") == signature


def test_a_json_callback_is_verified_by_the_official_library(tmp_path):
    """Its fields are those of the form, without the shared secret."""
    sender = make(tmp_path, targets=AS_JSON)
    line = '{"token": "gone", "id": "order-7", "collapse_key": "k", "data": {"größe": "😀"}}'
    _, push = read_json(line.encode(), 0.0)
    sender.enqueue("c2dm", push, "NotRegistered")
    (posted,) = sender.http.posted
    assert headers(posted)["Content-Type"] == "application/json"
    assert is_signed(posted)
    assert json.loads(posted.body) == {
        "device_token": "gone",
        "message_body": '{"größe": "😀"}',
        "reason": "NotRegistered",
        "route": "c2dm",
        "outcome": "bad_device",
        "received": "2023-11-14T22:13:20.000Z",
        "id": "order-7",
    }
    assert b"shhh" not in posted.body


def test_another_secret_or_body_has_another_signature(tmp_path):
    """And without a secret there is none."""
    sender = make(tmp_path, targets=AS_JSON)
    sender.enqueue("c2dm", PUSH, "NotRegistered")
    (posted,) = sender.http.posted
    assert not is_signed(posted, "whsec_" + base64.b64encode(KEY[::-1]).decode())
    posted.body = posted.body.replace(b"gone", b"live")
    assert not is_signed(posted)
    unsigned = make(tmp_path, targets={None: target_with(is_json=True)})
    unsigned.enqueue("c2dm", PUSH, "NotRegistered")
    assert json.loads(unsigned.http.posted[0].body)["device_token"] == "gone"
    assert "Webhook-Signature" not in headers(unsigned.http.posted[0])


@pytest.mark.parametrize("is_json", [False, True])
def test_a_retry_keeps_the_id_and_has_a_new_timestamp(tmp_path, is_json):
    """Signed anew, whatever the format."""
    sender = make(tmp_path, targets={None: target_with(KEY, is_json=is_json)})
    sender.enqueue("c2dm", PUSH, "NotRegistered")
    sender.enqueue("c2dm", PUSH, "NotRegistered")
    sender.http.posted[0].say(500, b"")
    sender.clock.advance(1)
    first, other, again = sender.http.posted
    assert headers(first)["Webhook-Id"] == headers(again)["Webhook-Id"]
    assert headers(first)["Webhook-Id"] != headers(other)["Webhook-Id"]
    assert headers(again)["Webhook-Timestamp"] == str(int(WALL) + 1)
    assert first.body == again.body
    assert all(map(is_signed, (first, other, again)))


def test_a_callback_that_is_not_signed_has_an_id_too(tmp_path):
    """So that an application can tell one that comes twice."""
    sender = make(tmp_path)
    sender.enqueue("c2dm", PUSH, "NotRegistered")
    assert headers(sender.http.posted[0]).keys() == {
        "Content-Type",
        "Webhook-Id",
        "Webhook-Timestamp",
    }


def test_the_time_of_receipt_is_that_of_the_push(tmp_path):
    """Not of its end, nor of the attempt; one that came in before a stepped clock has one, too."""
    sender = make(tmp_path, targets=AS_JSON)
    sender.clock.advance(100.25)
    sender.enqueue("c2dm", split_at_colons(b"d:k:p", 40.125), "gone")
    assert json.loads(sender.http.posted[0].body)["received"] == "2023-11-14T22:14:00.125Z"


def test_every_event_is_a_terminal_counter():
    """Those left out are no bad ends of a push."""
    assert {f"messages_{event}" for event in EVENTS} == set(TERMINAL_COUNTERS) - {
        "messages_sent",
        "messages_collapsed",
        "messages_handed_over",
    }


@pytest.mark.parametrize("outcome", EVENTS)
def test_only_what_is_asked_for_is_posted(tmp_path, outcome):
    """An outcome that `events` does not name makes no callback."""
    sender = make(tmp_path, targets={None: target_with(outcomes=frozenset({outcome}))})
    for each in EVENTS:
        sender.enqueue("c2dm", PUSH, "why", outcome=each)
    (posted,) = sender.http.posted
    assert parse_qs(posted.body.decode())["outcome"] == [outcome]
    assert len(sender) == 1


def test_a_flood_of_overflows_takes_64_mib_and_is_counted(tmp_path):
    """Once they are full, a further push is not even read."""
    targets = {None: target_with(outcomes=frozenset({"overflowed"}))}
    sender = make(tmp_path, targets=targets)
    count = 200_000
    with capturedLogs() as events:
        for number in range(count):
            sender.enqueue("c2dm", push(number, 300), "max_queued", outcome="overflowed")
    assert sender.budget.used <= MAX_WAITING_BYTES
    assert len(sender) + sender.stats["c2dm"].callbacks_dropped == count
    assert sender.budget.used > MAX_WAITING_BYTES - 2_000
    assert [formatEvent(event) for event in events] == [
        "callback queue is full (64 MiB): callback dropped"
    ]


def by_route(**routes: CallbackTarget):
    return {"routes": ("c2dm", "shop"), "targets": {None: target_with(), **routes}}


SHOP = CallbackTarget("https://shop/bad", "", KEY, 1, True, frozenset({"refused"}))


def test_a_route_with_a_section_of_its_own_inherits_nothing(tmp_path):
    """Neither address, secrets and format nor events."""
    sender = make(tmp_path, **by_route(shop=SHOP))
    for route in ("c2dm", "shop"):
        for outcome in ("bad_device", "refused"):
            sender.enqueue(route, PUSH, "why", outcome=outcome)
    first, second = sender.http.posted
    assert (first.url, second.url) == ("https://app/bad", "https://shop/bad")
    assert parse_qs(first.body.decode())["outcome"] == ["bad_device"]
    assert json.loads(second.body)["outcome"] == "refused"
    assert is_signed(second)


def test_a_webhook_that_is_away_holds_up_no_other(tmp_path):
    """Each has requests in flight of its own."""
    shop = target_with(outcomes=frozenset({"bad_device"}))
    sender = make(tmp_path, **by_route(shop=shop))
    for number in range(3 * IN_FLIGHT):
        sender.enqueue("c2dm", push(number), "gone")
    sender.enqueue("shop", push(99), "gone")
    assert devices(sender.http)[-1] == "d99"
    sender.http.posted[-1].say(200, b"")
    assert sender.stats["shop"].callbacks_sent == 1


def test_the_memory_is_one_for_all_webhooks(tmp_path):
    """What waits for one counts for the other."""
    sender = make(tmp_path, max_bytes=1_500, **by_route(shop=target_with()))
    for route in ("c2dm", "shop", "shop"):
        sender.enqueue(route, PUSH, "gone")
    assert [stats.callbacks_dropped for stats in sender.stats.values()] == [0, 1]
    sender.http.posted[0].say(200, b"")
    sender.enqueue("shop", PUSH, "gone")
    assert sender.stats["shop"].callbacks_dropped == 1


def test_callbacks_of_all_routes_survive_a_restart(tmp_path):
    """In one file; each goes to the webhook of its route, with all its fields."""
    sender = make(tmp_path, **by_route(shop=SHOP))
    sender.start()
    sender.enqueue("c2dm", PUSH, "gone", outcome="bad_device")
    sender.enqueue("shop", PUSH, "why", outcome="refused")
    sender.stop()
    again = make(tmp_path, **by_route(shop=SHOP))
    again.start()
    again.clock.advance(0)
    assert [posted.url for posted in again.http.posted] == ["https://app/bad", "https://shop/bad"]
    assert [posted.body for posted in again.http.posted] == [
        posted.body for posted in sender.http.posted
    ]


def test_a_callback_whose_section_is_gone_is_counted_and_logged(tmp_path):
    """No address is left for it."""
    Spool(tmp_path / "callbacks.spool").add([json.dumps(RECORD).encode()])
    sender = make(tmp_path, routes=("c2dm", "shop"), targets={"shop": SHOP})
    with capturedLogs() as events:
        sender.start()
        sender.clock.advance(0)
    assert counters(sender) == (0, 0, 1)
    line = "no section for callbacks of c2dm: callback dropped"
    assert [formatEvent(event) for event in events] == [line]
    sender.enqueue("c2dm", PUSH, "why", outcome="refused")
    assert not sender.http.posted


def test_a_callback_of_an_earlier_version_is_of_a_bad_device_at_an_unknown_time(tmp_path):
    """Which is null in JSON."""
    Spool(tmp_path / "callbacks.spool").add([json.dumps(RECORD).encode()])
    sender = make(tmp_path, targets=AS_JSON)
    sender.start()
    sender.clock.advance(0)
    callback = json.loads(sender.http.posted[0].body)
    assert (callback["outcome"], callback["received"]) == ("bad_device", None)


def test_what_is_held_waits_and_others_go(tmp_path):
    """The alarm is about bad devices alone; who asks decides by the callback."""

    def should_hold(callback: Callback) -> bool:
        return callback.outcome == "bad_device"

    targets = {None: target_with(outcomes=frozenset(EVENTS))}
    sender = make(tmp_path, targets=targets, should_hold=should_hold)
    for outcome in EVENTS:
        sender.enqueue("c2dm", PUSH, "why", outcome=outcome)
    sender.clock.advance(HOLD_INTERVAL)
    for posted in sender.http.posted:
        posted.say(200, b"")
    assert counters(sender) == (len(EVENTS) - 1, 0, 0)
    assert len(sender) == 1
