"""FCM's Message: what passes unchanged, what the gateway sets, and what it refuses."""

import json

import pytest

from node2dm_tw.core.json_form import read_json
from node2dm_tw.core.push import InvalidPush
from node2dm_tw.providers.c2dm import C2DM
from node2dm_tw.providers.fcm import FCM
from tests.support.fcm_message import WHOLE
from tests.unit.providers.answers import CREDENTIAL

RECEIVED = 1_000.0
WALL = 1_800_000_000.0
SERVICE = FCM("https://fcm.example/v1/projects/shop/messages:send", lambda: WALL)


def read(fields):
    """A push as the intake reads it."""
    _, push = read_json(json.dumps(fields).encode(), RECEIVED)
    SERVICE.validate(push)
    return push


def body(fields, age=0.0):
    """The body that a push becomes at an age."""
    return json.loads(SERVICE.request(read(fields), CREDENTIAL, RECEIVED + age).body)


def message(fields, age=0.0):
    content = body(fields, age)
    assert list(content) == ["message"]
    return content["message"]


def fault(fields):
    """The reason and the field with which a push is refused."""
    with pytest.raises(InvalidPush) as raised:
        read(fields)
    return raised.value.reason, raised.value.field


def test_a_whole_message_passes_unchanged():
    """What Google's reference lists arrives as it was sent."""
    assert message(WHOLE) == WHOLE


def test_android_v2_passes_unchanged():
    """The block that takes the place of `android`, with what only it has."""
    fields = {
        "fid": "f",
        "android_v2": {
            "background_sync": {"x": 1},
            "collapse_key": "k",
            "ttl": "60s",
            "data": {"a": "b"},
            "direct_boot_ok": True,
            "restricted_package_name": "com.example",
            "fcm_options": {"analytics_label": "a"},
        },
    }
    assert message(fields) == fields


def test_validate_only_stands_beside_the_message():
    """FCM then checks the message and sends nothing."""
    assert body({"token": "t", "validate_only": True}) == {
        "message": {"token": "t"},
        "validate_only": True,
    }


@pytest.mark.parametrize("block", ["android", "android_v2"])
def test_shorthands_go_into_the_block_that_is_there(block):
    """Beside what the block says itself."""
    fields = {"token": "t", "collapse_key": "k", "ttl": 60, block: {"data": {"a": "b"}}}
    assert message(fields) == {
        "token": "t",
        block: {"data": {"a": "b"}, "collapse_key": "k", "ttl": "60s"},
    }


def test_shorthands_go_into_both_blocks():
    """But `android_v2` has no priority."""
    shorthands = {"collapse_key": "k", "ttl": 60, "priority": "high"}
    found = message({"token": "t", "android": {}, "android_v2": {}} | shorthands)
    assert found["android"] == {"collapse_key": "k", "ttl": "60s", "priority": "HIGH"}
    assert found["android_v2"] == {"collapse_key": "k", "ttl": "60s"}


def test_a_block_may_repeat_a_shorthand():
    """In its own words, with the same value."""
    shorthands = {"collapse_key": "k", "ttl": 60, "priority": "high"}
    android = {"collapse_key": "k", "ttl": "60.0s", "priority": "HIGH"}
    assert message({"token": "t", "android": android} | shorthands)["android"] == (
        android | {"ttl": "60s"}
    )


@pytest.mark.parametrize("block", ["android", "android_v2"])
def test_a_ttl_in_a_block_is_the_ttl_of_the_push(block):
    """The gateway drops the push at its end, and sends what is left of it, rounded up."""
    fields = {"token": "t", block: {"ttl": "100.5s"}}
    assert SERVICE.ttl(read(fields)) == 100.5
    assert message(fields, age=60.2)[block]["ttl"] == "41s"
    assert message(fields, age=200.0)[block]["ttl"] == "0s"


def test_a_ttl_in_one_block_is_not_written_into_the_other():
    """What the sender left out stays left out."""
    found = message({"token": "t", "android": {"ttl": "60s"}, "android_v2": {"data": {}}})
    assert found["android_v2"] == {"data": {}}


@pytest.mark.parametrize("given", [{"ttl": 60}, {"android": {"ttl": "60s"}}])
def test_apns_gives_up_when_the_push_expires(given):
    """`apns-expiration` is a date, and set where the sender has not."""
    headers = {"apns-priority": "5"}
    found = message({"token": "t", "apns": {"headers": headers, "payload": {}}} | given, age=20.0)
    assert found["apns"] == {
        "headers": headers | {"apns-expiration": str(int(WALL) + 40)},
        "payload": {},
    }
    own = {"headers": {"APNS-Expiration": "0"}}
    assert message({"token": "t", "apns": own} | given)["apns"] == own
    assert message({"token": "t", "apns": {}} | given)["apns"] == {
        "headers": {"apns-expiration": str(int(WALL) + 60)}
    }


def test_a_collapse_key_in_a_block_is_the_one_of_the_push():
    """So that a newer push takes the place of one that sleeps."""
    for block in ("android", "android_v2"):
        assert read({"token": "t", block: {"collapse_key": "a:b"}}).collapse_key == b"a:b"


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"collapse_key": "a", "android": {"collapse_key": "b"}}, "android.collapse_key"),
        ({"ttl": 60, "android": {"ttl": "61s"}}, "android.ttl"),
        ({"ttl": 60, "android_v2": {"ttl": "61s"}}, "android_v2.ttl"),
        ({"android": {"ttl": "60s"}, "android_v2": {"ttl": "1s"}}, "android_v2.ttl"),
        ({"priority": "high", "android": {"priority": "NORMAL"}}, "android.priority"),
        ({"android": {"ttl": 60}, "ttl": 60}, "android.ttl"),
        ({"android": {"ttl": "60"}}, "android.ttl"),
        ({"android": {"ttl": "-1s"}}, "android.ttl"),
        ({"android": {"ttl": "2419201s"}}, "android.ttl"),
        ({"android": {"ttl": ["60s"]}}, "android.ttl"),
        ({"android": {"priority": "urgent"}}, "android.priority"),
        ({"android": {"collapse_key": 7}}, "android.collapse_key"),
        ({"android_v2": {}, "priority": "high"}, "priority"),
        ({"android_v2": {"priority": "HIGH"}}, "android_v2.priority"),
        ({"android": []}, "android"),
        ({"apns": "x"}, "apns"),
        ({"webpush": 1}, "webpush"),
        ({"fcm_options": True}, "fcm_options"),
        ({"validate_only": "true"}, "validate_only"),
        ({"apns": {"headers": "x"}}, "apns.headers"),
        ({"apns": {"headers": False}}, "apns.headers"),
    ],
)
def test_what_is_no_message(fields, field):
    """The field is named: the second of two that differ."""
    assert fault({"token": "t"} | fields) == ("field", field)


@pytest.mark.parametrize(
    "field", ["android", "android_v2", "apns", "webpush", "fcm_options", "validate_only"]
)
def test_c2dm_carries_none_of_it(field):
    """The first field that it cannot carry is named."""
    value = True if field == "validate_only" else {}
    line = json.dumps({"token": "t", "collapse_key": "k", field: value}).encode()
    with pytest.raises(InvalidPush) as raised:
        C2DM("https://x.example/").validate(read_json(line, RECEIVED)[1])
    assert (raised.value.reason, raised.value.field) == ("unsupported", field)
