"""Hosts that are no domain names, with every client."""

from twisted.internet import reactor
from twisted.internet._resolver import HostResolution
from twisted.internet.address import IPv4Address
from twisted.internet.interfaces import IHostnameResolver
from twisted.trial.unittest import TestCase
from zope.interface import implementer

from node2dm_tw.http.curl_client import CurlClient
from node2dm_tw.http.interface import CertificateRefused, NotSent, post
from node2dm_tw.http.treq_client import TreqClient
from tests.contract import http_certificates as certificates
from tests.contract.http_fixtures import HEADERS, ClientFixtures
from tests.contract.http_servers import OK, ClockedReactor, always


class HostTests(ClientFixtures):
    """What holds for every client."""

    async def test_an_ipv6_address(self):
        """It is asked, by TLS, and named in Host."""
        server = self.server(always(OK), certificates.make("::1"), host="::1")
        url = server.url("[::1]")
        client = self.client()
        for _ in range(2):
            response = await post(client, url, HEADERS, b"x")
            assert (response.status, response.body) == (200, b"ok")
        assert client.handshakes == 1
        assert server.requests[0].headers[b"host"] == url.split("/")[2].encode()
        assert server.requests[0].line == b"POST /send HTTP/1.1"

    async def test_an_ipv6_address_without_tls(self):
        """It is no other."""
        server = self.server(always(OK), tls=False, host="::1")
        response = await post(self.client(), server.url("[::1]", "/a?b=%2F"), HEADERS, b"x")
        assert response.status == 200
        assert server.requests[0].line == b"POST /a?b=%2F HTTP/1.1"

    async def test_the_certificate_of_another_address(self):
        """It is refused, and no token leaves."""
        server = self.server(always(OK), host="::1")
        await self.failure(
            post(self.client(), server.url("[::1]"), HEADERS, b"x"), CertificateRefused
        )
        assert server.received == b""

    async def test_a_name_in_capitals(self):
        """It is the same name to DNS, and to the certificate."""
        server = self.server(always(OK))
        response = await post(self.client(), server.url("LOCALHOST"), HEADERS, b"x")
        assert response.status == 200


class CurlHostTests(HostTests, TestCase):
    """libcurl."""

    def make_client(self, ca_file, **settings):
        return CurlClient(reactor, ca_file=ca_file, **settings)


@implementer(IHostnameResolver)
class OneName:
    """Knows one name."""

    def __init__(self, name):
        self.name = name

    def resolveHostName(
        self, receiver, hostName, portNumber=0, addressTypes=None, transportSemantics="TCP"
    ):
        resolution = HostResolution(hostName)
        receiver.resolutionBegan(resolution)
        if hostName == self.name:
            receiver.addressResolved(IPv4Address("TCP", "127.0.0.1", portNumber))
        receiver.resolutionComplete()
        return resolution


class TreqHostTests(HostTests, TestCase):
    """treq."""

    def make_client(self, ca_file, reactor=reactor, **settings):
        return TreqClient(reactor, ca_file=ca_file, **settings)

    async def test_a_name_with_an_underscore(self):
        """It is looked up: containers have such names."""
        names = ClockedReactor(reactor)
        names.nameResolver = OneName("my_app")
        server = self.server(always(OK), tls=False)
        client = self.client(reactor=names)
        response = await post(client, server.url("my_app"), HEADERS, b"x")
        assert response.status == 200
        await self.failure(post(client, server.url("my_other"), HEADERS, b"x"), NotSent)
