"""The emulator on a real socket, in the test's own process."""

import ssl
import tempfile
import time
import urllib.request
from pathlib import Path

import attrs
import pytest
import treq
from treq.client import HTTPClient
from twisted.internet import reactor
from twisted.internet.defer import inlineCallbacks
from twisted.internet.error import CannotListenError
from twisted.internet.ssl import Certificate, trustRootFromCertificates
from twisted.internet.threads import deferToThread
from twisted.logger import capturedLogs
from twisted.trial.unittest import TestCase
from twisted.web.client import Agent, BrowserLikePolicyForHTTPS, HTTPConnectionPool

from node2dm_tw.emulator.google.messages import Message, Registered
from node2dm_tw.emulator.server.service import EmulatorService, log_sink
from node2dm_tw.emulator.settings import EmulatorSettings


class ServiceTests(TestCase):
    """Start, answer, stop."""

    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.settings = EmulatorSettings(Path(folder.name), listen="tcp:0:interface=127.0.0.1")
        self.service = EmulatorService(reactor, self.settings, time.time)
        self.service.privilegedStartService()
        self.service.startService()
        self.addCleanup(self.service.stopService)

    def client(self):
        """Make a client that trusts the emulator alone."""
        authority = Certificate.loadPEM(self.service.endpoints.ca_file.read_bytes())
        policy = BrowserLikePolicyForHTTPS(trustRootFromCertificates([authority]))
        self.pool = HTTPConnectionPool(reactor)
        self.addCleanup(self.pool.closeCachedConnections)
        return HTTPClient(Agent(reactor, policy, pool=self.pool))

    @inlineCallbacks
    def test_a_push_is_a_line_in_the_log(self):
        """Sign in and send over TLS; the phone's line says what it received."""
        client, endpoints = self.client(), self.service.endpoints
        form = {"Email": "a@b", "Passwd": "x", "service": "ac2dm"}
        login = yield client.post(endpoints.login_url, data=form)
        text = yield login.text()
        auth = text.split("Auth=")[1].strip()
        with capturedLogs() as captured:
            push = {
                "registration_id": "demo-phone",
                "collapse_key": "gre\neting",
                "data.data": '{"é": "\u2028\x1b"}',
            }
            answer = yield client.post(
                endpoints.send_url, data=push, headers={"Authorization": f"GoogleLogin auth={auth}"}
            )
            body = yield answer.content()
        assert body.startswith(b"id="), body
        lines = [event["line"] for event in captured if "line" in event]
        assert lines == [
            "phone demo-phone received collapse_key=gre\\neting "
            'data={"data": "{\\"é\\": \\"\\u2028\\u001b\\"}"}'
        ]

    def test_a_taken_port_is_said_at_once(self):
        """The start raises, so that the caller can end in one line."""
        port = self.service.endpoints.base_url.rpartition(":")[2]
        second = EmulatorService(
            reactor,
            attrs.evolve(self.settings, listen=f"tcp:{port}:interface=127.0.0.1"),
            time.time,
        )
        with pytest.raises(CannotListenError):
            second.startService()
        return second.stopService()

    @inlineCallbacks
    def test_the_certificate_is_strictly_good(self):
        """Python's strictest verification accepts it, by name and by address."""
        endpoints = self.service.endpoints
        context = ssl.create_default_context(cafile=str(endpoints.ca_file))
        context.verify_flags |= ssl.VERIFY_X509_STRICT
        port = endpoints.base_url.rpartition(":")[2]

        def ask(host):
            with urllib.request.urlopen(f"https://{host}:{port}/stats", context=context) as answer:
                return answer.status

        for host in ("localhost", "127.0.0.1"):
            status = yield deferToThread(ask, host)
            assert status == 200

    @inlineCallbacks
    def test_connections_end_with_the_service(self):
        """An idle connection is closed by the stop; nothing is left in the reactor."""
        yield self.client().get(self.service.endpoints.base_url).addCallback(treq.content)
        yield self.service.stopService()
        assert self.service.factory.channels == set()


def test_the_log_screen():
    """Events other than messages are lines too, notifications a part of theirs."""
    sink = log_sink("demo")
    with capturedLogs() as captured:
        sink(Registered("new"))
        sink(Message("1", "", {}, 0.0, notification={"title": "T\n"}))
    assert [event["line"] for event in captured] == [
        'phone demo registration {"registration_id": "new"}',
        'phone demo received collapse_key= data={} notification={"title": "T\\n"}',
    ]
