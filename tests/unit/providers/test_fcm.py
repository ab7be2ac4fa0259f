"""What FCM can carry, and what its requests say."""

import json

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from node2dm_tw.core.json_form import read_json
from node2dm_tw.core.push import InvalidPush
from node2dm_tw.providers.fcm import FCM, send_url
from node2dm_tw.providers.interface import Delivered
from tests.support.grammar import TOKENS
from tests.unit.providers.answers import CREDENTIAL, NAME, NOW, TEXT, answer

FCM_SERVICE = FCM("https://fcm.example/v1/projects/shop/messages:send", lambda: NOW)


def refusal(line):
    """Why this line is no push for FCM, and which field is at fault."""
    with pytest.raises(InvalidPush) as raised:
        FCM_SERVICE.validate(read(line))
    return raised.value.reason, raised.value.field


def read(line, received=NOW):
    """Either form, as the intake reads it."""
    if isinstance(line, dict):
        line = json.dumps(line).encode()
    if line.startswith(b"{"):
        return read_json(line, received)[1]
    return FCM_SERVICE.split(line, received)


def sent(line, now=NOW):
    """The message that a line becomes."""
    push = read(line)
    FCM_SERVICE.validate(push)
    content = json.loads(FCM_SERVICE.request(push, CREDENTIAL, now).body)
    assert list(content) == ["message"]
    return content["message"]


@pytest.mark.parametrize(
    ("line", "parts"),
    [
        (b'f:APA91b-x:key:{"a":1}', (b"f:APA91b-x", b"key", b'{"a":1}')),
        (b'f:APA91b-x::{"a":1}', (b"f:APA91b-x", b"", b'{"a":1}')),
        (b'fid:key:{"a":{"b":1}}', (b"fid", b"key", b'{"a":{"b":1}}')),
        (b'f:x:k:{"a":"b:{c"}', (b"f:x", b"k", b'{"a":"b:{c"}')),
        (b"f:x:k:{", (b"f:x", b"k", b"{")),
        (b"fid:key:hello", (b"fid", b"key", b"hello")),
        (b"fid::hello", (b"fid", b"", b"hello")),
        (b"fid:key:", (b"fid", b"key", b"")),
        (b"fid::", (b"fid", b"", b"")),
    ],
)
def test_the_payload_begins_at_the_first_colon_and_brace(line, parts):
    """What is before it splits at its last colon, for tokens hold one themselves."""
    push = FCM_SERVICE.split(line, NOW)
    assert (push.device, push.collapse_key, push.payload) == parts
    assert (push.received, push.is_json) == (NOW, False)
    FCM_SERVICE.validate(push)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"f:APA91b:key:hello", "ambiguous"),
        (b"f:APA91b:key: {}", "ambiguous"),
        (b"fid:key:10:30", "ambiguous"),
        (b"", "colons"),
        (b"fid", "colons"),
        (b"fid:key", "colons"),
        (b"fid:{}", "colons"),
        (b":{}", "colons"),
        (b"::{}", "token"),
        (b":key:{}", "token"),
        (b":key:hello", "token"),
        (b"f:x:k:{\xff}", "utf8"),
        (b"f\xff:k:{}", "utf8"),
        (b"fid:k:\xff", "utf8"),
    ],
)
def test_lines_that_cannot_be_split(line, reason):
    """The reason is the name it is counted under."""
    with pytest.raises(InvalidPush) as raised:
        FCM_SERVICE.split(line, NOW)
    assert (raised.value.reason, raised.value.field) == (reason, "")


@given(st.binary(max_size=120) | st.lists(st.sampled_from([b":", b"{", b"a", b":{"])).map(b"".join))
def test_arbitrary_lines_are_pushes_or_invalid(line):
    """Nothing else is raised, and a push gives back its line."""
    try:
        push = FCM_SERVICE.split(line, NOW)
        FCM_SERVICE.validate(push)
    except InvalidPush:
        return
    assert b":".join((push.device, push.collapse_key, push.payload)) == line
    message = json.loads(FCM_SERVICE.request(push, CREDENTIAL, NOW).body)["message"]
    assert message["token"].encode() == push.device


def without(characters):
    return st.text(st.characters(codec="utf-8", exclude_characters=characters), max_size=30)


@given(TOKENS, without("{:"), TEXT)
def test_a_line_arrives_as_it_was_said(token, key, text):
    """Whatever is in it: quotes, controls, anything but ASCII."""
    token = f"f{token}"
    payload = "{" + text
    message = sent(f"{token}:{key}:{payload}".encode())
    expected = {"token": token, "data": {"data": payload}}
    assert message == expected | ({"android": {"collapse_key": key}} if key else {})


KEYS = NAME.filter(lambda key: key.lower()[:3] not in ("goo", "gcm", "fro", "mes"))


@given(
    st.sampled_from(["token", "fid"]),
    TOKENS,
    st.fixed_dictionaries(
        {},
        optional={
            "collapse_key": TEXT,
            "data": TEXT | st.dictionaries(KEYS, TEXT, max_size=5),
            "ttl": st.integers(0, 2_419_200),
            "priority": st.sampled_from(["normal", "high"]),
            "notification": st.dictionaries(st.sampled_from(["title", "body", "image"]), TEXT),
        },
    ),
)
def test_the_json_form_arrives_as_it_was_said(kind, target, fields):
    """Each field in its place, and nothing beside them."""
    message = sent({kind: target, **fields})
    assert message.pop(kind) == target
    android = message.pop("android", {})
    assert android.pop("collapse_key", "") == fields.get("collapse_key", "")
    assert android.pop("priority", "").lower() == fields.get("priority", "")
    assert android.pop("ttl", None) == (f"{fields['ttl']}s" if "ttl" in fields else None)
    assert not android
    if "data" in fields:
        data = message.pop("data")
        assert data == fields["data"] or data == {"data": fields["data"]}
    assert message == {n: v for n, v in fields.items() if n == "notification"}


@pytest.mark.parametrize(
    ("target", "value"),
    [
        ("topic", "news"),
        ("topic", "a-b_c.d~e%20"),
        ("condition", "'a' in topics"),
        ("condition", " ('a' in topics && !('b' in topics)) || 'c-%_.~1' in topics "),
    ],
)
def test_topics_and_conditions(target, value):
    """They are targets like any other."""
    assert sent({target: value, "data": "x"}) == {target: value, "data": {"data": "x"}}


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"delay_while_idle": True}, ("unsupported", "delay_while_idle")),
        ({"delay_while_idle": False}, ("unsupported", "delay_while_idle")),
        ({"data": {"from": "x"}}, ("reserved", "data.from")),
        ({"data": {"message_type": "x"}}, ("reserved", "data.message_type")),
        ({"data": {"a": "x", "google.c": "x"}}, ("reserved", "data.google.c")),
        ({"data": {"gcm": "x"}}, ("reserved", "data.gcm")),
        ({"data": {"gcm\nx": "x"}}, ("reserved", "data.gcm\nx")),
        ({"data": {"a": 1}}, ("field", "data.a")),
        ({"data": {"": "x"}}, ("field", "data")),
        ({"ttl": 2_419_201}, ("field", "ttl")),
        ({"ttl": -1}, ("field", "ttl")),
        ({"ttl": "1s"}, ("field", "ttl")),
        ({"priority": "urgent"}, ("field", "priority")),
        ({"notification": {"icon": "x"}}, ("field", "notification.icon")),
        ({"notification": {"title": 1}}, ("field", "notification.title")),
        ({"notification": {"body": ["x"]}}, ("field", "notification.body")),
        ({"notification": "x"}, ("field", "notification")),
        ({"notification": {"title": "x" * 4_092}}, ("too_large", "notification")),
        ({"fid": "x"}, ("target", "fid")),
        ({"topic": "x"}, ("target", "topic")),
    ],
)
def test_what_fcm_cannot_carry(fields, expected):
    """It is refused before it is queued, with the field at fault."""
    assert refusal({"token": "t", **fields}) == expected


@pytest.mark.parametrize(
    ("target", "value"),
    [
        ("topic", "/topics/news"),
        ("topic", "a b"),
        ("topic", "x" * 901),
        ("condition", "a in topics"),
        ("condition", "'a' in topics and 'b' in topics"),
        ("condition", "'a b' in topics"),
        ("condition", " || ".join(["'a' in topics"] * 6)),
        ("condition", " " * 3_000 + "?"),
    ],
)
def test_topics_and_conditions_that_are_none(target, value):
    """A topic has a small alphabet, a condition at most five of them."""
    assert refusal({target: value}) == ("field", target)


@pytest.mark.parametrize("target", ["token", "fid", "topic", "condition"])
def test_a_target_that_is_empty(target):
    """There must be exactly one, and it must say something."""
    assert refusal({target: ""}) == ("token", target)
    assert refusal({}) == ("token", "token")


@pytest.mark.parametrize(("target", "most"), [("token", 4_096), ("fid", 4_096), ("topic", 2_048)])
def test_keys_and_values_may_have_so_many_bytes(target, most):
    """Bytes, not letters: the last that fits, and one more."""
    for data, more in (
        ({"key": "x" * (most - 3)}, {"key": "x" * (most - 2)}),
        ({"ü": "ü" * (most // 2 - 1)}, {"ü": "ü" * (most // 2)}),
        ("x" * (most - 4), "x" * (most - 3)),
    ):
        sent({target: "t", "data": data})
        assert refusal({target: "t", "data": more}) == ("too_large", "data")
    sent({target: "t", "collapse_key": "x" * most})
    assert refusal({target: "t", "collapse_key": "x" * (most + 1)})[1] == "collapse_key"


def test_a_line_may_have_so_many_bytes():
    """The key `data` counts as well."""
    sent(b"t:k:{" + b"x" * 4_091)
    assert refusal(b"t:k:{" + b"x" * 4_092) == ("too_large", "data")
    assert refusal(b"t:" + b"k" * 4_097 + b":{")[1] == "collapse_key"


@pytest.mark.parametrize(
    ("ttl", "age", "left"),
    [
        (3_600, 0.0, "3600s"),
        (3_600, 0.004, "3600s"),
        (3_600, 600.0, "3000s"),
        (60, 59.5, "1s"),
        (60, 61.0, "0s"),
        (0, 0.0, "0s"),
        (0, 5.0, "0s"),
        (2_419_200, 86_400.0, "2332800s"),
    ],
)
def test_the_ttl_sent_is_what_is_left_of_it(ttl, age, left):
    """Never 0 while a part of a second is left: 0 means now or never."""
    line = {"token": "t", "ttl": ttl}
    assert sent(line, NOW + age)["android"]["ttl"] == left
    assert FCM_SERVICE.ttl(read(line)) == ttl


def test_a_push_without_a_ttl_has_none():
    """FCM keeps it then as long as FCM likes."""
    assert FCM_SERVICE.ttl(read({"token": "t"})) is None
    assert sent({"token": "t"}) == {"token": "t"}


def test_the_headers_are_one_object_as_long_as_the_credential_is():
    """Clients key their caches by it; another credential has another."""
    push = read(b"t:k:{}")
    other = attrs.evolve(CREDENTIAL, header=b"Bearer other")
    first, second, third = (
        FCM_SERVICE.request(push, credential, NOW) for credential in (CREDENTIAL, CREDENTIAL, other)
    )
    assert first.headers is second.headers
    assert dict(first.headers) == {
        b"Authorization": b"Bearer secret",
        b"Content-Type": b"application/json; charset=UTF-8",
    }
    assert dict(third.headers)[b"Authorization"] == b"Bearer other"
    assert first.url == FCM_SERVICE.url
    assert "secret" not in repr(first)


@pytest.mark.parametrize(
    ("arguments", "url"),
    [
        (["shop"], "https://fcm.googleapis.com/v1/projects/shop/messages:send"),
        (["a.com:b"], "https://fcm.googleapis.com/v1/projects/a.com:b/messages:send"),
        (["a/../b"], "https://fcm.googleapis.com/v1/projects/a%2F..%2Fb/messages:send"),
        (["shop", "https://x:1/"], "https://x:1/v1/projects/shop/messages:send"),
        (
            ["shop", "https://x/v1/projects/y/messages:send"],
            "https://x/v1/projects/y/messages:send",
        ),
    ],
)
def test_the_address_of_a_project(arguments, url):
    """The project stands in the path, unless the whole address is given."""
    assert send_url(*arguments) == url


def test_no_answer_brings_a_token():
    """Only C2DM's do."""
    said = answer(200, b'{"name": "x"}', Update_Client_Auth="x")
    assert FCM_SERVICE.judge(said, NOW) == Delivered(b"x")
