"""Signing in with a service account."""

import json
import sys
from functools import partial
from urllib.parse import parse_qs

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
)
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.logger import capturedLogs, formatEvent
from twisted.trial.unittest import SynchronousTestCase

from node2dm_tw.core.backoff import http_date
from node2dm_tw.http.interface import post
from node2dm_tw.providers.google_auth import AccountCredentials
from node2dm_tw.providers.interface import SignInFailed, SignInRefused
from node2dm_tw.providers.oauth2 import (
    GRANT_TYPE,
    NEEDS_EXTRA,
    SCOPE,
    ServiceAccountCredentials,
    read_answer,
    read_key,
    sign,
)
from tests.support.doubles import MemoryHTTP, sign_in
from tests.unit.providers.answers import NOW, SHAPES, answer, responses
from tests.unit.providers.keys import CONTENT, RSA, pem

DATE = "Tue, 14 Nov 2023 22:13:20 GMT"
"""`NOW`."""


def file_of(content):
    """What is in a key file."""
    return content if isinstance(content, bytes) else json.dumps(content).encode()


@pytest.fixture
def key():
    return read_key(file_of(CONTENT))


def test_a_key_file(key):
    """What is needed of it is read; the private key never shows."""
    assert (key.client_email, key.project) == ("robot@shop.example", "shop")
    assert (key.private_key_id, key.token_uri) == ("0a1b2c", "https://oauth2.example/token")
    assert "PRIVATE" not in repr(key)


def test_a_key_file_that_begins_with_a_byte_order_mark(key):
    """It is skipped."""
    assert read_key(b"\xef\xbb\xbf" + file_of(CONTENT)) == key


@pytest.mark.parametrize("end", ["\\n", "\\r\\n", "\r\n", " "])
def test_a_private_key_that_came_through_an_environment(key, end):
    r"""Its line ends may be blanks, or `\n` in two characters: no PEM can have those in it."""
    content = {**CONTENT, "private_key": pem(RSA).replace("\n", end)}
    claims = jwt.get_unverified_header(sign(read_key(file_of(content)), NOW))
    assert claims["kid"] == key.private_key_id


def test_what_a_key_file_may_lack():
    """Google's own address is the default; the project can be set elsewhere."""
    least = {name: CONTENT[name] for name in ("type", "private_key", "client_email")}
    key = read_key(file_of(least))
    assert key.token_uri == "https://oauth2.googleapis.com/token"
    assert (key.project, key.private_key_id) == ("", "")
    assert "kid" not in jwt.get_unverified_header(sign(key, NOW))


def locked():
    return pem(RSA, BestAvailableEncryption(b"secret"))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "it is empty"),
        (b"\n", "it is empty"),
        (b"{\n,", "it is not JSON, from line 2 on"),
        (b"\xff\xfe", "it is not JSON"),
        (b"[" * 100_000, "it is not JSON"),
        (pem(RSA).encode(), "it is a private key alone, not JSON; get one in the Firebase console"),
        (b"[]", "its JSON is not an object"),
        ({}, "its type is nothing, not service_account"),
        ({**CONTENT, "type": 1}, "its type is nothing, not service_account"),
        ({"type": "hush " * 50}, "its type is hush"),
        ({**CONTENT, "private_key": ""}, "it has no private_key"),
        ({**CONTENT, "private_key": None}, "it has no private_key"),
        ({**CONTENT, "client_email": 1}, "it has no client_email"),
        ({**CONTENT, "private_key_id": 1}, "it has no private_key_id"),
        ({**CONTENT, "token_uri": "oauth2.example"}, "its token_uri is not a URL that begins with"),
        ({**CONTENT, "token_uri": "https:///token"}, "its token_uri is not a URL that begins with"),
        ({**CONTENT, "token_uri": "https://[::1/"}, "its token_uri is not a URL that begins with"),
        (
            {**CONTENT, "token_uri": "https://h:99999/"},
            "its token_uri is not a URL that begins with",
        ),
        ({**CONTENT, "token_uri": "https://u:p@h/"}, "its token_uri is not a URL that begins with"),
        ({**CONTENT, "token_uri": "https://h/\n"}, "its token_uri is not a URL that begins with"),
        ({**CONTENT, "private_key": "hunter2"}, "its private_key is not a private key in PEM"),
        ({**CONTENT, "private_key": "\ud800"}, "its private_key is not a private key in PEM"),
        ({**CONTENT, "private_key": pem(RSA)[:900]}, "its private_key is not a private key in PEM"),
        ({**CONTENT, "private_key": locked()}, "its private_key is encrypted with a password"),
        (
            {**CONTENT, "private_key": pem(ec.generate_private_key(ec.SECP256R1()))},
            "its private_key is not an RSA key",
        ),
    ],
)
def test_what_is_wrong_with_a_key_file_is_said(content, words):
    """In one line, without a word of what is in it."""
    with pytest.raises(ValueError, match=r"^a service account's key file \(") as raised:
        read_key(file_of(content))
    said = str(raised.value)
    assert words in said
    assert "\n" not in said
    assert "hunter2" not in said


def test_the_extra_is_named_where_it_is_missing(key, monkeypatch):
    """At start, and by a sign-in that comes to it all the same."""
    monkeypatch.setitem(sys.modules, "jwt", None)
    with pytest.raises(ValueError, match=r"PyJWT, which FCM needs: pip install 'PyJWT\[crypto\]'"):
        read_key(file_of(CONTENT))
    account = ServiceAccountCredentials(partial(post, MemoryHTTP()), lambda: NOW, key)
    error = failure(account.fetch())
    assert error.final
    assert NEEDS_EXTRA in str(error)


def result(deferred):
    return SynchronousTestCase().successResultOf(deferred)


def failure(deferred):
    return SynchronousTestCase().failureResultOf(deferred).value


@pytest.mark.parametrize("clock", [NOW, NOW + 0.999])
def test_the_assertion_says_who_asks_for_what(key, clock):
    """Issuer, scope, audience, at most an hour of life, and which key has signed it."""
    http = MemoryHTTP()
    ServiceAccountCredentials(partial(post, http), lambda: clock, key).fetch()
    (posted,) = http.posted
    assert posted.url == "https://oauth2.example/token"
    assert dict(posted.headers) == {b"Content-Type": b"application/x-www-form-urlencoded"}
    form = parse_qs(posted.body.decode(), strict_parsing=True)
    assert form["grant_type"] == [GRANT_TYPE]
    (assertion,) = form["assertion"]
    assert jwt.get_unverified_header(assertion) == {"alg": "RS256", "typ": "JWT", "kid": "0a1b2c"}
    claims = jwt.decode(
        assertion, RSA.public_key(), ["RS256"], {"verify_exp": False, "verify_aud": False}
    )
    assert claims == {
        "iss": "robot@shop.example",
        "scope": SCOPE,
        "aud": "https://oauth2.example/token",
        "iat": int(NOW),
        "exp": int(NOW) + 3_600,
    }


def test_a_token_is_a_credential(key):
    """Each has a generation of its own, and its header never shows."""
    http = MemoryHTTP()
    account = ServiceAccountCredentials(partial(post, http), lambda: NOW, key)
    for generation in (1, 2):
        fetched = account.fetch()
        token = {"access_token": f"ya29.{generation}", "expires_in": 3599, "token_type": "Bearer"}
        http.posted[-1].say(200, json.dumps(token).encode())
        credential = result(fetched)
        assert credential.header == f"Bearer ya29.{generation}".encode()
        assert (credential.generation, credential.obtained_at) == (generation, NOW)
        assert credential.expires_at == NOW + 3_599
        assert "ya29" not in repr(credential) + repr(account)
        assert "PRIVATE" not in repr(account)


def test_nothing_is_kept_for_the_next_process(key):
    """And no answer of FCM's brings a token."""
    account = ServiceAccountCredentials(partial(post, MemoryHTTP()), lambda: NOW, key)
    account.keep()
    account.discard_stored()
    assert account.stored() is None
    with pytest.raises(SignInFailed):
        account.replace("x")


def test_another_key_is_used_from_the_next_sign_in_on(key):
    """Only another one wants a new sign-in."""
    http = MemoryHTTP()
    make = partial(ServiceAccountCredentials, partial(post, http), lambda: NOW)
    account = AccountCredentials(make, key)
    assert not account.update(read_key(file_of(CONTENT)))
    assert account.update(read_key(file_of({**CONTENT, "token_uri": "https://other.example/"})))
    account.fetch()
    assert http.posted[-1].url == "https://other.example/"


@pytest.mark.parametrize(
    ("named", "life"),
    [
        (3_599, 3_599.0),
        ("3599", 3_599.0),
        (59.5, 59.5),
        (None, 3_600.0),
        ("soon", 3_600.0),
        (0, 3_600.0),
        (-5, 3_600.0),
        ([], 3_600.0),
        (float("nan"), 3_600.0),
        (float("inf"), 3_600.0),
        (10**400, 3_600.0),
        (10**9, 86_400.0),
    ],
)
def test_expires_in_is_a_number_or_the_text_of_one(named, life):
    """What cannot be read counts as the usual hour."""
    assert read_answer(answer(200, {"access_token": "x", "expires_in": named}), NOW) == ("x", life)
    assert read_answer(answer(200, {"access_token": "x"}), NOW) == ("x", 3_600.0)


@pytest.mark.parametrize(
    ("said", "reason", "after"),
    [
        (answer(200), "an answer without a token", None),
        (answer(200, b"<html>"), "an answer without a token", None),
        (answer(200, {"id_token": "x"}), "an answer without a token", None),
        (answer(200, {"access_token": "a\r\nb"}), "an answer without a token", None),
        (answer(200, {"access_token": "x" * 17_000}), "an answer without a token", None),
        (answer(200, {"access_token": "x", "token_type": "mac"}), "another type", None),
        (answer(503, {"error": "temporarily_unavailable"}), "status 503 temporarily_unav", None),
        (answer(500, {"error": "invalid_grant"}), "status 500 invalid_grant", None),
        (answer(400, {"error": "internal_failure"}), "status 400 internal_failure", None),
        (answer(429, {"error": "rate_limit_exceeded"}, Retry_After="9"), "status 429", 9.0),
        (answer(503, b"<html>", Retry_After="9"), "status 503", 9.0),
        (answer(404, b"<html>"), "status 404", None),
        (answer(302), "status 302", None),
    ],
)
def test_failures_that_are_nobodys_fault(said, reason, after):
    """They are tried again for ever."""
    with pytest.raises(SignInFailed, match=reason) as raised:
        read_answer(said, NOW)
    assert raised.value.after == after


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ({"error": "invalid_client"}, "invalid_client"),
        ({"error": "invalid_scope", "error_description": "Bad\nscope"}, "invalid_scope: Bad scope"),
        ({"error": {"status": "PERMISSION_DENIED", "message": "No."}}, "PERMISSION_DENIED: No."),
        ({"error": "x", "error_description": ["x"]}, "x"),
    ],
)
def test_refusals_are_counted(content, reason):
    """The account's own faults, in the server's words."""
    with pytest.raises(SignInRefused) as raised:
        read_answer(answer(400, content), NOW)
    assert (str(raised.value), raised.value.final) == (reason, False)


@pytest.mark.parametrize(
    ("off", "date", "said"),
    [
        (4_000, DATE, "; the clock of this machine is 4000 seconds ahead of the server's: set it"),
        (-7_200, DATE, "; the clock of this machine is 7200 seconds behind the server's: set it"),
        (61, DATE, "; the clock of this machine is 61 seconds ahead of the server's: set it"),
        (5, DATE, "; the clock of this machine is right"),
        (-59, DATE, "; the clock of this machine is right"),
        (4_000, "yesterday", ""),
        (4_000, None, ""),
    ],
)
def test_a_wrong_clock_is_told_in_plain_words(off, date, said):
    """invalid_grant is its usual sign; the answer's own date says by how much."""
    headers = {} if date is None else {"Date": date}
    refused = answer(
        400, {"error": "invalid_grant", "error_description": "Invalid JWT."}, **headers
    )
    with pytest.raises(SignInRefused) as raised:
        read_answer(refused, NOW + off)
    assert str(raised.value) == "invalid_grant: Invalid JWT." + said


def test_an_assertion_that_comes_back_is_not_told(key):
    """Not even where the server says it again."""
    assertion = sign(key, NOW)
    with pytest.raises(SignInRefused) as raised:
        read_answer(answer(400, {"error": "x", "error_description": f"bad: {assertion}"}), NOW)
    assert str(raised.value) == "x: bad: ........."[: len("x: bad: ") + 11].replace(
        ".........", "..........."
    )
    for part in assertion.split("."):
        assert part not in str(raised.value)


@given(
    responses(
        st.fixed_dictionaries(
            {},
            optional={
                "access_token": st.text() | SHAPES,
                "expires_in": SHAPES,
                "token_type": st.just("bearer") | SHAPES,
                "error": st.text() | SHAPES,
                "error_description": st.text() | SHAPES,
            },
        ).map(lambda content: answer(200, content).body)
    )
)
def test_whatever_comes_is_a_token_or_a_failure(said):
    """Nothing else is raised, and what is told fits on one line."""
    try:
        token, life = read_answer(said, NOW)
    except (SignInRefused, SignInFailed) as error:
        told = str(error)
    else:
        told = token
        assert token.isascii()
        assert 0 < life <= 86_400
    assert told.isprintable()
    assert len(told) < 400


@given(st.binary(max_size=60))
def test_http_dates(value):
    """Any header is a date or none."""
    date = http_date(value)
    assert date is None or date == int(date)


def test_no_secret_is_logged(key):
    """Neither key, assertion nor token, through a refusal, a failure and a success."""
    clock = Clock()
    http = MemoryHTTP()
    wall = lambda: NOW + clock.seconds()  # noqa: E731
    credentials = ServiceAccountCredentials(partial(post, http), wall, key)
    signin = sign_in(credentials, clock, wall)
    with capturedLogs() as events:
        signin.start()
        http.posted[-1].say(400, b'{"error": "invalid_grant"}', Date=DATE)
        clock.advance(60)
        http.posted[-1].say(503, b'{"error": "x"}')
        clock.advance(60)
        http.posted[-1].say(200, b'{"access_token": "ya29.hush", "expires_in": 3599}')
    signin.stop()
    lines = [formatEvent(event) for event in events]
    assert len(lines) == 3
    told = "\n".join(lines) + repr(events)
    assertions = [parse_qs(each.body.decode())["assertion"][0] for each in http.posted]
    for secret in ("ya29.hush", CONTENT["private_key"][40:80], *assertions):
        assert secret not in told


def test_a_request_for_a_token_can_be_cancelled(key):
    """A stop gives it up."""
    http = MemoryHTTP()
    fetching: Deferred = ServiceAccountCredentials(partial(post, http), lambda: NOW, key).fetch()
    fetching.cancel()
    assert fetching.called
    fetching.addErrback(lambda _: None)
