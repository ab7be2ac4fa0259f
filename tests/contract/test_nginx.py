"""Every client against nginx: HTTP/1.1, HTTP/2, and connections that nginx has enough of."""

import pytest
from twisted.internet import reactor
from twisted.internet.defer import gatherResults
from twisted.trial.unittest import TestCase

from node2dm_tw.http.curl_client import CurlClient
from node2dm_tw.http.interface import CertificateRefused, post
from node2dm_tw.http.treq_client import TreqClient
from tests.contract import http_certificates as certificates
from tests.contract.http_fixtures import HEADERS
from tests.contract.http_nginx import nginx


class NginxTests:
    """Mix in before `TestCase`; `kind` is the client's class, `protocol` what nginx logs."""

    timeout = 60
    http2 = False
    protocol = "HTTP/1.1"

    @pytest.fixture(autouse=True)
    def _folder(self, tmp_path):
        self.folder = tmp_path

    def upstream(self, **settings):
        running = nginx(self.folder, http2=self.http2, **settings)
        self.addCleanup(running.__exit__, None, None, None)
        return running.__enter__()

    def client(self, upstream):
        client = self.kind(reactor, timeout=10.0, connections=8, ca_file=upstream.ca_file)
        self.addCleanup(client.close)
        return client

    async def test_many_requests(self):
        """Each of many requests arrives once and is answered, over few connections."""
        upstream = self.upstream()
        client = self.client(upstream)
        for _ in range(10):
            requests = [post(client, upstream.url, HEADERS, b"x" * 200) for _ in range(8)]
            for response in await gatherResults(requests):
                assert (response.status, response.body) == (200, b"id=0:1234")
                assert response.headers[b"retry-after"] == b"3"
        logged = await upstream.requests(80)
        assert len(logged) == 80
        assert {protocol for _, protocol, _, _ in logged} == {self.protocol}
        assert len({connection for connection, _, _, _ in logged}) == client.handshakes
        assert client.handshakes == (1 if self.http2 else 8)

    async def test_requests_of_both_kinds_to_many_addresses(self):
        """POST and DELETE to addresses of one server share its connections."""
        upstream = self.upstream()
        client = self.client(upstream)
        bodies = [None if number % 3 else b"x" for number in range(80)]
        for begin in range(0, 80, 8):
            requests = [
                post(client, f"{upstream.url}/{number}", HEADERS, bodies[number])
                for number in range(begin, begin + 8)
            ]
            for response in await gatherResults(requests):
                assert (response.status, response.body) == (200, b"id=0:1234")
        logged = await upstream.requests(80)
        sent = {int(path.split("/")[2]): method for _, _, method, path in logged}
        assert sent == {n: "POST" if body else "DELETE" for n, body in enumerate(bodies)}
        assert len({connection for connection, _, _, _ in logged}) == client.handshakes
        assert client.handshakes == (1 if self.http2 else 8)
        assert client.reconnects == 0

    async def test_connections_that_end(self):
        """A connection that nginx ends (by GOAWAY on HTTP/2) takes no request with it."""
        upstream = self.upstream(keepalive_requests=5)
        client = self.client(upstream)
        for _ in range(10):
            requests = [post(client, upstream.url, HEADERS, b"x") for _ in range(8)]
            for response in await gatherResults(requests):
                assert response.status == 200
        assert len(await upstream.requests(80)) == 80
        assert client.handshakes >= 10

    async def test_certificate_without_names(self):
        """A certificate without subjectAltName never sees one of many requests."""
        upstream = self.upstream(identity=certificates.bad("no subjectAltName"))
        client = self.client(upstream)
        for _ in range(8):
            with pytest.raises(CertificateRefused):
                await post(client, upstream.url, HEADERS, b"x")
        assert await upstream.requests(0) == []


class TreqTests(NginxTests, TestCase):
    kind = TreqClient


class CurlTests(NginxTests, TestCase):
    kind = CurlClient


class CurlHTTP2Tests(NginxTests, TestCase):
    kind = CurlClient
    http2 = True
    protocol = "HTTP/2.0"
