"""The OAuth 2.0 token endpoint."""

import json
from urllib.parse import urlencode

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from node2dm_tw.emulator.files import ensure_files, read_service_account
from node2dm_tw.emulator.google.emulator import GoogleEmulator
from node2dm_tw.emulator.google.messages import IncomingRequest
from node2dm_tw.emulator.google.oauth import NEEDS_EXTRA
from node2dm_tw.emulator.settings import EmulatorSettings
from tests.unit.emulator.support import NOW, Firebase

OTHER = rsa.generate_private_key(public_exponent=65537, key_size=2048).private_bytes(
    Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
)


def test_a_good_assertion():
    """It is answered with a bearer token that FCM takes for an hour."""
    world = Firebase()
    answer = json.loads(world.sign_in().body)
    assert answer["token_type"] == "Bearer"
    assert answer["expires_in"] == 3599
    world.now += 3599
    assert world.push().status == 200
    world.now += 1
    assert world.push().status == 401


def test_googles_own_audience():
    """google-auth names it whatever token_uri is, so it is good as well."""
    assert Firebase().sign_in(aud="https://oauth2.googleapis.com/token").status == 200


@pytest.mark.parametrize(
    ("changed", "error", "words"),
    [
        ({"key": OTHER}, "invalid_grant", "Signature"),
        ({"key": "x" * 32, "algorithm": "HS256"}, "invalid_grant", "Signature"),
        ({"key": None, "algorithm": "none"}, "invalid_grant", "Signature"),
        ({"grant_type": "password"}, "unsupported_grant_type", "password"),
        ({"iss": "someone@example.com"}, "invalid_grant", "account not found"),
        ({"iss": None}, "invalid_grant", "account not found"),
        ({"aud": "https://example.com/token"}, "invalid_grant", "audience"),
        ({"aud": ["x", {}]}, "invalid_grant", "audience"),
        ({"iat": NOW + 600, "exp": NOW + 1200}, "invalid_grant", "timeframe"),
        ({"iat": NOW - 4000, "exp": NOW - 400}, "invalid_grant", "timeframe"),
        ({"exp": NOW + 3601}, "invalid_grant", "timeframe"),
        ({"exp": None}, "invalid_grant", "timeframe"),
        ({"iat": True}, "invalid_grant", "timeframe"),
        ({"scope": None}, "invalid_scope", "missing"),
        ({"scope": "https://www.googleapis.com/auth/drive"}, "invalid_scope", "scope"),
    ],
)
def test_what_is_wrong_is_said(changed, error, words):
    """Each claim that is wrong has its error, as the real endpoint writes it."""
    answer = Firebase().sign_in(**changed)
    assert answer.status == 400
    content = json.loads(answer.body)
    assert content["error"] == error
    assert words in content["error_description"]


@pytest.mark.parametrize("assertion", ["", "x", "a.b.c", "\N{EURO SIGN}", "e30.e30.e30"])
def test_what_is_no_assertion(assertion):
    """Nonsense is an error like any other."""
    form = {"grant_type": "urn:ietf:params:oauth:grant-type:jwt-bearer", "assertion": assertion}
    answer = Firebase().call("POST", "/token", urlencode(form).encode())
    assert answer.error in ("invalid_grant", "invalid_request")


def test_without_pyjwt(tmp_path):
    """FCM is off and says which extra it needs."""
    google = GoogleEmulator(EmulatorSettings(tmp_path), lambda name: print, verify=None)
    form = {"grant_type": "urn:ietf:params:oauth:grant-type:jwt-bearer", "assertion": "x"}
    token = google.answer(
        IncomingRequest("POST", "/token", body=urlencode(form).encode()), NOW
    ).reply
    assert json.loads(token.body)["error_description"] == NEEDS_EXTRA
    send = google.answer(IncomingRequest("POST", "/v1/projects/p/messages:send"), NOW).reply
    assert (send.status, json.loads(send.body)["error"]["message"]) == (501, NEEDS_EXTRA)


def test_the_account_comes_from_the_key_file(tmp_path):
    """Its audience is the token_uri of the file."""
    where = ensure_files(EmulatorSettings(tmp_path))
    account = read_service_account(where.service_account)
    assert account.token_uri == where.token_uri
    assert account.project == where.project
    assert "PUBLIC KEY" in account.public_key
