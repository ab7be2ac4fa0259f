"""The libcurl client over HTTP/2, against a server scripted frame by frame."""

import gzip

from twisted.internet import reactor
from twisted.internet.defer import gatherResults
from twisted.trial.unittest import TestCase

from node2dm_tw.http.curl_client import CurlClient
from node2dm_tw.http.interface import MAX_RESPONSE, NoAnswer, post
from tests.contract.http_fixtures import HEADERS, ClientFixtures
from tests.contract.http_servers import DATA, END_HEADERS, END_STREAM, INTERNAL_ERROR
from tests.contract.http_servers import HEADERS as HEADERS_FRAME


class HTTP2Tests(ClientFixtures, TestCase):
    """HTTP/2, frame by frame."""

    def make_client(self, ca_file, reactor=reactor, **settings):
        return CurlClient(reactor, ca_file=ca_file, **settings)

    def server(self, script):
        return super().server(script, http2=True)

    async def test_streams_share_a_connection(self):
        """Requests at the same time share one connection, the first ones too."""
        server = self.server(lambda connection, stream: connection.answer(stream))
        client = self.client()
        requests = [post(client, server.url(), HEADERS, b"x" * 500) for _ in range(50)]
        for answer in await gatherResults(requests):
            assert (answer.status, answer.body) == (200, b"ok")
        assert client.handshakes == len(server.used) == 1

    async def test_going_away(self):
        """What a server that goes away has not processed is sent to it again, at once."""
        served = []

        def script(connection, stream):
            if connection is server.used[0] and stream >= 5:
                if stream == 5:
                    connection.go_away(3)
            else:
                served.append(stream)
                connection.answer(stream)

        server = self.server(script)
        client = self.client()
        await post(client, server.url(), HEADERS, b"x")
        requests = [post(client, server.url(), HEADERS, b"x") for _ in range(5)]
        for answer in await gatherResults(requests):
            assert answer.status == 200
        assert len(served) == 6
        assert client.handshakes == 2

    async def test_refused_stream(self):
        """A refused stream is safe to send again: libcurl does, or it is NotSent."""
        refused = []

        def script(connection, stream):
            if stream > 1 and len(refused) < 1:
                refused.append(stream)
                connection.refuse(stream)
            else:
                connection.answer(stream)

        server = self.server(script)
        client = self.client()
        await post(client, server.url(), HEADERS, b"x")
        assert (await post(client, server.url(), HEADERS, b"x")).status == 200
        assert refused

    async def test_connection_lost(self):
        """Streams of a connection that is lost without a word are NoAnswer."""
        server = self.server(lambda connection, stream: connection.reset())
        await self.failure(post(self.client(), server.url(), HEADERS, b"x"), NoAnswer)

    async def test_body_is_cut(self):
        """A long body is cut, and the other streams of the connection live on."""

        def script(connection, stream):
            connection.begin(stream)
            for _ in range(4):
                connection.frame(DATA, 0, stream, b"b" * 16384)
            connection.frame(DATA, 0, stream, b"b")

        server = self.server(script)
        response = await post(self.client(), server.url(), HEADERS, b"x")
        assert (response.status, response.truncated) == (200, True)
        assert response.body == b"b" * MAX_RESPONSE

    async def test_compressed_body(self):
        """A body that comes compressed is read over HTTP/2 too."""
        field = b"\x00" + b"\x10content-encoding" + b"\x04gzip"

        def script(connection, stream):
            connection.begin(stream, field)
            connection.frame(DATA, END_STREAM, stream, gzip.compress(b"id=1"))

        server = self.server(script)
        response = await post(self.client(), server.url(), HEADERS, b"x")
        assert (response.body, response.truncated) == (b"id=1", False)

    async def test_answer_is_broken_off(self):
        """Once the status is there it counts, however the stream or the connection ends."""

        def reset(connection, stream):
            connection.refuse(stream, INTERNAL_ERROR)

        def refuse(connection, stream):
            connection.refuse(stream)

        def go_away(connection, stream):
            connection.go_away(0)
            connection.close()

        def lose(connection, stream):
            reactor.callLater(0.05, connection.reset)

        def bad_field(connection, stream):
            connection.frame(HEADERS_FRAME, END_HEADERS, stream, b"\x00\x03X-A\x01b")

        def nothing(connection, stream):
            pass

        for end in (reset, refuse, go_away, lose, bad_field, nothing):

            def script(connection, stream, end=end):
                connection.begin(stream)
                connection.frame(DATA, 0, stream, b"id")
                end(connection, stream)

            server = self.server(script)
            response = await post(self.client(timeout=1.0), server.url(), HEADERS, b"x")
            assert (response.status, response.truncated) == (200, True), end
            assert response.body in (b"", b"id"), end

    async def test_interim_answers(self):
        """1xx answers are none, however many come."""
        early = b"\x08\x03103"  # :status as a literal

        def script(connection, stream):
            for _ in range(20_000):
                connection.frame(HEADERS_FRAME, END_HEADERS, stream, early)

        server = self.server(script)
        client = self.client(timeout=1.0)
        await self.failure(post(client, server.url(), HEADERS, b"x"), NoAnswer)
