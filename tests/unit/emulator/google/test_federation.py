"""Sign-ins without a service account's key."""

import json
from urllib.parse import urlencode

import pytest

from node2dm_tw.emulator.google.federation import ACCESS_TOKEN, EXCHANGE, METADATA_PATH
from node2dm_tw.emulator.google.oauth import CLIENT_ID, USER
from tests.unit.emulator.support import ACCOUNT, MESSAGING, Firebase

SECRET = "s" * 64
IAM = "https://www.googleapis.com/auth/iam"
PATH = f"/v1/projects/-/serviceAccounts/{ACCOUNT.client_email}:generateAccessToken"
FLAVOR = {b"metadata-flavor": b"Google"}


@pytest.fixture
def world():
    world = Firebase()
    world.google.oauth.secret = SECRET
    return world


def exchange(world, **changed):
    form = {
        "grant_type": EXCHANGE,
        "requested_token_type": ACCESS_TOKEN,
        "audience": "//iam.googleapis.com/pool",
        "subject_token_type": "urn:ietf:params:oauth:token-type:jwt",
        "subject_token": SECRET,
        "scope": MESSAGING,
        **changed,
    }
    return world.call("POST", "/v1/token", urlencode(form).encode())


def refresh(world, **changed):
    form = {
        "grant_type": "refresh_token",
        "client_id": CLIENT_ID,
        "client_secret": SECRET,
        "refresh_token": SECRET,
        **changed,
    }
    return world.call("POST", "/token", urlencode(form).encode())


def impersonate(world, token, path=PATH, **changed):
    body = {"scope": [MESSAGING], "lifetime": "3600s", **changed}
    headers = {b"authorization": f"Bearer {token}".encode()}
    return world.call("POST", path, json.dumps(body).encode(), headers)


def token_of(reply, name="access_token"):
    assert reply.status == 200, reply.body
    return json.loads(reply.body)[name]


def send(world, token):
    return world.post({"message": {"token": "demo-phone"}}, token=token).status


def test_a_token_of_another_identity_provider(world):
    """It is exchanged for one that FCM accepts for an hour."""
    reply = exchange(world)
    token = token_of(reply)
    assert json.loads(reply.body)["expires_in"] == 3599
    assert send(world, token) == 200
    world.now += 3600
    assert send(world, token) == 401


@pytest.mark.parametrize(
    ("changed", "error"),
    [
        ({"grant_type": "x"}, "unsupported_grant_type"),
        ({"requested_token_type": "x"}, "invalid_request"),
        ({"audience": ""}, "invalid_request"),
        ({"subject_token_type": "x"}, "invalid_request"),
        ({"subject_token": "x"}, "invalid_grant"),
        ({"subject_token": ""}, "invalid_grant"),
        ({"scope": "https://www.googleapis.com/auth/drive"}, "invalid_scope"),
    ],
)
def test_an_exchange_that_is_refused(world, changed, error):
    """With the error of the token service."""
    reply = exchange(world, **changed)
    assert (reply.status, reply.error) == (400, error)


@pytest.mark.parametrize(
    ("changed", "error"),
    [
        ({"client_id": "x"}, "invalid_client"),
        ({"client_secret": "x"}, "invalid_client"),
        ({"refresh_token": "x"}, "invalid_grant"),
    ],
)
def test_a_users_client(world, changed, error):
    """Its token is good for FCM and for impersonation; a wrong secret is refused."""
    token = token_of(refresh(world))
    assert send(world, token) == 200
    assert impersonate(world, token).status == 200
    assert world.google.oauth.tokens.find(token.encode(), world.now).account == USER
    assert refresh(world, **changed).error == error


def test_without_a_secret_nobody_signs_in():
    """An emulator that has none yet accepts no empty one."""
    world = Firebase()
    assert exchange(world, subject_token="").error == "invalid_grant"
    assert refresh(world, client_secret="", refresh_token="").error == "invalid_client"


def test_impersonation(world):
    """A token for IAM alone is good for nothing else; the one that it brings is."""
    source = token_of(exchange(world, scope=IAM))
    assert send(world, source) == 401
    reply = impersonate(world, source, lifetime="600s")
    assert json.loads(reply.body)["expireTime"] == "2027-01-15T08:10:00Z"
    token = token_of(reply, "accessToken")
    assert send(world, token) == 200
    world.google.oauth.expire(None)
    assert impersonate(world, source).error == "UNAUTHENTICATED"


@pytest.mark.parametrize(
    ("changed", "error"),
    [
        ({"path": PATH.replace("robot", "other")}, "PERMISSION_DENIED"),
        ({"scope": MESSAGING}, "INVALID_ARGUMENT"),
        ({"scope": ["https://www.googleapis.com/auth/drive"]}, "INVALID_ARGUMENT"),
        ({"lifetime": "7200s"}, "INVALID_ARGUMENT"),
        ({"lifetime": 5}, "INVALID_ARGUMENT"),
    ],
)
def test_an_impersonation_that_is_refused(world, changed, error):
    """With the status of the credentials service."""
    assert impersonate(world, world.token, **changed).error == error
    assert impersonate(world, "x", **changed).error == "UNAUTHENTICATED"


def test_the_metadata_server(world):
    """It has the same token until 300 seconds before its end, and answers machines only."""
    token = f"{METADATA_PATH}/token"
    assert world.call("GET", token).status == 403
    assert (
        json.loads(world.call("GET", f"{METADATA_PATH}/?recursive=true", b"", FLAVOR).body)["email"]
        == ACCOUNT.client_email
    )
    seen = []
    for passed in (0, 1_000, 2_300, 1):
        world.now += passed
        content = json.loads(world.call("GET", token, b"", FLAVOR).body)
        seen.append((content["access_token"], content["expires_in"]))
        assert send(world, content["access_token"]) == 200
    tokens = [each for each, _ in seen]
    assert tokens[0] == tokens[1] == tokens[2] != tokens[3]
    assert [life for _, life in seen] == [3599, 2600, 300, 3599]


def test_what_the_log_hides(world):
    """Neither secrets nor tokens are in it."""
    exchange(world)
    refresh(world)
    impersonate(world, world.token)
    world.call("GET", f"{METADATA_PATH}/token", b"", FLAVOR)
    shown = world.call("GET", "/log").body.decode()
    assert SECRET not in shown
    assert world.token not in shown
    entries = json.loads(shown)["entries"][-4:]
    assert [entry["endpoint"] for entry in entries] == ["sts", "token", "impersonate", "metadata"]
    assert {entry["answer"] for entry in entries} == {"***"}
