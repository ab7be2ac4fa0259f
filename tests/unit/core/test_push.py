"""A push and its two forms."""

import json
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from node2dm_tw.core.json_form import MAX_NESTING, read_json
from node2dm_tw.core.push import MAX_TOKEN_BYTES, REASONS, InvalidPush, check_token, split_at_colons
from tests.support.grammar import TOKENS

NOW = 1_800_000_000.0
LEAST = {"token": "t", "collapse_key": "k"}


def reason(read, line):
    with pytest.raises(InvalidPush) as raised:
        read(line, NOW)
    return raised.value.reason, raised.value.field


def encoded(**fields):
    return json.dumps({**LEAST, **fields}).encode()


def nested(levels):
    """A notification with so many objects in one another."""
    value = 1
    for _ in range(levels):
        value = {"a": value}
    return encoded(notification=value)


PIECES = st.text(st.characters(exclude_characters=":", codec="utf-8"), max_size=30)


@given(
    TOKENS.filter(lambda token: ":" not in token),
    PIECES,
    st.text(st.characters(codec="utf-8"), max_size=60),
)
def test_a_line_gives_back_its_parts(device, key, payload):
    """Token and collapse key end at a colon each; the payload is all that follows."""
    push = split_at_colons(f"{device}:{key}:{payload}".encode(), NOW)
    assert push.device.decode() == device
    assert push.collapse_key.decode() == key
    assert push.payload.decode() == payload
    assert push.data == {"data": payload}
    assert push.message_body == payload
    assert (push.received, push.is_json) == (NOW, False)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (b"", "colons"),
        (b"a", "colons"),
        (b"a:b", "colons"),
        (b"\xff", "colons"),
        (b":b:c", "token"),
        (b"::", "token"),
        (b"a:b:\xff", "utf8"),
        (b"a:b:\xed\xa0\x80", "utf8"),
        (b"\xc0\x80:b:c", "utf8"),
    ],
)
def test_a_line_that_is_no_push(line, expected):
    """The reason is the name it is counted under."""
    assert reason(split_at_colons, line) == (expected, "")


@given(
    TOKENS,
    st.text(st.characters(codec="utf-8"), max_size=30),
    st.dictionaries(
        st.text(st.characters(codec="utf-8"), min_size=1, max_size=9),
        st.text(st.characters(codec="utf-8"), max_size=30),
    ),
    st.booleans(),
)
def test_the_json_form_gives_back_its_parts(device, key, data, ascii_only):
    """However it was spelled; a colon in the token or the key does no harm."""
    fields = {"route": "shop", "token": device, "collapse_key": key, "data": data, "ttl": 60}
    line = json.dumps(fields, ensure_ascii=ascii_only).encode()
    route, push = read_json(line, NOW)
    del fields["route"]
    assert route == "shop"
    assert push.device.decode() == device
    assert push.collapse_key.decode() == key
    assert push.data == data
    assert push.fields == fields
    assert json.loads(push.message_body) == data
    assert push.is_json


@pytest.mark.parametrize(
    ("data", "expected", "body"),
    [("text", {"data": "text"}, "text"), ({}, {}, "{}"), ({"a": "ü"}, {"a": "ü"}, '{"a": "ü"}')],
)
def test_a_text_in_data_is_the_key_data(data, expected, body):
    """As it is in node2dm's form."""
    _, push = read_json(encoded(data=data), NOW)
    assert (push.data, push.message_body) == (expected, body)


def test_the_least_that_is_a_push():
    """Whether there must be a collapse key is the push service's affair."""
    route, push = read_json(b' {"token" : "t"} ', NOW)
    assert route is None
    assert (push.device, push.collapse_key, push.payload) == (b"t", b"", b'{"token":"t"}')
    assert push.data == {}


@pytest.mark.parametrize("target", ["token", "fid", "topic", "condition"])
def test_each_kind_of_target(target):
    """It stands in the place of the registration ID."""
    assert read_json(json.dumps({target: "x"}).encode(), NOW)[1].device == b"x"


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (b"{", ("json", "")),
        (b"[]", ("json", "")),
        (b'"text"', ("json", "")),
        (b'{"token": "t"} x', ("json", "")),
        (b'{"token": "t", "ttl": NaN}', ("json", "")),
        (b'{"token": "t", "notification": {"a": 1e999}}', ("field", "notification.a")),
        (b'{"token": "t", "ttl": ' + b"9" * 5_000 + b"}", ("json", "")),
        (b"[" * 100_000, ("json", "")),
        (b'{"token": "\xff"}', ("utf8", "")),
        (b'{"token": "\\ud800"}', ("utf8", "token")),
        (b'{"token": "t", "data": {"\\udfff": ""}}', ("utf8", "data.\\udfff")),
        (b"{}", ("token", "token")),
        (b'{"token": ""}', ("token", "token")),
        (b'{"topic": ""}', ("token", "topic")),
        (b'{"token": "t", "fid": "f"}', ("target", "fid")),
        (encoded(colour="red"), ("field", "colour")),
        (encoded(token=1), ("field", "token")),
        (encoded(route=1), ("field", "route")),
        (encoded(collapse_key=[]), ("field", "collapse_key")),
        (encoded(data=[]), ("field", "data")),
        (encoded(data={"a": 1}), ("field", "data.a")),
        (encoded(data={"a": None}), ("field", "data.a")),
        (encoded(**{"x" * 60: 1}), ("field", "x" * 24 + "...")),
        (b'{"token": "t", "token": "u"}', ("field", "token")),
        (b'{"token": "t", "data": {"a": "b", "a": "c"}}', ("field", "a")),
        (encoded(data={"": "a"}), ("field", "data")),
        (encoded(ttl=-1), ("field", "ttl")),
        (encoded(ttl=2_419_201), ("field", "ttl")),
        (encoded(ttl=1.5), ("field", "ttl")),
        (encoded(ttl=True), ("field", "ttl")),
        (encoded(priority="urgent"), ("field", "priority")),
        (encoded(priority=[]), ("field", "priority")),
        (encoded(delay_while_idle=1), ("field", "delay_while_idle")),
        (encoded(notification=[]), ("field", "notification")),
        (nested(MAX_NESTING + 1), ("field", "notification")),
        (nested(900), ("field", "notification")),
    ],
)
def test_json_that_is_no_push(line, expected):
    """The reason, and the field where one is at fault."""
    assert reason(read_json, line) == expected


@pytest.mark.parametrize("name", ["order-7.3_a:b", "A" * 64, "0"])
def test_a_push_may_have_a_name_of_its_sender(name):
    """It is kept in the push, whose node2dm form has none."""
    assert read_json(encoded(id=name), NOW)[1].id == name
    assert read_json(encoded(id=None, data={"id": "x"}), NOW)[1].id is None
    assert split_at_colons(b'd:k:{"id":"x"}', NOW).id is None


@pytest.mark.parametrize("name", ["", "A" * 65, "a b", "a/b", "\u00fc", "a\n", 7, True, ["a"]])
def test_what_is_no_name_of_a_push(name):
    """Other characters, none or too many of them."""
    assert reason(read_json, encoded(id=name)) == ("field", "id")


def test_a_notification_is_carried_as_it_is():
    """Numbers, lists and objects in it, to a depth."""
    notification = {"title": "t", "badge": 1, "extra": [{"a": None}, 1.5, True]}
    assert read_json(encoded(notification=notification), NOW)[1].fields["notification"] == (
        notification
    )
    read_json(nested(MAX_NESTING), NOW)


@given(st.binary(max_size=200) | st.binary(max_size=100).map(lambda end: b'{"token":' + end))
def test_no_bytes_bring_the_readers_down(line):
    """Each gives a push or InvalidPush, nothing else."""
    for read in (split_at_colons, read_json):
        try:
            read(line, NOW)
        except InvalidPush as error:
            assert error.reason.isidentifier()  # noqa: PT017


def test_every_fault_has_a_sentence_that_never_holds_a_value():
    """It names the field, and what is right, or what the reason means."""
    for line, said in (
        (encoded(ttl="SECRET"), "ttl must be a whole number of seconds, 0 to 2419200"),
        (encoded(colour="SECRET"), "colour must be left out: there is no such field"),
        (encoded(token="SECRET TOKEN"), f"token: {REASONS['token']}"),
        (b"SECRET", REASONS["json"]),
    ):
        with pytest.raises(InvalidPush) as raised:
            read_json(line, NOW)
        assert raised.value.detail == said


FORBIDDEN = (
    "".join(map(chr, (*range(33), *range(127, 161))))
    + "\"'`()[]{}<>\u00ad\u00ab\u1680\u180e\u2003\u200b\u200d\u200e\u2019\u201c\u2028\u2029\u202e"
    + "\u202f\u2060\u2067\u3000\u300c\ufeff\ufff9\U000e0041"
)


@pytest.mark.parametrize("character", FORBIDDEN, ids=lambda each: f"U+{ord(each):04X}")
def test_what_no_token_holds(character):
    """White space, control and format characters, quotes and brackets, wherever they stand."""
    for text in (character, f"{character}token", f"to{character}ken", f"token{character}"):
        assert reason(read_json, encoded(token=text)) == ("token", "token")
        assert reason(split_at_colons, f"{text}:k:p".encode())[0] == "token"


GOOGLES = [
    "APA91bHun4MxP5egoKMwt2KZFBaFUH-1RYqx_yz0123456789" + "x" * 100,
    "bk3RNwTe3H0:CI2k_HHwgIpoDKCIZvvDMExUdFQ3P1",
    "cOQ1Zx-kT8uVnS7b6E5r2a",
    "demo-phone",
    "a|b",
    "user@example.com/1.0+2=3~4%5&6#7!8$9*,;?\\^_.",
    "t\u00f6ken\U0001f600",
    "x" * MAX_TOKEN_BYTES,
]


@pytest.mark.parametrize("token", GOOGLES, ids=lambda each: each[:12])
def test_what_tokens_hold(token):
    """Letters, digits, and every sign that is neither a quote nor a bracket."""
    assert read_json(encoded(token=token), NOW)[1].device.decode() == token


def test_a_token_has_a_length():
    """Bytes, not letters."""
    for token in ("", "x" * (MAX_TOKEN_BYTES + 1), "\u00fc" * (MAX_TOKEN_BYTES // 2 + 1)):
        assert reason(read_json, encoded(token=token)) == ("token", "token")
        assert reason(split_at_colons, f"{token}:k:p".encode()) == ("token", "")


@given(st.text(st.characters(codec="utf-8"), max_size=20))
def test_a_token_is_what_unicode_says(text):
    """One rule for every character there is."""
    wrong = any(
        unicodedata.category(each) in ("Cc", "Cf", "Zs", "Zl", "Zp", "Pi", "Pf", "Ps", "Pe")
        or each in "\"'`<>"
        for each in text
    )
    try:
        check_token(text.encode())
    except InvalidPush:
        assert wrong or not text
    else:
        assert text
        assert not wrong
