"""HTTP/2 connections that go silent, and those that are only slow."""

import socket

from twisted.internet import reactor
from twisted.internet.defer import DeferredList, gatherResults
from twisted.internet.task import LoopingCall, deferLater
from twisted.trial.unittest import TestCase

from node2dm_tw.http.curl_client import CurlClient
from node2dm_tw.http.interface import NoAnswer, NotSent, Response, post
from tests.contract.http_fixtures import HEADERS, ClientFixtures
from tests.contract.http_servers import MAX_CONCURRENT_STREAMS, PING

TIMEOUT = 0.6


class HTTP2SilenceTests(ClientFixtures, TestCase):
    """One connection carries many requests: a time-out may be one's, or all of theirs."""

    def make_client(self, ca_file, reactor=reactor, **settings):
        return CurlClient(reactor, ca_file=ca_file, **settings)

    def silencer(self):
        """A server whose connections can be made silent; new ones answer."""
        silent = set()

        def script(connection, stream):
            if connection not in silent:
                connection.answer(stream)

        server = self.server(script, http2=True)
        server.silence = lambda: silent.update(server.connections)
        return server

    def post(self, client, server, body=b"x"):
        return post(client, server.url(), HEADERS, body)

    async def test_a_silent_connection_is_closed(self):
        """The first time-out ends every request on it, and the next one goes elsewhere."""
        server = self.silencer()
        client = self.client(timeout=TIMEOUT)
        await self.post(client, server)
        server.silence()
        first = self.post(client, server)
        await deferLater(reactor, TIMEOUT / 2)
        others = [self.post(client, server) for _ in range(5)]
        error = await self.failure(first, NoAnswer)
        assert error.timed_out
        assert not error.is_collateral
        await deferLater(reactor, 0)
        for other in others:
            assert other.called, "it does not wait for its own time-out"
            error = await self.failure(other, NoAnswer)
            assert error.is_collateral
            assert not error.timed_out
            assert not error.retry_at_once
        await server.used[0].gone
        assert (await self.post(client, server)).status == 200
        assert client.handshakes == 2
        assert client.reconnects == 0

    async def test_time_outs_at_once_condemn_once(self):
        """Of many requests that time out together, one condemns the connection."""
        server = self.silencer()
        client = self.client(timeout=TIMEOUT)
        await self.post(client, server)
        server.silence()
        requests = [self.post(client, server) for _ in range(20)]
        outcomes = [
            outcome.value for _, outcome in await DeferredList(requests, consumeErrors=True)
        ]
        assert [error.is_collateral for error in outcomes].count(False) == 1
        assert any(error.timed_out for error in outcomes if not error.is_collateral)

    async def test_window_that_stays_closed(self):
        """A server that never opens its window is silent, also on a new connection."""

        def script(connection, stream):
            if connection is not server.used[0]:
                connection.answer(stream)

        server = self.server(script, http2=True)
        server.initial_window = 0
        client = self.client(timeout=TIMEOUT)
        first = self.post(client, server, b"x" * 1000)
        await deferLater(reactor, TIMEOUT / 2)
        server.initial_window = 65_535
        assert not (await self.failure(first, NoAnswer)).is_collateral
        await server.used[0].gone
        assert (await self.post(client, server, b"x" * 1000)).status == 200
        assert client.handshakes == 2

    async def test_pings_are_no_answers(self):
        """A server that says that it lives, and answers nothing, is silent all the same."""
        server = self.silencer()
        client = self.client(timeout=TIMEOUT)
        await self.post(client, server)
        server.silence()
        pinging = LoopingCall(server.used[0].frame, PING, 0, 0, b"12345678")
        pinging.start(0.05)
        await self.failure(self.post(client, server), NoAnswer)
        await server.used[0].gone
        pinging.stop()
        assert (await self.post(client, server)).status == 200

    async def test_a_connection_that_takes_no_more_bytes(self):
        """A connection that is closed in the middle of writing is given up like any other."""
        server = self.silencer()
        server.port.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client = self.client(timeout=TIMEOUT)
        await self.post(client, server)
        server.silence()
        server.used[0].transport.pauseProducing()
        large = ((b"X-Large", b"x" * 60_000),)
        requests = [post(client, server.url(), large, b"x") for _ in range(90)]
        results = await DeferredList(requests, consumeErrors=True)
        assert not any(succeeded for succeeded, _ in results)
        for _ in range(3):
            assert (await self.post(client, server)).status == 200
        assert client.handshakes == 2

    async def test_a_slow_answer_is_no_silence(self):
        """A connection that answered another request meanwhile is kept, and its requests live."""

        def script(connection, stream):
            if stream == 3:
                return
            if stream == 5:
                reactor.callLater(TIMEOUT * 0.8, connection.answer, stream)
            else:
                connection.answer(stream)

        server = self.server(script, http2=True)
        client = self.client(timeout=TIMEOUT)
        await self.post(client, server)
        first = self.post(client, server)
        await deferLater(reactor, TIMEOUT / 2)
        second = self.post(client, server)
        await self.post(client, server)
        error = await self.failure(first, NoAnswer)
        assert error.timed_out
        assert not error.is_collateral
        assert (await second).status == 200
        assert client.handshakes == 1

    async def test_an_answer_in_the_middle_of_its_body_counts(self):
        """A request whose status came keeps it when its connection is condemned."""

        def script(connection, stream):
            if stream == 1:
                connection.answer(stream)
            elif stream == 5:
                connection.begin(stream)

        server = self.server(script, http2=True)
        client = self.client(timeout=TIMEOUT)
        await self.post(client, server)
        silent = self.post(client, server)
        await deferLater(reactor, 0.05)
        begun = self.post(client, server)
        await self.failure(silent, NoAnswer)
        response = await begun
        assert (response.status, response.truncated) == (200, True)

    async def test_other_connections_go_on(self):
        """Of several connections only the silent one is closed."""
        silent = set()

        def script(connection, stream):
            if connection in silent:
                return
            reactor.callLater(0.05, connection.answer, stream)

        server = self.server(script, http2=True)
        server.settings = ((MAX_CONCURRENT_STREAMS, 2),)
        client = self.client(timeout=TIMEOUT)
        await self.post(client, server)
        await gatherResults([self.post(client, server) for _ in range(6)])
        before = client.handshakes
        assert before > 1
        silent.add(server.used[0])
        end = reactor.seconds() + 2.5 * TIMEOUT
        outcomes = []
        while reactor.seconds() < end:
            requests = [self.post(client, server) for _ in range(6)]
            for request in requests:
                request.addBoth(outcomes.append)
            await deferLater(reactor, 0.06)
        await DeferredList(requests)
        failures = [one.value for one in outcomes if not isinstance(one, Response)]
        assert 1 <= len(failures) <= 2
        assert server.used[0].gone.called
        assert not any(connection.gone.called for connection in server.used[1:before])

    async def test_what_is_sent_within_a_callback_is_spared(self):
        """A request sent while the connection is condemned goes to the next one."""
        server = self.silencer()
        client = self.client(timeout=TIMEOUT)
        await self.post(client, server)
        server.silence()
        again = []
        requests = [self.post(client, server) for _ in range(3)]
        for request in requests:
            request.addErrback(lambda _: again.append(self.post(client, server)))
        await gatherResults(requests)
        assert [answer.status for answer in await gatherResults(again)] == [200] * 3
        assert client.handshakes == 2

    async def test_a_connection_that_is_never_made_holds_nobody_up(self):
        """A request that waits for a connection in the making has another made in its time."""
        server = self.silencer()
        client = self.client(timeout=TIMEOUT)
        await self.post(client, server)
        number, url = server.port.getHost().port, server.url()
        await server.stop()
        mute = super().server(lambda connection, request: None, tls=False, port=number)
        first = post(client, url, HEADERS, b"x")
        await deferLater(reactor, TIMEOUT / 2)
        second = post(client, url, HEADERS, b"x")
        await mute.port.stopListening()
        again = super().server(
            lambda connection, stream: connection.answer(stream), http2=True, port=number
        )
        error = await self.failure(first, NotSent)
        assert error.timed_out
        assert (await second).status == 200
        assert len(again.used) == 1
