"""C2DM's send side."""

from urllib.parse import quote_plus

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.emulator.support import World

ANY_TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=200)


def test_a_push_reaches_the_phone():
    """Sign in, send, shown."""
    world = World()
    answer = world.send(world.auth(), data__data='{"hello": "world"}')
    assert answer.status == 200
    assert answer.body.startswith(b"id=")
    (message,) = world.shown
    assert message.collapse_key == "greeting"
    assert message.data == {"data": '{"hello": "world"}'}


@settings(deadline=None)
@given(ANY_TEXT)
def test_a_payload_arrives_as_it_is(payload):
    """Emoji, colons, CR, U+2028, nothing at all: the same text comes out."""
    world = World()
    assert world.send(world.auth(), data__data=payload).body.startswith(b"id=")
    assert world.shown[0].data == {"data": payload}


@settings(deadline=None)
@given(ANY_TEXT)
def test_bytes_that_were_not_escaped_arrive_too(payload):
    """What a client leaves unescaped is read as UTF-8."""
    world = World()
    raw = payload.encode()
    for byte in b"%&+":
        raw = raw.replace(bytes([byte]), quote_plus(bytes([byte])).encode())
    head = b"registration_id=demo-phone&collapse_key=k&data.data="
    token = b"GoogleLogin auth=" + world.auth().encode()
    world.call("POST", "/c2dm/send", head + raw, {b"authorization": token})
    assert world.shown[0].data == {"data": payload}


@pytest.mark.parametrize(
    ("form", "error"),
    [
        ({"registration_id": None}, "MissingRegistration"),
        ({"registration_id": ""}, "MissingRegistration"),
        ({"collapse_key": None}, "MissingCollapseKey"),
        ({"collapse_key": ""}, "MissingCollapseKey"),
        ({"registration_id": "unknown"}, "InvalidRegistration"),
        ({"registration_id": "APA91b" + "x" * 134}, "NotRegistered"),
        ({"data__data": "\N{EURO SIGN}" * 341}, "MessageTooBig"),
        ({"collapse_key": "x" * 1025}, "MessageTooBig"),
    ],
)
def test_errors(form, error):
    """Each fault of a push has its code."""
    world = World()
    answer = world.send(world.auth(), **form)
    assert (answer.status, answer.body) == (200, f"Error={error}\n".encode())
    assert world.shown == []


def test_1024_bytes_are_let_through():
    """The limit counts keys and values, and the last byte below it is good."""
    world = World()
    assert world.send(world.auth(), data__data="x" * 1020).body.startswith(b"id=")
    assert world.send(world.auth(), data__data="x" * 1021).error == "MessageTooBig"


@pytest.mark.parametrize("token", ["", "wrong", "\N{EURO SIGN}"])
def test_a_wrong_token_is_401(token):
    """Without a token that is good nothing is looked at."""
    world = World()
    assert world.send(token).status == 401
    assert world.call("POST", "/c2dm/send", b"registration_id=demo-phone").status == 401


def test_a_phone_of_another_sender():
    """A phone takes pushes of the account it registered for, and of no other."""
    world = World()
    phone = world.google.registrations.register("other@example.com", "app")
    answer = world.send(world.auth(), registration_id=phone.registration_id)
    assert answer.error == "MismatchSenderId"


def test_quotas():
    """The sender's limit and the device's are counted apart, over windows that slide."""
    world = World(phones=("a", "b"), sender_quota=(4, 60.0), device_quota=(2, 10.0))
    token = world.auth()
    assert [world.send(token, registration_id="a").error for _ in range(3)] == [
        "",
        "",
        "DeviceQuotaExceeded",
    ]
    assert world.send(token, registration_id="b").error == ""
    assert world.send(token, registration_id="b").error == "QuotaExceeded"
    world.now += 60
    assert world.send(token, registration_id="a").error == ""


def test_half_way_through_its_life_a_token_is_replaced():
    """Update-Client-Auth comes with an answer, and the new token is good."""
    world = World()
    token = world.auth()
    assert world.send(token).headers == ()
    world.now += 8 * 86400
    ((name, fresh),) = world.send(token).headers
    assert name == b"Update-Client-Auth"
    assert world.send(token).headers == ((name, fresh),)
    world.now += 7 * 86400
    assert world.send(token).status == 401
    assert world.send(fresh.decode()).status == 200
