"""ClientLogin."""

import re

import pytest

from node2dm_tw.emulator.google.accounts import Tokens
from tests.unit.emulator.support import NOW, SENDER, World, value


def test_any_account_with_a_password():
    """Without a list of accounts a password is all that is needed."""
    world = World()
    answer = world.login()
    assert answer.status == 200
    assert [line.split("=")[0] for line in answer.body.decode().splitlines()] == [
        "SID",
        "LSID",
        "Auth",
    ]
    assert world.login(password="").body == b"Error=BadAuthentication\n"
    assert world.login(email="nobody").status == 403


def test_listed_accounts():
    """With a list of accounts only theirs are good."""
    world = World(accounts={SENDER: "pässword"})
    assert world.login(password="pässword").status == 200
    for email, password in [(SENDER, "wrong"), (SENDER, ""), ("x@y", "pässword"), ("", "")]:
        answer = world.login(email, password)
        assert (answer.status, answer.body) == (403, b"Error=BadAuthentication\n")


@pytest.mark.parametrize(
    ("form", "error"),
    [({"service": "mail"}, "ServiceDisabled"), ({"accountType": "X"}, "BadAuthentication")],
)
def test_other_faults(form, error):
    """The service and the type of account must be right too."""
    assert World().login(**form).error == error


def test_captcha_round_trip():
    """After five wrong passwords the right one needs a captcha's letters too."""
    world = World(accounts={SENDER: "right"})
    for _ in range(5):
        assert world.login(password="wrong").error == "BadAuthentication"
    answer = world.login(password="right")
    assert answer.body.startswith(b"Error=CaptchaRequired\n")
    token = value(answer, "CaptchaToken")
    assert value(answer, "CaptchaUrl") == f"Captcha?ctoken={token}"
    assert value(answer, "Url").startswith("https://")
    picture = world.call("GET", f"/accounts/Captcha?ctoken={token}")
    letters = re.search(rb">(\w+)</text>", picture.body)[1].decode()
    more = {"logintoken": token, "logincaptcha": letters.upper()}
    wrong = {"logintoken": "x", "logincaptcha": letters}
    assert world.login(password="right", **wrong).error == "CaptchaRequired"
    assert world.login(password="right", **more).status == 200
    assert world.login(password="right").status == 200
    assert world.call("GET", f"/accounts/Captcha?ctoken={token}").status == 404


def test_tokens_end():
    """A token is good for its life, or until it is made worthless."""
    tokens = Tokens()
    first, second = (tokens.issue(account, NOW, 60.0).encode() for account in "ab")
    assert tokens.find(first, NOW + 59).account == "a"
    assert tokens.find(first, NOW + 60) is None
    assert tokens.expire("b") == 1
    assert tokens.find(second, NOW) is None
    assert tokens.expire() == 1


def test_tokens_are_bounded():
    """The oldest of ten thousand makes room."""
    tokens = Tokens()
    first = tokens.issue("a", NOW, 60.0).encode()
    for _ in range(10_000):
        last = tokens.issue("a", NOW, 60.0).encode()
    assert tokens.find(first, NOW) is None
    assert tokens.find(last, NOW).number == 10_001
