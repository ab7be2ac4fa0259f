"""What the tests of every HTTP client share."""

import pytest

from node2dm_tw.http.interface import RequestFailed
from tests.contract import http_certificates as certificates
from tests.contract.http_servers import ScriptedServer

HEADERS = ((b"Authorization", b"Bearer secret-token"), (b"Content-Type", b"text/plain"))


class ClientFixtures:
    """Clients and servers that are gone when the test is over.

    Mix in before `twisted.trial.unittest.TestCase`; the subclass has
    `make_client(ca_file, reactor=..., **settings)`.
    """

    timeout = 60

    @pytest.fixture(autouse=True)
    def _folder(self, tmp_path):
        self.folder = tmp_path
        self.ca_file = tmp_path / "ca.pem"
        self.ca_file.write_bytes(certificates.authority().certificate_pem)

    def client(self, ca_file=None, **settings):
        settings = {"timeout": 10.0, "connections": 8} | settings
        client = self.make_client(ca_file or self.ca_file, **settings)
        self.addCleanup(client.close)
        return client

    def server(self, script, identity=None, **settings):
        server = ScriptedServer(script, identity, **settings)
        self.addCleanup(server.stop)
        return server

    async def failure(self, request, kind):
        """Wait for `request` to fail, with exactly `kind`."""
        with pytest.raises(RequestFailed) as caught:
            await request
        assert type(caught.value) is kind, repr(caught.value)
        assert str(caught.value)
        assert "secret-token" not in str(caught.value)
        return caught.value
