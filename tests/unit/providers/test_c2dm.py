"""C2DM: what its requests say, and what its answers mean."""

import json
from typing import get_args
from urllib.parse import parse_qsl

import pytest
from hypothesis import given
from hypothesis import strategies as st

from node2dm_tw.core.json_form import read_json
from node2dm_tw.core.push import InvalidPush
from node2dm_tw.providers.c2dm import C2DM
from node2dm_tw.providers.interface import (
    BadDevice,
    Delivered,
    DeviceOverQuota,
    NewToken,
    Rejected,
    Retry,
    SenderOverQuota,
    Unauthorized,
    Unexplained,
    Verdict,
)
from tests.support.grammar import TOKENS
from tests.unit.providers.answers import CREDENTIAL, NAME, NOW, TEXT, answer, responses

SERVICE = C2DM("https://c2dm.example/send")


def form(push):
    """The fields of the request, decoded as strictly as can be."""
    body = SERVICE.request(push, CREDENTIAL, NOW).body
    pairs = parse_qsl(body.decode("ascii"), keep_blank_values=True, strict_parsing=True)
    assert len(dict(pairs)) == len(pairs)
    return dict(pairs)


def from_json(**fields):
    push = read_json(json.dumps(fields).encode(), NOW)[1]
    SERVICE.validate(push)
    return push


PART = st.text(st.characters(codec="utf-8", exclude_characters=":"), min_size=1, max_size=40)


@given(TOKENS.filter(lambda token: ":" not in token), PART, TEXT)
def test_a_line_arrives_byte_for_byte(token, key, payload):
    """The form decodes back to what was said: `+`, `&`, `%`, blanks and anything but ASCII."""
    push = SERVICE.split(f"{token}:{key}:{payload}".encode(), NOW)
    SERVICE.validate(push)
    assert form(push) == {"registration_id": token, "collapse_key": key, "data.data": payload}


@given(TOKENS, NAME, st.dictionaries(NAME, TEXT, max_size=4) | TEXT, st.none() | st.booleans())
def test_the_json_form_arrives_byte_for_byte(token, key, data, delay):
    """Each key of the data is a field; delay_while_idle is there or not, as its presence counts."""
    more = {} if delay is None else {"delay_while_idle": delay}
    push = from_json(token=token, collapse_key=key, data=data, **more)
    fields = {"data": data} if isinstance(data, str) else data
    expected = {"registration_id": token, "collapse_key": key}
    expected |= {f"data.{name}": text for name, text in fields.items()}
    assert form(push) == expected | ({"delay_while_idle": "1"} if delay else {})


def test_the_headers_are_one_object_as_long_as_the_credential_is():
    """Clients key their caches by it."""
    push = SERVICE.split(b"a:b:c", NOW)
    first, second = (SERVICE.request(push, CREDENTIAL, NOW + n) for n in range(2))
    assert first.headers is second.headers
    assert dict(first.headers) == {
        b"Authorization": CREDENTIAL.header,
        b"Content-Type": b"application/x-www-form-urlencoded;charset=UTF-8",
    }
    assert first.url == "https://c2dm.example/send"
    assert "secret" not in repr(first)


@pytest.mark.parametrize(
    ("fields", "reason", "field"),
    [
        ({"token": "t"}, "collapse_key", "collapse_key"),
        ({"token": "t", "collapse_key": ""}, "collapse_key", "collapse_key"),
        ({"fid": "t", "collapse_key": "k"}, "unsupported", "fid"),
        ({"topic": "t", "collapse_key": "k"}, "unsupported", "topic"),
        ({"condition": "t", "collapse_key": "k"}, "unsupported", "condition"),
        ({"token": "t", "collapse_key": "k", "priority": "high"}, "unsupported", "priority"),
        ({"token": "t", "collapse_key": "k", "notification": {}}, "unsupported", "notification"),
        ({"token": "t", "collapse_key": "k" * 1_025}, "too_large", "collapse_key"),
        ({"token": "t", "collapse_key": "k", "data": "x" * 1_021}, "too_large", "data"),
    ],
)
def test_what_c2dm_cannot_carry(fields, reason, field):
    """It is refused before it is queued."""
    with pytest.raises(InvalidPush) as raised:
        from_json(**fields)
    assert (raised.value.reason, raised.value.field) == (reason, field)


def test_the_time_a_push_has():
    """C2DM knows no ttl; the lane keeps to it."""
    assert SERVICE.ttl(from_json(token="t", collapse_key="k", ttl=60)) == 60
    assert SERVICE.ttl(from_json(token="t", collapse_key="k")) is None


@pytest.mark.parametrize(
    ("said", "verdict"),
    [
        (answer(200, b"id=0:1234%5678"), Delivered(b"0:1234%5678")),
        (answer(200, b" id=1\r\n"), Delivered(b"1")),
        (answer(200, b"Error=QuotaExceeded"), SenderOverQuota()),
        (answer(200, b"Error=QuotaExceeded\r\n"), SenderOverQuota()),
        (answer(200, b"Error=DeviceQuotaExceeded"), DeviceOverQuota(None)),
        (answer(200, b"Error=InvalidRegistration"), BadDevice("InvalidRegistration")),
        (answer(200, b"Error=NotRegistered\n"), BadDevice("NotRegistered")),
        (answer(200, b"Error=MissingRegistration"), Rejected("MissingRegistration")),
        (answer(200, b"Error=MismatchSenderId"), Rejected("MismatchSenderId")),
        (answer(200, b"Error=MessageTooBig"), Rejected("MessageTooBig")),
        (answer(200, b"Error=MissingCollapseKey"), Rejected("MissingCollapseKey")),
        (answer(200, b"Error=SomethingNew"), Rejected("SomethingNew")),
        (answer(200, b"Error=Not a word"), Rejected("unreadable", is_explained=False)),
        (answer(200, b"Error=" + b"x" * 41), Rejected("unreadable", is_explained=False)),
        (answer(200, b"Error="), Rejected("unreadable", is_explained=False)),
        (answer(200, b"id="), Rejected("unreadable", is_explained=False)),
        (answer(200, b""), Rejected("unreadable", is_explained=False)),
        (answer(200, b"<html>"), Rejected("unreadable", is_explained=False)),
        (answer(200, b"id=1", truncated=True), Rejected("too_large", is_explained=False)),
        (answer(401), Unauthorized()),
        (answer(401, b"", truncated=True), Unauthorized()),
        (answer(503), Retry(None, True, "503")),
        (answer(503, b"", truncated=True), Retry(None, True, "503")),
        (answer(502, Retry_After="7"), Retry(7.0, True, "502, Retry-After")),
        (answer(504, Retry_After="soon"), Retry(None, True, "504")),
        (
            answer(503, Retry_After="Tue, 14 Nov 2023 22:13:50 GMT"),
            Retry(30.0, True, "503, Retry-After"),
        ),
        (answer(429, Retry_After="2"), Retry(2.0, True, "429, Retry-After")),
        (answer(520), Retry(None, True, "520")),
        (answer(599), Retry(None, True, "599")),
        (answer(408), Retry(None, False, "408")),
        (answer(425, Retry_After="3"), Retry(3.0, False, "425, Retry-After")),
        (answer(500), Unexplained("http_500", "500", None, None)),
        (
            answer(500, Retry_After="7"),
            Unexplained("http_500", "500, Retry-After", 7.0, None),
        ),
        (answer(501), Unexplained("http_501", "501", None, None)),
        (answer(519), Unexplained("http_519", "519", None, None)),
        (answer(302), Unexplained("http_302", "302: is send_url right?", None, 60.0)),
        (answer(400), Unexplained("http_400", "400: is send_url right?", None, 60.0)),
        (answer(404, b"<html>"), Unexplained("http_404", "404: is send_url right?", None, 60.0)),
        (answer(200, b"\xef\xbb\xbfid=1"), Delivered(b"1")),
        (answer(204), Rejected("http_204", is_explained=False)),
    ],
)
def test_each_row(said, verdict):
    """The table of the design."""
    assert SERVICE.judge(said, NOW) == verdict


@pytest.mark.parametrize("status", [200, 401, 503, 404])
def test_any_answer_may_bring_a_token(status):
    """It says what it says of the push all the same; an empty header brings none."""
    verdict = SERVICE.judge(answer(status), NOW)
    said = answer(status, Update_Client_Auth="fresh")
    assert SERVICE.judge(said, NOW) == NewToken("fresh", verdict)
    assert SERVICE.judge(answer(status, Update_Client_Auth=""), NOW) == verdict


BODIES = st.lists(
    st.sampled_from([b"id", b"Error", b"=", b"QuotaExceeded", b"NotRegistered", b"\n", b"\r", b"x"])
).map(b"".join)


@given(responses(BODIES))
def test_whatever_comes_is_judged(said):
    """No body, status or header makes it raise."""
    verdict = SERVICE.judge(said, NOW)
    if isinstance(verdict, NewToken):
        assert verdict.token
        verdict = verdict.verdict
    assert isinstance(verdict, get_args(Verdict))
    if isinstance(verdict, Retry) and verdict.after is not None:
        assert 0 <= verdict.after <= 86_400
    if isinstance(verdict, Rejected | BadDevice):
        assert verdict.reason.isprintable()
