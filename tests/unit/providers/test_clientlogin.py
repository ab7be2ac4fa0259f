"""Signing in with ClientLogin, and the token that outlives the process."""

import json
from functools import partial
from urllib.parse import parse_qsl

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.logger import capturedLogs, formatEvent
from twisted.trial.unittest import SynchronousTestCase

from node2dm_tw.http.interface import post
from node2dm_tw.providers.clientlogin import ClientLogin, read_answer
from node2dm_tw.providers.interface import SignInFailed, SignInRefused
from tests.support.doubles import MemoryHTTP
from tests.support.odd_files import ODD, is_untouched
from tests.unit.providers.answers import NOW, TEXT, answer, responses
from tests.unit.state.test_atomic import JSON

DAY = 86_400.0


class Account:
    """An account, the upstream it signs in to, and its clock."""

    def __init__(self, folder, username="a@example.com", url="https://login.example/", **more):
        self.now = NOW
        self.http = MemoryHTTP()
        self.file = folder / "c2dm.token"
        self.login = ClientLogin(
            partial(post, self.http),
            lambda: self.now,
            self.file,
            url,
            username,
            more.get("password", "hunter2"),
            more.get("source", "example-app-1"),
            more.get("token_max_age", 14 * DAY),
        )

    def fetch(self, body=b"SID=s\nLSID=l\nAuth=token\n", status=200):
        fetching = self.login.fetch()
        self.http.posted[-1].say(status, body)
        return SynchronousTestCase().successResultOf(fetching)


@pytest.fixture
def account(tmp_path):
    return Account(tmp_path)


@given(TEXT, TEXT, TEXT)
def test_the_form_decodes_back(tmp_path_factory, username, password, source):
    """Byte for byte, whatever an address or a password is made of."""
    folder = tmp_path_factory.getbasetemp()
    account = Account(folder, username, password=password, source=source)
    account.login.fetch()
    (posted,) = account.http.posted
    assert posted.url == "https://login.example/"
    assert dict(posted.headers) == {b"Content-Type": b"application/x-www-form-urlencoded"}
    pairs = parse_qsl(posted.body.decode("ascii"), keep_blank_values=True, strict_parsing=True)
    assert pairs == [
        ("accountType", "HOSTED_OR_GOOGLE"),
        ("Email", username),
        ("Passwd", password),
        ("service", "ac2dm"),
        ("source", source),
    ]


@pytest.mark.parametrize(
    "body",
    [
        b"SID=s\nLSID=l\nAuth=token\n",
        b"SID=s\r\nLSID=l\r\nAuth=token\r\n",
        b"Auth=token",
        b"\nnothing\n Auth=token \nmore=x=y\n",
    ],
)
def test_a_token_is_a_credential(account, body):
    """However its lines end; each has a generation of its own, and its header never shows."""
    for generation in (1, 2):
        credential = account.fetch(body)
        assert credential.header == b"GoogleLogin auth=token"
        assert (credential.generation, credential.obtained_at) == (generation, NOW)
        assert credential.expires_at == NOW + 14 * DAY
        assert "token" not in repr(credential)
    assert "hunter2" not in repr(account.login)


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (200, b""),
        (200, b"SID=s\nLSID=l\n"),
        (200, b"Auth=\n"),
        (200, b"<html>"),
        (200, b"Error=BadAuthentication\n"),
        (403, b"Error=Unknown\n"),
        (403, b"Error=ServiceUnavailable\n"),
        (403, b"<html>"),
        (404, b""),
        (302, b""),
        (500, b"Error=BadAuthentication\n"),
        (503, b""),
    ],
)
def test_failures_that_are_nobodys_fault(status, body):
    """They are tried again for ever."""
    with pytest.raises(SignInFailed):
        read_answer(answer(status, body), NOW)


def test_retry_after_is_read():
    """Seconds or a date, where the sign-in is down."""
    for named, after in (("9", 9.0), ("Tue, 14 Nov 2023 22:13:50 GMT", 30.0), ("soon", None)):
        with pytest.raises(SignInFailed) as raised:
            read_answer(answer(503, Retry_After=named), NOW)
        assert raised.value.after == after


@pytest.mark.parametrize(
    "code",
    ["BadAuthentication", "NotVerified", "TermsNotAgreed", "AccountDeleted", "AccountDisabled"],
)
def test_refusals_are_counted(code):
    """What the service holds against the account; asking again may help."""
    with pytest.raises(SignInRefused) as raised:
        read_answer(answer(403, f"Error={code}\r\nUrl=x\r\n".encode()), NOW)
    assert (str(raised.value), raised.value.final) == (code, False)


@pytest.mark.parametrize("url", ["Captcha?ctoken=abc", "/Captcha?ctoken=abc"])
def test_a_captcha_wants_a_person(url):
    """No further try helps; its address is told whole."""
    body = f"Error=CaptchaRequired\nCaptchaToken=abc\nCaptchaUrl={url}\n".encode()
    with pytest.raises(SignInRefused) as raised:
        read_answer(answer(403, body), NOW)
    assert raised.value.final
    assert str(raised.value).endswith(" https://www.google.com/accounts/Captcha?ctoken=abc")


WORDS = [b"Auth", b"Error", b"=", b"\n", b"\r", b"token", b"Unknown", b"CaptchaRequired", b"\xff"]


@given(responses(st.lists(st.sampled_from(WORDS)).map(b"".join)))
def test_whatever_comes_is_a_token_or_a_failure(said):
    """Nothing else is raised."""
    try:
        token = read_answer(said, NOW)
    except (SignInRefused, SignInFailed):
        return
    assert token


def test_the_token_outlives_the_process(account, tmp_path):
    """It is kept where only the owner can read it, and ages meanwhile."""
    assert account.login.stored() is None
    account.fetch()
    account.login.keep()
    assert account.file.stat().st_mode & 0o777 == 0o600
    account.file.chmod(0o644)
    later = Account(tmp_path)
    later.now += 600
    credential = later.login.stored()
    assert account.file.stat().st_mode & 0o777 == 0o600
    assert credential.header == b"GoogleLogin auth=token"
    assert (credential.obtained_at, credential.expires_at) == (NOW, NOW + 14 * DAY)


@pytest.mark.parametrize(
    "change",
    [{"username": "b@example.com"}, {"url": "https://other.example/"}, {"token_max_age": 600.0}],
)
def test_a_token_of_another_account_or_too_old_is_not_used(account, tmp_path, change):
    """Another sender, another sign-in, or its age is over."""
    account.fetch()
    account.login.keep()
    later = Account(tmp_path, **change)
    later.now += 600
    assert later.login.stored() is None


def test_a_token_from_the_future_is_new(account, tmp_path):
    """A clock that stepped back makes no token older than it is."""
    account.fetch()
    account.login.keep()
    earlier = Account(tmp_path)
    earlier.now -= DAY
    assert earlier.login.stored().obtained_at == NOW - DAY


def _kept(**changed):
    account = "a@example.com at https://login.example/"
    return json.dumps({"account": account, "obtained": NOW, "auth": "hush", **changed}).encode()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff",
        b"[]",
        b'"x"',
        b"{}",
        b'{"auth": "hush"',
        b"[" * 50_000,
        b'{"auth": "hush", "obtained": 1e999}',
        b'{"auth": "hush", "obtained": NaN}',
        _kept(obtained="x"),
        _kept(obtained=10**400),
        _kept(obtained=True),
        _kept(obtained=0).replace(b"0", b"9" * 5_000),
        _kept(auth="hush\n"),
        _kept(auth=["hush"]),
    ],
)
def test_a_token_file_that_cannot_be_read_is_told_and_not_used(account, content):
    """Without a word of what is in it."""
    account.file.write_bytes(content)
    with capturedLogs() as events:
        assert account.login.stored() is None
    (line,) = map(formatEvent, events)
    assert str(account.file) in line
    assert "hush" not in line


@given(st.binary() | JSON.map(lambda value: json.dumps(value).encode()))
def test_whatever_is_in_the_token_file_the_start_goes_on(tmp_path_factory, content):
    """Nothing is raised."""
    account = Account(tmp_path_factory.getbasetemp())
    account.file.write_bytes(content)
    assert account.login.stored() is None


@pytest.mark.parametrize("kind", ODD)
def test_a_token_file_that_is_none_is_not_read(account, tmp_path, monkeypatch, kind):
    """It is neither waited for nor followed; the token that is fetched takes its place."""
    monkeypatch.chdir(tmp_path)
    ODD[kind](account.file)
    with capturedLogs() as events:
        assert account.login.stored() is None
    (line,) = map(formatEvent, events)
    assert line == f"{account.file} is not used: it is {kind}"
    account.fetch()
    account.login.keep()
    assert is_untouched(account.file)
    stored = Account(tmp_path).login.stored()
    assert (stored is None) == (kind == "a directory")


@pytest.mark.parametrize("token", ["", "a b", "a\r\nb", "\xfc", 5, None])
def test_what_no_header_can_carry_is_no_token(account, token):
    """Neither from a file nor from an answer."""
    account.file.write_bytes(_kept(auth=token))
    assert account.login.stored() is None
    with pytest.raises(SignInFailed):
        account.login.replace(token)


def test_a_token_that_an_answer_brought_is_kept_too(account, tmp_path):
    """It takes the place of the one before, in memory and on disk."""
    first = account.fetch()
    second = account.login.replace("fresh")
    account.login.keep()
    assert second.generation == first.generation + 1
    assert Account(tmp_path).login.stored().header == b"GoogleLogin auth=fresh"


def test_a_refused_token_is_not_kept(account, tmp_path):
    """The next process would only be refused again."""
    account.fetch()
    account.login.keep()
    account.login.discard_stored()
    account.login.discard_stored()
    assert Account(tmp_path).login.stored() is None


def test_a_refused_token_that_cannot_be_removed_is_not_used_again(small_disk):
    """Not by this process; the next one hears from the upstream that it is refused."""
    account = Account(small_disk.path)
    account.fetch()
    account.login.keep()
    small_disk.remount("ro")
    with capturedLogs() as events:
        account.login.discard_stored()
    assert [formatEvent(event) for event in events] == [
        f"cannot remove {account.file} (Read-only file system): the next start will try its token"
    ]
    assert account.login.stored() is None
    account.fetch(b"Auth=other")
    account.login.keep()
    assert account.login.stored() is None
    small_disk.remount("rw")
    account.login.keep()
    assert account.login.stored().header == b"GoogleLogin auth=other"


def test_a_disk_that_takes_nothing_does_not_stop_a_sign_in(tmp_path):
    """The token serves; it will be gone with the process, and that is told."""
    account = Account(tmp_path / "gone")
    with capturedLogs() as events:
        assert account.fetch().header == b"GoogleLogin auth=token"
        account.login.keep()
    (line,) = map(formatEvent, events)
    assert "cannot save the auth token" in line


def test_another_account_is_used_from_the_next_sign_in_on(account):
    """Another source alone wants no new one."""
    assert not account.login.update("a@example.com", "hunter2", "other")
    assert account.login.update("a@example.com", "other", "other")
    assert account.login.update("b@example.com", "other", "other")
    account.login.fetch()
    assert b"Email=b%40example.com&Passwd=other" in account.http.posted[-1].body
