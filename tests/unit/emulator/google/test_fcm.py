"""FCM's send side."""

import json

import pytest

from node2dm_tw.emulator.google.fcm import BAD_TOKEN
from node2dm_tw.emulator.settings import PROJECT
from tests.unit.emulator.support import Firebase

FCM_ERROR = "type.googleapis.com/google.firebase.fcm.v1.FcmError"
BAD_REQUEST = "type.googleapis.com/google.rpc.BadRequest"
GONE = "x" * 22 + ":APA91b" + "y" * 134


def _error(answer):
    error = json.loads(answer.body)["error"]
    assert error["code"] == answer.status
    return error


def _code(answer):
    codes = [each.get("errorCode") for each in _error(answer).get("details", [])]
    return next(filter(None, codes), None)


def _field(answer):
    for detail in _error(answer).get("details", []):
        if detail["@type"] == BAD_REQUEST:
            return detail["fieldViolations"][0].get("field")
    return None


def test_a_message_reaches_the_phone():
    """Data, collapse key and notification are shown; the answer names the message."""
    world = Firebase()
    answer = world.push(
        data={"a": "\N{SNOWMAN}"},
        notification={"title": "T"},
        android={"collapseKey": "k", "ttl": "3.5s", "priority": "high", "data": {"b": ""}},
    )
    assert answer.status == 200
    name = json.loads(answer.body)["name"]
    assert name.startswith(f"projects/{PROJECT}/messages/0:")
    (message,) = world.shown
    assert message.data == {"a": "\N{SNOWMAN}", "b": ""}
    assert message.collapse_key == "k"
    assert message.notification == {"title": "T"}
    assert message.expires == world.now + 3.5


def test_the_kind_of_android_v2_is_its_urgency():
    """An idle phone gets a remote_notification at once, and a background_sync when it is used."""
    world = Firebase()
    world.call("POST", "/device/demo-phone/idle", b'{"idle": true}')
    shown = {"title": "T"}
    for kind in ({"backgroundSync": {}}, {"remote_notification": {"notification": shown}}):
        common = {"collapseKey": next(iter(kind)), "ttl": "60s", "data": {"b": "2"}}
        assert world.push(data={"a": "1"}, android_v2={**common, **kind}).status == 200
    (message,) = world.shown
    assert message.collapse_key == "remote_notification"
    assert message.notification == shown
    world.call("POST", "/device/demo-phone/idle", b'{"idle": false}')
    late = world.shown[1]
    assert late.collapse_key == "backgroundSync"
    assert late.data == {"a": "1", "b": "2"}
    assert (late.notification, late.expires) == (None, world.now + 60)


def test_android_v2_counts_before_android():
    """Where a message has both blocks, the later kind says how it is delivered."""
    world = Firebase()
    world.call("POST", "/device/demo-phone/idle", b'{"idle": true}')
    old = {"priority": "HIGH", "collapse_key": "old", "ttl": "1s"}
    world.push(android=old, android_v2={"background_sync": {}, "collapse_key": "new"})
    assert world.shown == []
    (message,) = world.google.registrations.find("demo-phone").waiting.values()
    assert message.collapse_key == "new"
    assert message.expires > world.now + 1


def test_validate_only():
    """A trial run is checked and answered, and nothing is shown."""
    world = Firebase()
    answer = world.post({"message": {"token": "demo-phone"}, "validateOnly": True})
    assert json.loads(answer.body)["name"] == f"projects/{PROJECT}/messages/fake_message_id"
    assert world.shown == []
    assert _code(world.post({"message": {"token": GONE}, "validate_only": True})) == "UNREGISTERED"


@pytest.mark.parametrize("token", ["", "x", "\N{EURO SIGN}"])
def test_401_has_no_fcm_error(token):
    """Without a good access token nothing is looked at."""
    answer = Firebase().post(b"nonsense", token=token)
    assert (answer.status, _error(answer)["status"]) == (401, "UNAUTHENTICATED")
    assert "details" not in _error(answer)


def test_another_project_is_404_without_a_code():
    """A wrong project is the sender's mistake and names no device."""
    answer = Firebase().post({"message": {"token": "demo-phone"}}, project="other")
    assert (answer.status, _error(answer)["status"], _code(answer)) == (404, "NOT_FOUND", None)


def test_a_wrong_url_is_html():
    """What is no endpoint is answered by a web page."""
    answer = Firebase().call("POST", "/v2/projects/x/messages:send")
    assert answer.status == 404
    assert answer.content_type.startswith(b"text/html")


def test_devices_that_are_not_there():
    """Gone, malformed, and somebody else's: three different errors."""
    world = Firebase()
    gone = world.push(token=GONE)
    assert (gone.status, _code(gone)) == (404, "UNREGISTERED")
    malformed = world.push(token="nonsense")
    assert _error(malformed) == {
        "code": 400,
        "message": BAD_TOKEN,
        "status": "INVALID_ARGUMENT",
        "details": [{"@type": FCM_ERROR, "errorCode": "INVALID_ARGUMENT"}],
    }
    phone = world.google.registrations.register("a@example.com", "app")
    other = world.push(token=phone.registration_id)
    assert (other.status, _code(other)) == (403, "SENDER_ID_MISMATCH")
    unknown = world.post({"message": {"fid": "x" * 22}})
    assert _code(unknown) == "UNREGISTERED"
    assert _field(world.post({"message": {"fid": "x:y"}})) == "message.fid"


def test_a_phone_is_found_by_either_name():
    """The installation ID is the first half of the token; it may also be in the field token."""
    world = Firebase()
    phone = world.google.registrations.register(PROJECT, "app", firebase=True)
    assert world.push(token=phone.registration_id).status == 200
    fid = phone.registration_id.partition(":")[0]
    assert world.post({"message": {"fid": fid}}).status == 200
    assert world.push(token=fid).status == 200
    assert len(phone.waiting) == 3
    world.google.registrations.unregister(phone)
    assert _code(world.push(token=phone.registration_id)) == "UNREGISTERED"
    assert _code(world.post({"message": {"fid": fid}})) == "UNREGISTERED"
    assert _code(world.push(token=fid)) == "UNREGISTERED"


@pytest.mark.parametrize(
    ("message", "field"),
    [
        ({}, "message"),
        ({"token": ""}, "message"),
        ({"token": "demo-phone", "topic": "a"}, "message"),
        ({"topic": "a b"}, "message.topic"),
        ({"condition": "a"}, "message.condition"),
        ({"token": 5}, "message.token"),
        ({"token": "demo-phone", "colour": 1}, "message"),
        ({"token": "demo-phone", "data": {"a": 1}}, "message.data[0].value"),
        ({"token": "demo-phone", "data": {"a": {}}}, "message.data[0].value"),
        ({"token": "demo-phone", "data": []}, "message.data"),
        ({"token": "demo-phone", "data": {"from": "x"}}, "message.data"),
        ({"token": "demo-phone", "data": {"google.x": "x"}}, "message.data"),
        ({"token": "demo-phone", "data": {"gcm": "x"}}, "message.data"),
        ({"token": "demo-phone", "data": {"message_type": "x"}}, "message.data"),
        ({"token": "demo-phone", "android": {"data": {"from": "x"}}}, "message.android.data"),
        ({"token": "demo-phone", "data": {"a": "x" * 4096}}, "message.data"),
        ({"topic": "a", "data": {"a": "x" * 2048}}, "message.data"),
        ({"token": "demo-phone", "notification": {"body": "x" * 4096}}, "message.notification"),
        (
            {"token": "demo-phone", "android": {"collapse_key": "x" * 4097}},
            "message.android.collapse_key",
        ),
        ({"token": "demo-phone", "android": {"ttl": 5}}, "message.android.ttl"),
        ({"token": "demo-phone", "android": {"ttl": "5"}}, "message.android.ttl"),
        ({"token": "demo-phone", "android": {"ttl": "-1s"}}, "message.android.ttl"),
        ({"token": "demo-phone", "android": {"ttl": "2419201s"}}, "message.android.ttl"),
        ({"token": "demo-phone", "android": {"priority": "urgent"}}, "message.android.priority"),
        (
            {"token": "demo-phone", "android": {"notification": {"color": "red"}}},
            "message.android.notification.color",
        ),
        (
            {"token": "demo-phone", "android": {"notification": {"light_settings": {"x": 1}}}},
            "message.android.notification.light_settings",
        ),
        (
            {"token": "demo-phone", "android": {"notification": {"vibrateTimings": ["1"]}}},
            "message.android.notification.vibrate_timings[0]",
        ),
        ({"token": "demo-phone", "android_v2": {"ttl": 5}}, "message.android_v2.ttl"),
        ({"token": "demo-phone", "android_v2": {"ttl": "-1s"}}, "message.android_v2.ttl"),
        ({"token": "demo-phone", "android_v2": {"priority": "HIGH"}}, "message.android_v2"),
        ({"token": "demo-phone", "android_v2": {"data": {"gcm": ""}}}, "message.android_v2.data"),
        (
            {"token": "demo-phone", "android_v2": {"collapse_key": "x" * 4097}},
            "message.android_v2.collapse_key",
        ),
        (
            {"token": "demo-phone", "android_v2": {"background_sync": 1}},
            "message.android_v2.background_sync",
        ),
        (
            {"token": "demo-phone", "android_v2": {"fcm_options": {"analytics_label": ""}}},
            "message.android_v2.fcm_options.analytics_label",
        ),
        (
            {
                "token": "demo-phone",
                "android_v2": {"remote_notification": {}, "background_sync": {}},
            },
            "message.android_v2",
        ),
        ({"token": "demo-phone", "apns": {"payload": 1}}, "message.apns.payload"),
        (
            {"token": "demo-phone", "webpush": {"headers": {"a": 1}}},
            "message.webpush.headers[0].value",
        ),
        (
            {"token": "demo-phone", "fcm_options": {"analytics_label": "a b"}},
            "message.fcm_options.analytics_label",
        ),
    ],
)
def test_what_is_wrong_is_named(message, field):
    """A fault of the message is INVALID_ARGUMENT with the field in a BadRequest."""
    world = Firebase()
    answer = world.post({"message": message})
    assert (answer.status, _error(answer)["status"]) == (400, "INVALID_ARGUMENT")
    assert _field(answer) == field
    assert world.shown == []


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("title", 1),
        ("sticky", 1),
        ("sticky", "true"),
        ("notification_count", "x"),
        ("notification_count", 1.5),
        ("notification_count", True),
        ("notification_count", 2**31),
        ("event_time", "yesterday"),
        ("visibility", "HIDDEN"),
        ("visibility", True),
        ("visibility", 9),
        ("body_loc_args", "x"),
        ("body_loc_args", [1]),
        ("light_settings", 1),
        ("light_settings", {"color": {"red": "x"}}),
        ("light_settings", {"color": {"red": True}}),
    ],
)
def test_every_type_is_checked(field, value):
    """A value of another type is refused, and the path to it named."""
    answer = Firebase().push(android={"notification": {field: value}})
    assert answer.status == 400
    assert _field(answer).startswith(f"message.android.notification.{field}")


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"x",
        b"[]",
        b"5",
        b"null",
        b"{",
        b"\xff",
        b'{"a":1}',
        b"[" * 100000,
        b'{"message":NaN}',
        b'{"message":{"token":"\\ud800"}}',
        b'{"message":null}',
        b'{"message":{"token":' + b"9" * 5000 + b"}}",
    ],
)
def test_what_is_no_message(body):
    """A body that is not a message is 400, in JSON."""
    answer = Firebase().post(body)
    assert (answer.status, _error(answer)["status"]) == (400, "INVALID_ARGUMENT")


def test_the_edges_are_good():
    """4096 bytes, four weeks, zero seconds, no value at all."""
    world = Firebase()
    assert world.push(data={"a": "x" * 4095}).status == 200
    assert world.push(android={"ttl": "2419200s"}).status == 200
    assert world.push(android={"ttl": "0s"}).status == 200
    light = {"color": {"red": 0.5, "alpha": 1}, "lightOnDuration": "1s"}
    notification = {"lightSettings": light, "notificationCount": 2.0, "proxy": None}
    assert world.push(android={"notification": notification}).status == 200
    assert (
        world.push(data=None, android={"notification": {"notification_count": "3"}}).status == 200
    )
    assert (
        world.push(
            android={"notification": {"visibility": 1, "event_time": "2027-01-01T00:00:00Z"}}
        ).status
        == 200
    )


def test_the_package_must_be_the_phones():
    """restricted_package_name lets a message reach one application only."""
    world = Firebase()
    phone = world.google.registrations.register(PROJECT, "com.example", firebase=True)
    token = phone.registration_id
    good = world.push(token=token, android={"restricted_package_name": "com.example"})
    assert good.status == 200
    wrong = world.push(token=token, android={"restricted_package_name": "com.other"})
    assert _field(wrong) == "message.android.restricted_package_name"
    wrong = world.push(token=token, android_v2={"restricted_package_name": "com.other"})
    assert _field(wrong) == "message.android_v2.restricted_package_name"


def test_the_limits_of_a_device_slide():
    """240 a minute, 5,000 an hour, over any minute and any hour."""
    world = Firebase()
    assert all(world.push().status == 200 for _ in range(240))
    world.now += 59
    answer = world.push()
    assert (answer.status, _code(answer), answer.headers) == (
        429,
        "QUOTA_EXCEEDED",
        ((b"Retry-After", b"1"),),
    )
    failure = _error(answer)["details"][1]
    assert failure["@type"] == "type.googleapis.com/google.rpc.QuotaFailure"
    assert failure["violations"][0]["subject"] == "device:demo-phone"
    world.now += 1
    sent = 240
    while world.push().status == 200:
        sent += 1
        world.now += 0.26
        if sent % 3000 == 0:
            world.token = json.loads(world.sign_in(iat=world.now, exp=world.now + 60).body)[
                "access_token"
            ]
    assert sent == 5000


def test_the_projects_quota():
    """What a project sends, faulty or not, counts against its rate."""
    world = Firebase(sender_quota=(2, 60.0))
    assert world.push().status == 200
    assert world.post(b"nonsense").status == 400
    answer = world.push()
    assert answer.status == 429
    assert _error(answer)["details"][1]["violations"][0]["subject"] == f"project:{PROJECT}"


def test_topics():
    """A phone hears the topics it named when it registered."""
    world = Firebase()
    register = world.google.registrations.register
    first = register(PROJECT, "a", firebase=True, topics=["news"])
    second = register(PROJECT, "b", firebase=True, topics=["news", "sport"])
    assert world.post({"message": {"topic": "news"}}).status == 200
    condition = "'news' in topics && !('sport' in topics)"
    assert world.post({"message": {"condition": condition}}).status == 200
    assert (len(first.waiting), len(second.waiting)) == (2, 1)
