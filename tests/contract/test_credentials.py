"""What every way to sign in to FCM must do, against the emulator's endpoints."""

import gc
import json
import os
import time
from functools import partial
from pathlib import Path

import pytest
from twisted.internet import reactor
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import deferLater
from twisted.trial.unittest import TestCase
from twisted.web.resource import Resource
from twisted.web.server import Site

from node2dm_tw.app.blocking import BlockingWork
from node2dm_tw.app.fcm_credentials import SignInClients, make_credentials
from node2dm_tw.emulator.testing import push_emulator, push_emulator_process
from node2dm_tw.http.interface import RequestFailed, post
from node2dm_tw.http.treq_client import TreqClient
from node2dm_tw.providers.google_auth import METADATA, read_account
from node2dm_tw.providers.interface import SignInFailed, SignInRefused
from tests.support.ports import free_port
from tests.support.tools import module

google = module("google.auth")

__all__ = ["push_emulator", "push_emulator_process"]

MAX_TURN = 0.02
"""Seconds of CPU that the process may use between two turns of the reactor."""


class Turns:
    """Watches the reactor: the most CPU time that passes from one of its turns to the next.

    Time that the machine gives to other processes is not counted; time that a thread of this
    process holds the interpreter is.
    """

    def __init__(self):
        self.longest = 0.0
        self._is_over = False

    def __enter__(self):
        gc.collect()
        gc.disable()  # A collection of what all tests have left takes longer.
        self._last = time.process_time()
        reactor.callLater(0, self._turn)
        return self

    def __exit__(self, *_):
        gc.enable()
        self._is_over = True

    def _turn(self):
        now = time.process_time()
        self.longest = max(self.longest, now - self._last)
        self._last = now
        if not self._is_over:
            reactor.callLater(0.0005, self._turn)


class CredentialsContract:
    """What holds for every kind of account.

    Attributes:
        endpoint: of the emulator, the last that a sign-in asks.
        error: an error of it that refuses the sign-in.
    """

    endpoint: str
    error = "invalid_grant"

    @pytest.fixture(autouse=True)
    def _prepare(self, push_emulator, tmp_path, monkeypatch):
        self.emulator = push_emulator
        self.folder = tmp_path
        self.monkeypatch = monkeypatch

    def setUp(self):
        make = partial(TreqClient, reactor, connections=1, ca_file=self.emulator.ca_file)
        self.client, self.direct = make(timeout=5), make(timeout=5)
        self.addCleanup(self.client.close)
        self.addCleanup(self.direct.close)
        self.credentials = self.make(self.source())

    def make(self, source):
        clients = SignInClients(partial(post, self.client), self.direct, 5.0)
        return make_credentials(read_account(source), clients, BlockingWork(reactor), time.time)

    def source(self):
        """The key file, or `METADATA`."""
        raise NotImplementedError

    def dead(self):
        """The same, with no server at its addresses."""
        text = self.source().decode()
        port = self.emulator.base_url.rpartition(":")[2]
        return text.replace(f":{port}/", f":{free_port()}/").encode()

    def other(self):
        """A key file of another account, and another kind."""
        return self.emulator.service_account.read_bytes()

    async def send(self, credential):
        """Send a push; return the status."""
        phone = self.emulator.register(self.emulator.project)
        headers = ((b"Authorization", credential.header),)
        body = json.dumps({"message": {"token": phone.registration_id}}).encode()
        return (await post(self.client, self.emulator.fcm_url, headers, body)).status

    async def test_it_signs_in(self):
        """FCM accepts the credential, which is of the first generation and lives an hour."""
        credential = await self.credentials.fetch()
        assert await self.send(credential) == 200
        assert credential.generation == 1
        assert credential.obtained_at == pytest.approx(time.time(), abs=5)
        assert 3_000 < credential.expires_at - credential.obtained_at <= 3_600
        assert credential.header.decode().removeprefix("Bearer ") not in repr(credential)

    async def test_a_refused_token_does_not_come_back(self):
        """After a 401 the next sign-in brings another token, of the next generation."""
        first = await self.credentials.fetch()
        self.emulator.expire_tokens()
        assert await self.send(first) == 401
        second = await self.credentials.fetch()
        assert await self.send(second) == 200
        assert (second.generation, second.header != first.header) == (2, True)

    async def test_a_renewal_leaves_the_old_token_valid(self):
        """Requests in flight with it are still accepted."""
        first = await self.credentials.fetch()
        second = await self.credentials.fetch()
        assert [await self.send(each) for each in (first, second)] == [200, 200]

    async def test_a_server_that_is_away_for_a_moment(self):
        """The wait that it names is known, nothing is tried again within, and then it works."""
        self.emulator.fault(endpoint=self.endpoint, status=503, headers={"Retry-After": "7"})
        error = await self.failure(self.credentials.fetch(), SignInFailed)
        assert error.after == 7
        assert "status 503" in str(error)
        assert await self.send(await self.credentials.fetch()) == 200

    async def test_a_refusal(self):
        """Its reason says which code the service gave."""
        self.emulator.fault(endpoint=self.endpoint, error=self.error)
        error = await self.failure(self.credentials.fetch(), SignInRefused)
        assert self.error in str(error)
        assert not error.final

    async def test_nobody_listens(self):
        """It fails at once, in a line without secrets."""
        source = self.dead()
        began = time.monotonic()
        failing = self.make(source).fetch()
        error = await self.failure(failing, (SignInFailed, RequestFailed))
        assert time.monotonic() - began < 3
        assert "refused" in str(error)
        assert "\n" not in str(error)
        self.assert_no_secret(str(error))

    async def test_an_answer_that_is_nonsense(self):
        """It is a failure in a line, whatever is in it."""
        for body in ("{}", "[]", "", "<html>", '{"access_token": 5, "expires_in": "x"}', "\x00"):
            self.emulator.fault(endpoint=self.endpoint, status=200, body=body)
            error = await self.failure(self.credentials.fetch(), SignInFailed)
            assert str(error).isprintable(), body
            assert len(str(error)) < 300

    async def test_cancelled(self):
        """It ends at once, and the next sign-in works once the server has answered."""
        self.emulator.fault(endpoint=self.endpoint, delay=1)
        fetching = self.credentials.fetch()
        await self.fault_applied()
        fetching.cancel()
        await self.failure(fetching, (CancelledError, RequestFailed))
        await deferLater(reactor, 1.5, lambda: None)
        assert await self.send(await self.credentials.fetch()) == 200

    async def test_another_account(self):
        """A changed one is used at once; the same one is no change."""
        self.emulator.fault(endpoint=self.endpoint, delay=30)
        fetching = self.credentials.fetch()
        await self.fault_applied()
        assert not self.credentials.update(read_account(self.source()))
        assert self.credentials.update(read_account(self.other()))
        credential = await fetching
        assert credential.generation == 1
        assert await self.send(credential) == 200

    async def test_the_reactor_goes_on(self):
        """No turn of it is long while a sign-in is under way."""
        await self.credentials.fetch()
        with Turns() as turns:
            for _ in range(3):
                await self.credentials.fetch()
        assert turns.longest < MAX_TURN

    async def failure(self, fetching: Deferred, kinds):
        try:
            await fetching
        except kinds as error:
            return error
        raise AssertionError("it did not fail")

    async def fault_applied(self):
        """Wait until a request has met the fault."""
        while not self.emulator.faults()[0]["hits"]:
            await deferLater(reactor, 0.05, lambda: None)

    def assert_no_secret(self, text):
        secret = json.loads(self.emulator.authorized_user.read_bytes())["refresh_token"]
        assert secret not in text


class ServiceAccountTests(CredentialsContract, TestCase):
    """A service account's key, without google-auth."""

    endpoint = "token"

    def source(self):
        return self.emulator.service_account.read_bytes()

    def other(self):
        return self.emulator.authorized_user.read_bytes()


class AuthorizedUserTests(CredentialsContract, TestCase):
    """A user's refresh token."""

    endpoint = "token"

    def source(self):
        return self.emulator.authorized_user.read_bytes()

    async def test_requests_are_charged_to_a_project(self):
        """FCM wants to know it for a user."""
        credential = await self.credentials.fetch()
        assert credential.user_project == self.emulator.project.encode()


class ImpersonatedTests(CredentialsContract, TestCase):
    """A service account, through a user."""

    endpoint = "impersonate"
    error = "PERMISSION_DENIED"

    def source(self):
        return self.emulator.impersonated_account.read_bytes()

    async def test_a_refused_token_of_the_user(self):
        """It is not kept: the next sign-in begins anew."""
        await self.credentials.fetch()
        self.emulator.fault(endpoint="impersonate", error="UNAUTHENTICATED")
        await self.failure(self.credentials.fetch(), SignInRefused)
        await self.credentials.fetch()
        tokens = [entry["headers"]["authorization"] for entry in self.emulator.log("impersonate")]
        assert len(tokens) == len(self.emulator.log("token")) == 3


class ImpersonatedByServiceAccountTests(ImpersonatedTests):
    """A service account, through another one's key."""

    def source(self):
        content = json.loads(super().source())
        content["source_credentials"] = json.loads(self.emulator.service_account.read_bytes())
        return json.dumps(content).encode()


class ExternalAccountTests(CredentialsContract, TestCase):
    """Workload identity federation, and a service account through it."""

    endpoint = "impersonate"
    error = "PERMISSION_DENIED"

    def source(self):
        return json.dumps(self.content()).encode()

    def content(self):
        return json.loads(self.emulator.external_account.read_bytes())

    def with_source(self, **source):
        return json.dumps({**self.content(), "credential_source": source}).encode()

    async def test_a_subject_token_that_changes(self):
        """The file is read at each sign-in; while it is missing, the reason says so."""
        file = self.folder / "subject"
        credentials = self.make(self.with_source(file=str(file)))
        error = await self.failure(credentials.fetch(), SignInFailed)
        assert f"'{file}' was not found" in str(error)
        file.write_text("stale", encoding="utf-8")
        error = await self.failure(credentials.fetch(), SignInRefused)
        assert str(error).startswith("127.0.0.1: invalid_grant: The given subject token")
        token = Path(self.content()["credential_source"]["file"]).read_text(encoding="utf-8")
        file.write_text(token, encoding="utf-8")
        assert await self.send(await credentials.fetch()) == 200

    async def test_a_subject_token_of_a_program(self):
        """It runs where it is allowed to, and the reason says what is missing."""
        token = Path(self.content()["credential_source"]["file"]).read_text(encoding="utf-8")
        answer = {
            "version": 1,
            "success": True,
            "token_type": self.content()["subject_token_type"],
            "id_token": token,
        }
        file = self.folder / "answer.json"
        file.write_text(json.dumps(answer), encoding="utf-8")
        credentials = self.make(self.with_source(executable={"command": f"cat {file}"}))
        error = await self.failure(credentials.fetch(), SignInRefused)
        assert "GOOGLE_EXTERNAL_ACCOUNT_ALLOW_EXECUTABLES" in str(error)
        self.monkeypatch.setenv("GOOGLE_EXTERNAL_ACCOUNT_ALLOW_EXECUTABLES", "1")
        assert await self.send(await credentials.fetch()) == 200
        file.unlink()
        error = await self.failure(credentials.fetch(), SignInFailed)
        assert "non-zero return code" in str(error)

    async def test_a_subject_token_at_a_url(self):
        """It is asked with the headers that the key file names, as Azure's has them."""
        asked = []

        class Identity(Resource):
            def render_GET(self, request):
                asked.append(request.getHeader("metadata"))
                return json.dumps({"token": token}).encode()

        token = Path(self.content()["credential_source"]["file"]).read_text(encoding="utf-8")
        root = Resource()
        root.putChild(b"identity", Identity())
        port = reactor.listenTCP(0, Site(root), interface="127.0.0.1")
        self.addCleanup(port.stopListening)
        source = self.with_source(
            url=f"http://127.0.0.1:{port.getHost().port}/identity",
            headers={"Metadata": "True"},
            format={"type": "json", "subject_token_field_name": "token"},
        )
        assert await self.send(await self.make(source).fetch()) == 200
        assert set(asked) == {"True"}

    async def test_a_file_that_hangs(self):
        """No second thread joins the one that hangs."""
        pipe = self.folder / "pipe"
        os.mkfifo(pipe)
        credentials = self.make(self.with_source(file=str(pipe)))
        fetching = credentials.fetch()
        await deferLater(reactor, 0.1, lambda: None)
        error = await self.failure(credentials._credentials.fetch(), SignInFailed)
        assert str(error) == "an earlier sign-in has not ended yet"
        token = Path(self.content()["credential_source"]["file"]).read_text(encoding="utf-8")
        pipe.write_text(token, encoding="utf-8")
        assert await self.send(await fetching) == 200


class FederatedTests(ExternalAccountTests):
    """Workload identity federation alone."""

    endpoint = "sts"
    error = "invalid_grant"

    def content(self):
        found = super().content()
        del found["service_account_impersonation_url"]
        return found


class MetadataTests(CredentialsContract, TestCase):
    """The metadata server."""

    endpoint = "metadata"

    @pytest.fixture(autouse=True)
    def _host(self, push_emulator, monkeypatch):
        self.set_host(push_emulator.metadata_host, monkeypatch)

    def set_host(self, host, monkeypatch):
        from google.auth.compute_engine import _metadata

        # It has read GCE_METADATA_HOST when it was imported.
        monkeypatch.setattr(_metadata, "_GCE_METADATA_HOST", host)

    def source(self):
        return METADATA

    def dead(self):
        self.set_host(f"127.0.0.1:{free_port()}", self.monkeypatch)
        return METADATA

    async def test_a_refusal(self):
        """A machine without a service account is a failure: one may be attached to it."""
        self.emulator.fault(endpoint="metadata", status=404, body="not found")
        error = await self.failure(self.credentials.fetch(), SignInFailed)
        assert str(error) == "127.0.0.1: status 404"

    async def test_only_what_asks_as_a_machine_does(self):
        """The request has the header of the protocol, and no body."""
        await self.credentials.fetch()
        for entry in self.emulator.log("metadata"):
            assert entry["method"] == "GET"
            assert entry["headers"]["metadata-flavor"] == "Google"
            assert entry["body"] == ""
