"""The emulator as a whole: the requests of phones, the log, the counts."""

import json
import time

import pytest

from node2dm_tw.emulator.google.messages import Stream
from node2dm_tw.emulator.settings import PROJECT
from tests.unit.emulator.support import SENDER, Firebase, World


def _register(world, **fields):
    body = json.dumps({"sender": SENDER, "app": "com.example", **fields}).encode()
    answer = world.call("POST", "/device/register", body)
    return answer.status, json.loads(answer.body)


def test_a_phones_life():
    """Register, wait, listen, be refreshed, unregister."""
    world = World()
    status, content = _register(world)
    assert status == 200
    name = content["registration_id"]
    token = world.auth()
    assert world.send(token, registration_id=name).body.startswith(b"id=")
    idle = world.call("POST", f"/device/{name}/idle", b'{"idle": true}')
    assert json.loads(idle.body) == {"idle": True}
    fresh = json.loads(world.call("POST", f"/device/{name}/refresh").body)["registration_id"]
    assert world.send(token, registration_id=name).error == "NotRegistered"
    assert world.call("GET", f"/device/{fresh}/messages") == Stream(fresh)
    assert world.call("DELETE", f"/device/{fresh}").status == 200
    assert world.send(token, registration_id=fresh).error == "NotRegistered"
    assert world.call("DELETE", f"/device/{fresh}").status == 404


@pytest.mark.parametrize(
    ("fields", "error"),
    [
        ({"app": ""}, "PHONE_REGISTRATION_ERROR"),
        ({"app": 5}, "PHONE_REGISTRATION_ERROR"),
        ({"app": "x" * 201}, "PHONE_REGISTRATION_ERROR"),
        ({"device": "a\nb"}, "PHONE_REGISTRATION_ERROR"),
        ({"topics": "news"}, "PHONE_REGISTRATION_ERROR"),
        ({"topics": [1]}, "PHONE_REGISTRATION_ERROR"),
        ({"sender": ""}, "INVALID_SENDER"),
        ({"sender": "other@example.com"}, "INVALID_SENDER"),
        ({"sender": None}, "INVALID_SENDER"),
        ({"account": ""}, "ACCOUNT_MISSING"),
        ({"account": None}, "ACCOUNT_MISSING"),
        ({"account": SENDER, "password": "wrong"}, "AUTHENTICATION_FAILED"),
        ({"account": 5, "password": "wrong"}, "AUTHENTICATION_FAILED"),
    ],
)
def test_registration_errors(fields, error):
    """What the phone says wrong has its error."""
    status, content = _register(World(accounts={SENDER: "right"}), **fields)
    assert status >= 400
    assert content == {"error": error}


@pytest.mark.parametrize("body", [b"", b"[]", b"x", b"\xff", b"[" * 100_000])
def test_a_registration_that_is_no_json(body):
    """It is the phone's fault."""
    answer = World().call("POST", "/device/register", body)
    assert answer.error == "PHONE_REGISTRATION_ERROR"


def test_too_many_registrations():
    """A device has room for a hundred applications."""
    world = World()
    for number in range(100):
        assert _register(world, app=str(number), device="d")[0] == 200
    assert _register(world, app="more", device="d") == (429, {"error": "TOO_MANY_REGISTRATIONS"})


def test_the_right_account_on_the_phone():
    """A password that is right registers."""
    world = World(accounts={SENDER: "right"})
    assert _register(world, account=SENDER, password="right")[0] == 200


def test_the_sender_decides_the_service():
    """The project makes an FCM phone, an account a C2DM phone."""
    world = World()
    assert ":" in _register(world, sender=PROJECT)[1]["registration_id"]
    assert ":" not in _register(world)[1]["registration_id"]


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/", 404),
        ("GET", "", 404),
        ("GET", "/c2dm/send", 405),
        ("POST", "/device/x/messages", 405),
        ("GET", "/device/x", 405),
        ("GET", "/device/", 405),
        ("GET", "/device", 404),
        ("POST", "/device/x/y/z", 404),
        ("GET", "/device/x/messages", 404),
        ("POST", "/device/x/idle", 404),
        ("POST", "/device/x/refresh", 404),
        ("DELETE", "/device/x", 404),
        ("GET", "/v1/projects/p/messages:send", 404),
        ("GET", "/accounts/Captcha", 404),
    ],
)
def test_other_requests(method, path, status):
    """What is not there is 404, and a wrong method 405."""
    assert World().call(method, path).status == status


def test_an_idle_state_must_be_one():
    """Anything but true and false is refused."""
    world = World()
    for body in (b"", b"{}", b'{"idle": 1}', b"[]"):
        assert world.call("POST", "/device/demo-phone/idle", body).status == 400


def _log(world, query=""):
    return json.loads(world.call("GET", f"/log?{query}").body)["entries"]


def test_the_log():
    """It tells what was received and answered, and keeps every secret to itself."""
    world = Firebase(accounts={SENDER: "hunter2"})
    login = world.login(password="hunter2")
    token = login.body.decode().split("Auth=")[1].strip()
    world.send(token, data__data="hello")
    world.send("wrong")
    world.push(data={"a": "b"})
    _register(world, account=SENDER, password="hunter2")
    text = world.call("GET", "/log").body.decode()
    for secret in ("hunter2", token, world.token, world.assertion):
        assert secret not in text
    entries = _log(world)
    assert [each["endpoint"] for each in entries] == [
        "token",
        "login",
        "send",
        "send",
        "fcm",
        "register",
    ]
    assert [each["number"] for each in entries] == [1, 2, 3, 4, 5, 6]
    send = entries[2]
    assert send["form"] == {
        "registration_id": "demo-phone",
        "collapse_key": "greeting",
        "data.data": "hello",
    }
    assert (send["status"], send["token"], send["time"]) == (200, 1, world.now)
    assert "token" not in entries[3]
    assert entries[5]["json"]["password"] == "***"
    assert json.loads(entries[4]["body"])["message"]["data"] == {"a": "b"}
    assert [each["number"] for each in _log(world, "endpoint=send")] == [3, 4]
    assert [each["number"] for each in _log(world, "after=4&limit=1")] == [6]
    assert len(_log(world, "after=x&limit=-1")) == 6


def test_the_log_is_bounded():
    """The last thousand requests, and eight kilobytes of each."""
    world = World(phones=())
    for number in range(1100):
        world.send("wrong", data__data=str(number))
    world.send("wrong", data__data="x" * 100_000)
    entries = _log(world)
    assert (len(entries), entries[0]["number"], entries[-1]["number"]) == (1000, 102, 1101)
    assert len(entries[-1]["form"]["data.data"]) < 8192


def test_counts_and_reset():
    """Counts go by endpoint and outcome; a reset leaves the phones of the settings."""
    world = World()
    token = world.auth()
    world.send(token)
    world.send(token, registration_id="x")
    world.send("wrong")
    _register(world)
    stats = json.loads(world.call("GET", "/stats").body)
    assert stats == {
        "answers": {
            "login": {"200": 1},
            "send": {"200": 1, "InvalidRegistration": 1, "401": 1},
            "register": {"200": 1},
        },
        "messages": {"delivered": 1},
        "phones": 2,
        "phones_online": 1,
        "messages_waiting": 0,
    }
    world.call("POST", "/device/demo-phone/refresh")
    assert world.call("POST", "/reset").status == 200
    stats = json.loads(world.call("GET", "/stats").body)
    assert (stats["answers"], stats["messages"], stats["phones"]) == ({}, {}, 1)
    assert world.send(token).body.startswith(b"id=")


def test_pushes_are_cheap():
    """Thousands a second go through in memory, so that millions fit a simulation."""
    world = World()
    token = world.auth()
    started = time.process_time()
    for _ in range(5_000):
        world.send(token)
    assert time.process_time() - started < 5
