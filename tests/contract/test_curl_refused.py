"""What an HTTP/2 server says it did not process, and what libcurl makes of it."""

from twisted.internet import reactor
from twisted.internet.defer import gatherResults
from twisted.trial.unittest import TestCase

from node2dm_tw.http.curl_client import CurlClient
from node2dm_tw.http.interface import NoAnswer, NotSent, post
from tests.contract.http_fixtures import HEADERS, ClientFixtures
from tests.contract.http_servers import ENHANCE_YOUR_CALM, INTERNAL_ERROR, NO_ERROR


class RefusedTests(ClientFixtures, TestCase):
    """Streams that are refused, and connections that go away."""

    def make_client(self, ca_file, reactor=reactor, **settings):
        return CurlClient(reactor, ca_file=ca_file, **settings)

    def answering_once(self, then):
        """A server that answers the first stream, and does `then` about all others."""

        def script(connection, stream):
            if connection is server.used[0] and stream == 1:
                connection.answer(stream)
            else:
                then(connection, stream)

        server = self.server(script, http2=True)
        return server

    async def both_fail(self, client, server, kind):
        """Send one request that is answered, then two at once that are not."""
        await post(client, server.url(), HEADERS, b"x")
        requests = [post(client, server.url(), HEADERS, b"x") for _ in range(2)]
        return [await self.failure(request, kind) for request in requests]

    async def test_every_stream_is_refused(self):
        """Where every stream is refused, nothing was processed."""
        server = self.answering_once(lambda connection, stream: connection.refuse(stream))
        for error in await self.both_fail(self.client(), server, NotSent):
            assert error.retry_at_once
            assert not error.timed_out

    async def test_every_connection_goes_away(self):
        """A stream above the last one that a GOAWAY names was not processed."""

        def go_away(connection, stream):
            connection.go_away(1 if connection is server.used[0] else 0)

        server = self.answering_once(go_away)
        for error in await self.both_fail(self.client(), server, NotSent):
            assert error.retry_at_once

    async def test_going_away_and_closing(self):
        """The same holds where the connection is closed at once, and for errors of the server."""
        codes = {}

        def go_away(connection, stream):
            is_first = connection is connection.factory.used[0]
            connection.go_away(1 if is_first else 0, codes[connection.factory])
            connection.close()

        for code in (NO_ERROR, INTERNAL_ERROR):
            server = self.answering_once(go_away)
            codes[server] = code
            for error in await self.both_fail(self.client(), server, NotSent):
                assert error.retry_at_once

    async def test_calm_is_asked_for(self):
        """With ENHANCE_YOUR_CALM nothing is sent again at once."""

        def go_away(connection, stream):
            connection.go_away(1, ENHANCE_YOUR_CALM)
            connection.close()

        server = self.answering_once(go_away)
        client = self.client()
        for error in await self.both_fail(client, server, NotSent):
            assert not error.retry_at_once
        assert len(server.used) == 1
        assert client.reconnects == 0

    async def test_one_stream_is_reset_for_calm(self):
        """A stream that is reset, but not refused, may have been processed."""
        for code in (ENHANCE_YOUR_CALM, INTERNAL_ERROR):
            server = self.answering_once(lambda c, stream, code=code: c.refuse(stream, code))
            for error in await self.both_fail(self.client(), server, NoAnswer):
                assert not error.retry_at_once

    async def test_connections_that_are_reset(self):
        """A connection that is lost says nothing of what was processed."""
        server = self.answering_once(lambda connection, stream: connection.reset())
        await self.both_fail(self.client(), server, NoAnswer)

    async def test_lower_streams_are_answered(self):
        """A GOAWAY leaves lower streams be; the refused one is answered on another connection."""

        def script(connection, stream):
            if connection is not server.used[0] or stream == 1:
                connection.answer(stream)
            elif stream == 5:
                connection.go_away(3)
                reactor.callLater(0.2, connection.answer, 3)

        server = self.server(script, http2=True)
        client = self.client()
        await post(client, server.url(), HEADERS, b"x")
        requests = [post(client, server.url(), HEADERS, b"x") for _ in range(2)]
        assert [answer.status for answer in await gatherResults(requests)] == [200, 200]
        assert client.handshakes == 2
