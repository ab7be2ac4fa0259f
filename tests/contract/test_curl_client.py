"""The libcurl client: the contract, and what only it does."""

from twisted.internet import reactor
from twisted.internet.defer import DeferredList, gatherResults
from twisted.internet.task import Clock, deferLater
from twisted.trial.unittest import TestCase

from node2dm_tw.http.curl_client import CurlClient
from node2dm_tw.http.interface import CertificateRefused, NoAnswer, NotSent, post
from tests.contract import http_certificates as certificates
from tests.contract.http_contract import ContractTests
from tests.contract.http_fixtures import HEADERS
from tests.contract.http_servers import OK, ClockedReactor, always
from tests.support.ports import free_port


class CurlContractTests(ContractTests, TestCase):
    """The contract over real sockets."""

    def make_client(self, ca_file, reactor=reactor, **settings):
        return CurlClient(reactor, ca_file=ca_file, **settings)

    async def test_silent_repeat(self):
        """A request that libcurl sends again by itself is counted."""

        def script(connection, request):
            if connection.requests == 2:
                connection.reset()
            else:
                connection.write(OK)

        server = self.server(script)
        client = self.client()
        for _ in range(3):
            await post(client, server.url(), HEADERS, b"")
        assert len(server.requests) == 5
        assert client.reconnects == 2
        assert client.handshakes == 3

    async def test_first_requests(self):
        """The first request goes ahead alone; the others follow once it is answered."""
        server = self.server(always(OK))
        client = self.client()
        await gatherResults([post(client, server.url(), HEADERS, b"x") for _ in range(6)])
        assert len(server.requests) == 6
        assert client.handshakes == len(server.used)
        assert len(server.connections) == len(server.used) + 1

    async def test_bad_certificate_for_many(self):
        """Requests that wait for the first one fail as it does, and nothing is sent."""
        server = self.server(always(OK), certificates.bad("no subjectAltName"))
        client = self.client()
        requests = [post(client, server.url(), HEADERS, b"x") for _ in range(4)]
        for request in requests:
            await self.failure(request, CertificateRefused)
        assert server.received == b""
        assert len(server.connections) == 1

    async def test_closed_by_one_that_waited(self):
        """A request that fails with the first one, and before it, may close the client."""
        server = self.server(always(OK), certificates.bad("expired"))
        client = self.client()
        first, second = (post(client, server.url(), HEADERS, b"x") for _ in range(2))
        second.addErrback(lambda _: client.close())
        await self.failure(first, CertificateRefused)
        await deferLater(reactor, 0)  # This ran within the errback of the second.
        assert await second is None

    async def test_first_request_is_cancelled(self):
        """Those that wait for a cancelled request go on; a waiting one can be cancelled too."""
        server = self.server(always(OK))
        client = self.client()
        first, second, third, fourth = (post(client, server.url(), (), b"x") for _ in range(4))
        third.cancel()
        first.cancel()
        await self.failure(first, NotSent)
        await self.failure(third, NotSent)
        assert (await second).status == (await fourth).status == 200

    async def test_waiting_ends_in_time(self):
        """Requests behind one that never gets an answer end with their own time-out."""
        server = self.server(lambda connection, request: None)
        client = self.client(timeout=0.3)
        first, second = (post(client, server.url(), HEADERS, b"x") for _ in range(2))
        assert (await self.failure(first, NoAnswer)).timed_out
        assert (await self.failure(second, NotSent)).timed_out

    async def test_new_key(self):
        """A server that comes back with another good certificate is met again."""
        number = free_port()
        server = self.server(always(OK), port=number)
        client = self.client()
        await post(client, server.url(), HEADERS, b"x")
        await server.stop()
        other = certificates.make(*certificates.NAMES)
        renewed = self.server(always(OK), other, port=number)
        answers = [post(client, renewed.url(), HEADERS, b"x") for _ in range(3)]
        assert [answer.status for answer in await gatherResults(answers)] == [200] * 3
        await renewed.stop()
        bad = self.server(always(OK), certificates.bad("no subjectAltName"), port=number)
        await self.failure(post(client, bad.url(), HEADERS, b"x"), CertificateRefused)
        assert bad.received == b""

    async def test_line_end_in_a_header(self):
        """A header value with a line end is not sent."""
        server = self.server(always(OK))
        headers = ((b"X", b"a\r\nB: c"),)
        await self.failure(post(self.client(), server.url(), headers, b"x"), NotSent)
        assert server.received == b""

    async def test_close_leaves_no_call_behind(self):
        """Closing cancels every delayed call."""
        clock = Clock()
        server = self.server(always(OK))
        client = self.client(reactor=ClockedReactor(clock))
        await post(client, server.url(), HEADERS, b"x")
        await client.close()
        assert clock.getDelayedCalls() == []

    async def test_close_while_answers_are_reported(self):
        """A client may be closed, and requests cancelled, by the callback of another."""
        waiting = []

        def script(connection, request):
            waiting.append(connection)
            if len(waiting) == 3:
                for waiter in waiting:
                    waiter.write(OK)
            elif request.body == b"first":
                waiting.clear()
                connection.write(OK)

        server = self.server(script)
        client = self.client()
        await post(client, server.url(), HEADERS, b"first")
        requests = [post(client, server.url(), HEADERS, b"x") for _ in range(3)]
        requests[0].addCallback(lambda _: [request.cancel() for request in requests[1:]])
        requests[0].addCallback(lambda _: client.close())
        outcomes = await DeferredList(requests, consumeErrors=True)
        assert outcomes[0][0]

    async def test_cancelled_before_it_began(self):
        """What is cancelled in the callback in which it was sent never went out."""
        server = self.server(always(OK))
        client = self.client()
        later = []

        def send_and_cancel(_):
            request = post(client, server.url(), HEADERS, b"x")
            request.cancel()
            later.append(request)

        await gatherResults([post(client, server.url(), HEADERS, b"x") for _ in range(3)])
        await post(client, server.url(), HEADERS, b"x").addCallback(send_and_cancel)
        await self.failure(later[0], NotSent)
        assert len(server.requests) == 4

    async def test_many_wake_ups(self):
        """Handles, sockets and descriptors are used again and again without harm."""

        def script(connection, request):
            connection.write(OK)
            if connection.requests % 7 == 0:
                connection.reset()

        server = self.server(script)
        client = self.client()
        await post(client, server.url(), HEADERS, b"x")
        for _ in range(20):
            batch = [post(client, server.url(), HEADERS, b"x") for _ in range(10)]
            for worked, outcome in await DeferredList(batch, consumeErrors=True):
                assert worked or outcome.check(NoAnswer)
