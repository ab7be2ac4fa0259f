"""Tokens outlive the emulator that issued them."""

import json
import stat
import time
import urllib.request
from urllib.error import HTTPError
from urllib.parse import urlencode

import jwt
import pytest
from twisted.internet.task import Clock
from twisted.logger import capturedLogs

from node2dm_tw.emulator.google.accounts import TOKEN_SECONDS
from node2dm_tw.emulator.google.oauth import ACCESS_TOKEN_SECONDS, GRANT_TYPE
from node2dm_tw.emulator.server.token_file import SAVE_INTERVAL, TokenFile
from node2dm_tw.emulator.testing import start
from tests.support.odd_files import ODD, is_untouched
from tests.unit.emulator.support import MESSAGING, NOW, SENDER, Firebase, World


class Kept:
    """A world whose tokens are kept in `path`."""

    def __init__(self, path, kind=World, **settings):
        self.clock, self.file = Clock(), None
        self.world = kind(on_tokens=self.save_soon, **settings)
        google = self.world.google
        self.file = TokenFile(path, google.accounts, google.oauth, self.clock)

    def save_soon(self):
        if self.file is not None:  # `Firebase` signs in when it is made
            self.file.save_soon()

    def load(self):
        self.file.load(self.world.now)
        return self.world


@pytest.fixture(name="path")
def _path(tmp_path):
    return tmp_path / "tokens.json"


def test_a_token_is_good_after_a_restart(path):
    """It is the same one, with the life and the number it had; the file does not hold it."""
    before = Kept(path)
    auth = before.world.auth()
    before.clock.advance(0)
    assert auth not in path.read_text(encoding="ascii")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    world = Kept(path).load()
    assert world.send(auth).body.startswith(b"id=")
    tokens = world.google.accounts.tokens
    assert tokens.find(auth.encode(), NOW).number == 1
    assert tokens.find(auth.encode(), NOW + TOKEN_SECONDS) is None
    assert tokens.find(world.auth().encode(), NOW).number == 2


def test_an_access_token_is_good_after_a_restart(path):
    """Until its hour is over."""
    before = Kept(path)
    account = "robot@example.com"
    token = before.world.google.oauth.tokens.issue(account, NOW, ACCESS_TOKEN_SECONDS + 1)
    before.clock.advance(0)
    world = Kept(path, Firebase).load()
    push = {"message": {"token": "demo-phone"}}
    assert world.post(push, token=token).status == 200
    world.now += ACCESS_TOKEN_SECONDS + 1
    assert world.post(push, token=token).status == 401


def test_what_was_made_worthless_stays_so(path):
    """Expired tokens are not in the file; those of an account that is gone are not taken up."""
    before = Kept(path)
    auth, expired = before.world.auth(), before.world.auth("b@example.com")
    before.world.call("POST", "/expire", b'{"account": "b@example.com"}')
    before.file.close()
    assert Kept(path).load().send(expired).status == 401
    assert Kept(path, accounts={"b@example.com": "x"}).load().send(auth).status == 401
    later = Kept(path)
    later.world.now += TOKEN_SECONDS
    assert later.load().send(auth).status == 401
    assert later.world.google.accounts.tokens.dump() == []


def test_the_file_is_written_at_most_once_a_second(path):
    """The first change at once, what follows together, the last at the stop."""
    kept = Kept(path)
    first = kept.world.auth()
    kept.clock.advance(0)
    written = path.read_bytes()
    second = kept.world.auth()
    kept.clock.advance(SAVE_INTERVAL / 2)
    assert path.read_bytes() == written
    kept.clock.advance(SAVE_INTERVAL / 2)
    third = kept.world.auth()
    kept.file.close()
    assert kept.clock.getDelayedCalls() == []
    kept.file.close()
    world = Kept(path).load()
    assert [world.send(auth).status for auth in (first, second, third)] == [200] * 3


def test_the_newest_thousand_are_kept(path):
    """However many there are, and however long the names, the file can be read again."""
    before = Kept(path)
    accounts = [f"{number:04}@" + "\N{EURO SIGN}" * 315 for number in range(1_010)]
    issued = [before.world.auth(account) for account in accounts]
    for account in accounts:
        before.world.google.oauth.tokens.issue(account, NOW, ACCESS_TOKEN_SECONDS)
    before.file.close()
    world = Kept(path).load()
    good = [world.google.accounts.tokens.find(auth.encode(), NOW) for auth in issued]
    assert [grant is not None for grant in good] == [False] * 10 + [True] * 1_000


GRANT = {
    "sha256": "0" * 64,
    "account": SENDER,
    "number": 1,
    "issued": NOW - 1,
    "expires": NOW + 1,
}


@pytest.mark.parametrize(
    "changed",
    [
        {"sha256": "0" * 63},
        {"sha256": 5},
        {"account": None},
        {"account": "nobody"},
        {"number": "1"},
        {"issued": NOW + 1},
        {"issued": float("nan")},
        {"issued": -(10**400)},
        {"expires": NOW},
        {"expires": float("inf")},
        {"expires": NOW + TOKEN_SECONDS},
    ],
)
def test_an_entry_that_cannot_be_is_left_out(path, changed):
    """The others are taken up."""
    path.write_text(json.dumps({"login": [GRANT | changed, GRANT | {"sha256": "1" * 64}]}))
    world = Kept(path).load()
    assert len(world.google.accounts.tokens.dump()) == 1


@pytest.mark.parametrize(
    "content", [b"", b"[]", b"[" * 100_000, b'{"login": 5}', b'{"login": [5]}']
)
def test_a_damaged_file_is_the_same_as_none(path, content):
    """It is written again with the next token."""
    path.write_bytes(content)
    kept = Kept(path)
    assert kept.load().google.accounts.tokens.dump() == []
    auth = kept.world.auth()
    kept.file.close()
    assert Kept(path).load().send(auth).status == 200


@pytest.mark.parametrize("kind", ODD)
def test_what_is_no_file_is_not_read(path, monkeypatch, kind):
    """It is replaced, or a warning says that it cannot be; tokens are good all the same."""
    monkeypatch.chdir(path.parent)
    ODD[kind](path)
    kept = Kept(path)
    auth = kept.load().auth()
    with capturedLogs() as captured:
        kept.file.close()
    assert kept.world.send(auth).status == 200
    assert is_untouched(path)
    assert path.is_dir() == (len(captured) == 1)
    assert path.is_dir() or stat.S_ISREG(path.lstat().st_mode)


def _ask(emulator, url, body, **headers):
    """POST with the emulator's certificate authority; the status and the body."""
    request = urllib.request.Request(url, body, headers)
    context = emulator.client._connect(1)._context
    try:
        with urllib.request.urlopen(request, context=context) as answer:
            return answer.status, answer.read()
    except HTTPError as error:
        with error:
            return error.code, error.read()


def test_over_the_restart_of_a_real_process(tmp_path):
    """An access token of the first process is good with the second, until it is expired."""

    def push(emulator, bearer):
        message = b'{"message": {"token": "demo-phone", "data": {"a": "1"}}}'
        return _ask(emulator, emulator.fcm_url, message, Authorization=f"Bearer {bearer}")[0]

    with start(tmp_path) as emulator:
        key = json.loads(emulator.service_account.read_bytes())
        claims = {"iss": key["client_email"], "scope": MESSAGING, "aud": emulator.token_uri}
        times = {"iat": int(time.time()), "exp": int(time.time()) + 3_600}
        assertion = jwt.encode(claims | times, key["private_key"], "RS256")
        form = urlencode({"grant_type": GRANT_TYPE, "assertion": assertion}).encode()
        _, answer = _ask(emulator, emulator.token_uri, form)
        bearer = json.loads(answer)["access_token"]
        assert push(emulator, bearer) == 200
    with start(tmp_path) as emulator:
        assert push(emulator, bearer) == 200
        assert emulator.log("token") == []
        emulator.expire_tokens()
        assert push(emulator, bearer) == 401
    with start(tmp_path) as emulator:
        assert push(emulator, bearer) == 401
