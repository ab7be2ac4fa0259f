"""The libcurl client behind a proxy."""

from base64 import b64encode

import pytest
from twisted.internet import reactor
from twisted.internet.endpoints import TCP4ClientEndpoint
from twisted.internet.protocol import Factory, Protocol
from twisted.trial.unittest import TestCase

from node2dm_tw.http.curl_client import CurlClient
from node2dm_tw.http.interface import NotSent, post
from tests.contract.http_fixtures import HEADERS, ClientFixtures
from tests.contract.http_servers import OK, always


class OtherEnd(Protocol):
    """The proxy's connection to the server."""

    def __init__(self, near):
        self.near = near

    def connectionMade(self):
        self.near.other = self
        self.near.write(b"HTTP/1.1 200 Connected\r\nX-Proxy: yes\r\n\r\n")

    def dataReceived(self, data):
        self.near.write(data)

    def connectionLost(self, reason):
        self.near.close()


def connect(connection, request):
    """A script that answers CONNECT with a tunnel, wherever its name leads."""
    port = int(request.line.split(b" ")[1].rpartition(b":")[2])

    def forward(data):
        connection.other.transport.write(data)

    def leave(_):
        connection.other.transport.abortConnection()

    connection.dataReceived = forward
    connection.gone.addCallback(leave)
    far = TCP4ClientEndpoint(reactor, "127.0.0.1", port)
    far.connect(Factory.forProtocol(lambda: OtherEnd(connection)))


class ProxyTests(ClientFixtures, TestCase):
    @pytest.fixture(autouse=True)
    def _environment(self, monkeypatch):
        """A proxy in the environment that must not be asked, and one host it spares."""
        monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")
        monkeypatch.setenv("no_proxy", "localhost")

    def make_client(self, ca_file, reactor=reactor, **settings):
        return CurlClient(reactor, ca_file=ca_file, **settings)

    async def test_tunnel(self):
        """Requests go through the proxy that was given; it sees no token."""
        server = self.server(always(OK))
        proxy = self.server(connect, tls=False)
        client = self.client(proxy=proxy.url("127.0.0.1", ""))
        for _ in range(3):
            response = await post(client, server.url(), HEADERS, b"x")
            assert (response.status, response.body) == (200, b"ok")
            assert b"x-proxy" not in response.headers
        assert len(server.requests) == 3
        assert client.handshakes == 1
        assert b"secret-token" not in proxy.received

    async def test_a_proxy_that_asks_for_a_password(self):
        """It gets what the URL says, decoded; the server sees none of it."""
        server = self.server(always(OK))
        proxy = self.server(connect, tls=False)
        url = proxy.url("user%40x:se%C3%A9%3Acret!$%2F@127.0.0.1", "")
        response = await post(self.client(proxy=url), server.url(), HEADERS, b"x")
        assert response.status == 200
        credentials = b64encode("user@x:se\xe9:cret!$/".encode())
        assert proxy.requests[0].headers[b"proxy-authorization"] == b"Basic " + credentials
        assert b"proxy-authorization" not in server.requests[0].headers
        assert b"secret-token" not in proxy.received

    async def test_the_password_of_a_proxy_is_in_no_failure(self):
        """Wherever it fails: the proxy refuses, is not there, or is no name."""
        answer = b"HTTP/1.1 407 No\r\nContent-Length: 0\r\n\r\n"
        proxy = self.server(always(answer), tls=False)
        urls = [proxy.url("user:hush@127.0.0.1", ""), "http://user:hush@no.invalid:1"]
        for url in [*urls, urls[0]]:
            request = post(self.client(proxy=url), "https://a.example/", HEADERS, b"")
            assert "hush" not in str(await self.failure(request, NotSent))
            if url == urls[-1]:
                await proxy.stop()

    async def test_environment_is_ignored(self):
        """Without a proxy given, none is used."""
        server = self.server(always(OK))
        response = await post(self.client(), server.url("127.0.0.1"), HEADERS, b"x")
        assert response.status == 200

    async def test_proxy_refuses(self):
        """A proxy that refuses, or is not there, makes it NotSent."""
        answer = b"HTTP/1.1 407 No\r\nContent-Length: 0\r\n\r\n"
        proxy = self.server(always(answer), tls=False)
        url = proxy.url("127.0.0.1", "")
        await self.failure(
            post(self.client(proxy=url), "https://a.example/", HEADERS, b""), NotSent
        )
        await proxy.stop()
        await self.failure(
            post(self.client(proxy=url), "https://a.example/", HEADERS, b""), NotSent
        )
