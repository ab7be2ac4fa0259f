"""Faults on request, through the whole of Google's side."""

import json

import pytest

from node2dm_tw.emulator.google.accounts import LOGIN_ERRORS
from node2dm_tw.emulator.google.c2dm import SEND_ERRORS
from node2dm_tw.emulator.google.devices import REGISTRATION_ERRORS
from node2dm_tw.emulator.google.fcm import FCM_ERRORS, PLAIN_ERRORS
from tests.unit.emulator.support import SENDER, Firebase, World, value


def _script(world, *rules):
    answer = world.call("POST", "/faults", json.dumps(rules).encode())
    assert answer.status == 200, answer.body


def _outcome(world, token, **form):
    """Send; return the whole outcome instead of the reply."""
    outcomes = []
    answer_of = world.google.answer

    class Spy:
        def answer(self, request, now):
            outcomes.append(answer_of(request, now))
            return outcomes[-1]

    google, world.google = world.google, Spy()
    world.send(token, **form)
    world.google = google
    return outcomes[0]


def test_a_status_with_a_header():
    """One push is answered by 503 and Retry-After and goes nowhere; the next is good."""
    world = World()
    token = world.auth()
    _script(world, {"endpoint": "send", "status": 503, "headers": {"Retry-After": "7"}})
    answer = world.send(token)
    assert (answer.status, answer.headers) == (503, ((b"Retry-After", b"7"),))
    assert world.shown == []
    assert world.send(token).body.startswith(b"id=")


@pytest.mark.parametrize("error", sorted(LOGIN_ERRORS))
def test_every_sign_in_error(error):
    """Each of the nine can be had for one account."""
    world = World()
    _script(world, {"endpoint": "login", "account": SENDER, "error": error})
    assert world.login("other@example.com").status == 200
    answer = world.login()
    assert answer.status == 403
    assert answer.body.decode().splitlines()[0] == f"Error={error}"


def test_a_captcha_is_asked_for_until_it_is_solved():
    """One rule starts it; signing in again without the letters does not end it."""
    world = World()
    _script(world, {"endpoint": "login", "error": "CaptchaRequired"})
    first = world.login()
    assert world.login().error == "CaptchaRequired"
    token = value(first, "CaptchaToken")
    letters = world.google.accounts.captcha(token)
    assert world.login(logintoken=token, logincaptcha=letters).status == 200
    assert world.login().status == 200


@pytest.mark.parametrize("error", sorted(SEND_ERRORS))
def test_every_send_error(error):
    """Each of the eight can be had for one device."""
    world = World(phones=("one", "two"))
    token = world.auth()
    _script(world, {"endpoint": "send", "device": "two", "error": error})
    assert world.send(token, registration_id="one").error == ""
    answer = world.send(token, registration_id="two")
    assert (answer.status, answer.body) == (200, f"Error={error}\n".encode())


@pytest.mark.parametrize("error", sorted({*FCM_ERRORS, *PLAIN_ERRORS}))
def test_every_fcm_error(error):
    """Each code comes in the body it has at Google."""
    world = Firebase()
    _script(world, {"endpoint": "fcm", "device": "demo-phone", "error": error})
    content = json.loads(world.push().body)["error"]
    codes = [each["errorCode"] for each in content.get("details", [])]
    assert codes == ([error] if error in FCM_ERRORS else [])
    assert world.push().status == 200


@pytest.mark.parametrize("error", sorted(REGISTRATION_ERRORS))
def test_every_registration_error(error):
    """Each of the six can be had."""
    world = World()
    _script(world, {"endpoint": "register", "account": "a@b", "error": error})
    body = json.dumps({"sender": "a@b", "app": "x"}).encode()
    answer = world.call("POST", "/device/register", body)
    assert (answer.status, json.loads(answer.body)) == (
        REGISTRATION_ERRORS[error],
        {"error": error},
    )
    assert world.call("POST", "/device/register", body).status == 200


def test_times_and_after():
    """Let two through, then fail twice, then no more."""
    world = World()
    token = world.auth()
    _script(world, {"endpoint": "send", "status": 500, "after": 2, "times": 2})
    assert [world.send(token).status for _ in range(6)] == [200, 200, 500, 500, 200, 200]
    rules = json.loads(world.call("GET", "/faults").body)["rules"]
    assert rules[0]["hits"] == 2


def test_probability_with_a_seed():
    """About half fail, and always the same ones."""
    runs = []
    for _ in range(2):
        world = World()
        token = world.auth()
        rule = {"endpoint": "send", "status": 500, "times": None, "probability": 0.5, "seed": 7}
        _script(world, rule)
        runs.append([world.send(token).status for _ in range(100)])
    assert runs[0] == runs[1]
    assert 30 < runs[0].count(500) < 70


@pytest.mark.parametrize(("cut", "shown"), [("request", 0), ("answer", 1), ("body", 1)])
def test_cuts(cut, shown):
    """Only a request that is cut before it is looked at has no effect."""
    world = World()
    token = world.auth()
    _script(world, {"endpoint": "send", "cut": cut, "delay": 2.5})
    outcome = _outcome(world, token)
    assert (outcome.cut, outcome.delay, len(world.shown)) == (cut, 2.5, shown)


def test_update_client_auth():
    """The new token comes with the answer and the old one ends."""
    world = World()
    token = world.auth()
    _script(world, {"endpoint": "send", "update_client_auth": True})
    answer = world.send(token)
    assert answer.body.startswith(b"id=")
    ((name, fresh),) = answer.headers
    assert name == b"Update-Client-Auth"
    assert world.send(token).status == 401
    assert world.send(fresh.decode()).status == 200


def test_expiry_on_request():
    """Every token, or those of one account, can be made worthless."""
    world = World()
    one, two = world.auth("one@x"), world.auth("two@x")
    world.call("POST", "/expire", b'{"account": "one@x"}')
    assert (world.send(one).status, world.send(two).status) == (401, 200)
    assert json.loads(world.call("POST", "/expire").body) == {"expired": 1}
    assert world.send(two).status == 401
    assert world.call("POST", "/expire", b"[]").status == 400


@pytest.mark.parametrize(
    "rule",
    [
        5,
        "x",
        {"colour": "red"},
        {"endpoint": "nowhere"},
        {"endpoint": ["send"]},
        {"status": 99},
        {"status": True},
        {"times": 0},
        {"delay": -1},
        {"delay": 1e999},
        {"cut": "off"},
        {"cut": []},
        {"probability": 2},
        {"seed": "x"},
        {"body": 1},
        {"headers": []},
        {"headers": {"a b": "c"}},
        {"headers": {"a": "b\r\nc: d"}},
        {"headers": {"Content-Length": "3"}},
        {"endpoint": "send", "error": "BadAuthentication"},
        {"error": "QuotaExceeded"},
        {"update_client_auth": 1},
    ],
)
def test_wrong_rules(rule):
    """A rule that is wrong is refused, with the list it came in."""
    world = World()
    body = json.dumps([{"status": 500}, rule]).encode()
    answer = world.call("POST", "/faults", body)
    assert answer.status == 400
    assert json.loads(answer.body)["error"]
    assert json.loads(world.call("GET", "/faults").body) == {"rules": []}


def test_no_more_than_a_thousand():
    """Rules are bounded, and can be taken back."""
    world = World()
    _script(world, *[{"status": 500}] * 1000)
    assert world.call("POST", "/faults", b"{}").status == 400
    assert json.loads(world.call("DELETE", "/faults").body) == {"rules": []}
    assert world.login().status == 200
