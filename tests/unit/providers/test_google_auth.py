"""Accounts that google-auth signs in with: key files of all types, and the metadata server."""

import json
import re
import sys

import pytest
from twisted.internet.defer import maybeDeferred
from twisted.internet.task import Clock

from node2dm_tw.http.interface import Response
from node2dm_tw.providers.fcm import FCM, send_url
from node2dm_tw.providers.google_auth import (
    METADATA,
    GoogleAccount,
    GoogleAuthCredentials,
    read_account,
)
from node2dm_tw.providers.interface import Credential
from node2dm_tw.providers.oauth2 import ServiceAccountKey
from tests.support.doubles import sign_in
from tests.support.tools import module
from tests.unit.emulator.support import ACCOUNT, NOW, World
from tests.unit.providers.keys import CONTENT

google = module("google.auth")

SECRET = "hunter2-hunter2-hunter2-hunter2-hunter2-hunter2"
BASE = "https://google.example"
IMPERSONATION = f"{BASE}/v1/projects/-/serviceAccounts/{ACCOUNT.client_email}:generateAccessToken"
USER = {
    "type": "authorized_user",
    "client_id": "node2dm.apps.googleusercontent.com",
    "client_secret": SECRET,
    "refresh_token": SECRET,
    "token_uri": f"{BASE}/token",
}
EXTERNAL = {
    "type": "external_account",
    "audience": "//iam.googleapis.com/projects/1/locations/global/workloadIdentityPools/a/b",
    "subject_token_type": "urn:ietf:params:oauth:token-type:jwt",
    "token_url": f"{BASE}/v1/token",
    "credential_source": {"file": "/subject-token"},
}
IMPERSONATED = {
    "type": "impersonated_service_account",
    "service_account_impersonation_url": IMPERSONATION,
    "source_credentials": USER,
}


def file_of(content):
    return json.dumps(content).encode()


def without(content, name):
    return {key: value for key, value in content.items() if key != name}


@pytest.mark.parametrize(
    "content", [USER, EXTERNAL, IMPERSONATED], ids=lambda content: content["type"]
)
def test_what_a_key_file_says(content):
    """Its type, and if it names them project, universe, and the project that is charged."""
    account = read_account(file_of(content))
    assert account == GoogleAccount(content["type"], file_of(content))
    assert SECRET not in repr(account)
    more = {"project_id": "shop", "quota_project_id": "pay"}
    if content is not USER:
        more["universe_domain"] = "cloud.example"
    account = read_account(file_of({**content, **more}))
    assert (account.project, account.user_project) == ("shop", "pay")
    assert account.universe == more.get("universe_domain", "googleapis.com")


def test_the_metadata_server():
    """It has no file, and names no project before it is asked."""
    assert read_account(METADATA) == GoogleAccount(METADATA)


def test_a_service_account_needs_no_google_auth(monkeypatch):
    """Its key file is read by us alone; its universe_domain is known, too."""
    monkeypatch.setitem(sys.modules, "google.auth.exceptions", None)
    key = read_account(file_of({**CONTENT, "universe_domain": "cloud.example"}))
    assert isinstance(key, ServiceAccountKey)
    assert key.universe == "cloud.example"
    assert key != read_account(file_of(CONTENT))


@pytest.mark.parametrize(
    ("source", "missing"),
    [
        (file_of(USER), "google.auth.exceptions"),
        (METADATA, "google.auth.exceptions"),
        (METADATA, "google.auth.compute_engine"),
    ],
)
def test_the_extra_is_named_where_it_is_missing(source, missing, monkeypatch):
    """So is the library that google-auth itself needs."""
    monkeypatch.setitem(sys.modules, missing, None)
    expected = r"^google-auth, which (metadata|authorized_user) needs: pip install 'google-auth"
    with pytest.raises(ValueError, match=expected):
        read_account(source)


WRONG = [
    (without(USER, "refresh_token"), "it has no refresh_token"),
    ({**USER, "client_id": 5}, "it has no client_id"),
    ({**USER, "token_uri": "ftp://x"}, "its token_uri is not a URL that begins with https://"),
    ({**USER, "quota_project_id": "x\r\ny"}, "its quota_project_id is not a project ID"),
    ({**USER, "universe_domain": "x/y"}, "its universe_domain is not a domain"),
    (without(EXTERNAL, "audience"), "it has no audience"),
    ({**EXTERNAL, "token_url": f"https://{SECRET}@x/"}, "its token_url is not a URL"),
    (without(EXTERNAL, "credential_source"), "google-auth cannot use it: "),
    ({**EXTERNAL, "credential_source": {}}, "google-auth cannot use it: "),
    ({**EXTERNAL, "credential_source": 5}, "google-auth cannot use it: "),
    ({**EXTERNAL, "credential_source": {"executable": {}}}, "google-auth cannot use it: "),
    (without(IMPERSONATED, "source_credentials"), "its source_credentials are neither"),
    ({**IMPERSONATED, "source_credentials": EXTERNAL}, "its source_credentials are neither"),
    ({**IMPERSONATED, "source_credentials": {"type": "authorized_user"}}, "cannot use it: "),
    (
        {**IMPERSONATED, "source_credentials": {**CONTENT, "private_key": SECRET}},
        "google-auth cannot use it: ",
    ),
    (
        {**IMPERSONATED, "service_account_impersonation_url": f"{BASE}/v1"},
        "its service_account_impersonation_url names no service account",
    ),
]


@pytest.mark.parametrize(("content", "words"), WRONG, ids=range(len(WRONG)))
def test_what_is_wrong_is_said(content, words):
    """In one line, without a secret."""
    with pytest.raises(
        ValueError, match=rf"^a key file of the type {content['type']} \("
    ) as raised:
        read_account(file_of(content))
    said = str(raised.value)
    assert words in said
    assert said.isprintable()
    assert SECRET not in said


def test_other_files_are_named_as_before():
    """What is no key file of any type is described by what it is."""
    for content, words in ((b"", "it is empty"), (file_of({"type": "x"}), "its type is x, not")):
        with pytest.raises(ValueError, match=rf"^a service account's key file \({words}"):
            read_account(content)


@pytest.mark.parametrize(
    ("url", "universe", "expected"),
    [
        ("https://fcm.googleapis.com", "googleapis.com", "https://fcm.googleapis.com"),
        ("https://fcm.googleapis.com", "cloud.example", "https://fcm.cloud.example"),
        ("https://fcm.test:8443/", "cloud.example", "https://fcm.test:8443"),
    ],
)
def test_pushes_go_to_the_universe_of_the_account(url, universe, expected):
    """Unless `url` names another address."""
    assert send_url("shop", url, universe) == f"{expected}/v1/projects/shop/messages:send"


def test_a_push_names_the_project_that_it_is_charged_to():
    """Where the account names one; the header is of the credential, not of the push."""
    provider = FCM("https://fcm.test/v1/projects/shop/messages:send", lambda: NOW)
    push = provider.split(b"phone:key:{}", 0.0)
    for project, named in ((b"pay", [b"pay"]), (b"", [])):
        credential = Credential(b"Bearer a", 1, 0.0, 1.0, project)
        headers = provider.request(push, credential, 0.0).headers
        assert [value for name, value in headers if name == b"X-Goog-User-Project"] == named


class Machine:
    """google-auth on a clock of ours, with the emulator in memory on the other side."""

    def __init__(self, source):
        self.clock, self.world = Clock(), World()
        self.world.google.oauth.account = ACCOUNT
        self.world.google.oauth.secret = SECRET
        self.asked = 0
        self.credentials = GoogleAuthCredentials(
            maybeDeferred, self.ask, self.wall, read_account(source)
        )
        self.signin = sign_in(self.credentials, self.clock, self.wall)

    def wall(self):
        self.world.now = NOW + self.clock.seconds()
        return self.world.now

    def ask(self, method, url, headers, body):
        self.asked += url.endswith("token")
        path = re.sub("https?://[^/]*", "", url)
        named = {name.lower(): value for name, value in headers}
        reply = self.world.call(method, path, body, named)
        told = {name.lower(): value for name, value in reply.headers}
        return Response(reply.status, {b"content-type": reply.content_type, **told}, reply.body)


@pytest.mark.parametrize("kind", ["metadata", "authorized_user", "external_account"])
def test_a_renewal_leaves_no_gap(kind, tmp_path):
    """For six hours there is a token at every moment, and it is valid; few are asked for.

    The metadata server gives out a token again until 300 seconds before its end.
    """
    subject = tmp_path / "subject"
    subject.write_text(SECRET, encoding="utf-8")
    external = {**EXTERNAL, "credential_source": {"file": str(subject)}}
    sources = {
        "metadata": METADATA,
        "authorized_user": file_of(USER),
        "external_account": file_of(external),
    }
    machine = Machine(sources[kind])
    machine.signin.start()
    for _ in range(2_160):
        machine.clock.advance(10)
        credential = machine.signin.credential
        assert credential is not None
        token = credential.header.removeprefix(b"Bearer ")
        assert machine.world.google.oauth.tokens.find(token, machine.wall()) is not None
    machine.signin.stop()
    assert machine.asked <= 14
