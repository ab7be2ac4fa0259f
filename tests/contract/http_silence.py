"""Connections that go silent: what every HTTP client does about them."""

import os
import socket
from pathlib import Path

from twisted.internet import reactor
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.task import deferLater

from node2dm_tw.http.interface import NoAnswer, post
from tests.contract.http_fixtures import HEADERS, ClientFixtures
from tests.contract.http_servers import OK, always

TIMEOUT = 0.6


def user_timeout(port):
    """TCP_USER_TIMEOUT of this process's connection with `port` at its end, in milliseconds."""
    for file in Path("/proc/self/fd").iterdir():
        try:
            with socket.socket(fileno=os.dup(int(file.name))) as one:
                if one.family == socket.AF_INET and one.getsockname()[1] == port:
                    return one.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT)
        except OSError:
            continue  # Not a socket, or closed by now.
    raise LookupError(port)


class SilenceTests(ClientFixtures):
    """HTTP/1.1: a connection carries one request, and is closed with it."""

    def silencer(self):
        """A server whose connections can be made silent; new ones answer."""
        silent = set()

        def script(connection, request):
            if connection not in silent:
                connection.write(OK)

        server = self.server(script)
        server.silence = lambda: silent.update(server.connections)
        return server

    async def open(self, client, server, connections):
        """Have idle connections; a first request goes alone."""
        await post(client, server.url(), HEADERS, b"x")
        await gatherResults([post(client, server.url(), HEADERS, b"x") for _ in range(connections)])

    async def test_idle_connections_go_with_a_silent_one(self):
        """When a kept connection is silent, those that were idle as long are not tried at all."""
        server = self.silencer()
        client = self.client(timeout=TIMEOUT)
        await self.open(client, server, 6)
        server.silence()
        before = client.handshakes
        error = await self.failure(post(client, server.url(), HEADERS, b"x"), NoAnswer)
        assert error.timed_out
        assert not error.is_collateral
        for _ in range(3):
            assert (await post(client, server.url(), HEADERS, b"x")).status == 200
        assert client.handshakes == before + 1

    async def test_many_silent_connections_at_once(self):
        """However many fall silent at once, the next request is answered."""
        server = self.silencer()
        client = self.client(timeout=TIMEOUT)
        await self.open(client, server, 8)
        server.silence()
        for request in [post(client, server.url(), HEADERS, b"x") for _ in range(5)]:
            error = await self.failure(request, NoAnswer)
            assert not error.is_collateral
        assert (await post(client, server.url(), HEADERS, b"x")).status == 200

    async def test_a_slow_answer_leaves_connections_in_use_alone(self):
        """A connection that answered of late is kept when another one times out."""

        def script(connection, request):
            if request.body != b"slow":
                connection.write(OK)

        server = self.server(script)
        client = self.client(timeout=TIMEOUT)
        await self.open(client, server, 2)
        before = client.handshakes
        slow = self.failure(post(client, server.url(), HEADERS, b"slow"), NoAnswer)
        waiting = Deferred.fromCoroutine(slow)
        while not waiting.called:
            assert (await post(client, server.url(), HEADERS, b"x")).status == 200
            await deferLater(reactor, 0.02)
        await waiting
        assert (await post(client, server.url(), HEADERS, b"x")).status == 200
        assert client.handshakes == before

    async def test_a_time_out_on_a_new_connection_costs_no_other(self):
        """A time-out on a connection that never answered is no sign against older ones."""
        held = Deferred()

        def script(connection, request):
            if request.body == b"hold":
                held.addCallback(lambda _: connection.write(OK))
            elif request.body != b"slow":
                connection.write(OK)

        server = self.server(script)
        client = self.client(timeout=TIMEOUT)
        await post(client, server.url(), HEADERS, b"x")
        hold = post(client, server.url(), HEADERS, b"hold")
        slow = post(client, server.url(), HEADERS, b"slow")
        reactor.callLater(0.05, held.callback, None)
        await hold
        await self.failure(slow, NoAnswer)
        before = client.handshakes
        assert (await post(client, server.url(), HEADERS, b"x")).status == 200
        assert client.handshakes == before

    async def test_unacknowledged_data_ends_a_connection(self):
        """The kernel ends a connection whose data stays unacknowledged for the time-out."""
        server = self.server(always(OK))
        await post(self.client(timeout=7.0), server.url(), HEADERS, b"x")
        assert user_timeout(server.used[0].transport.getPeer().port) == 7000
