"""The treq client: the contract, and what only it does."""

from treq.testing import RequestTraversalAgent, StringStubbingResource
from twisted.internet import error, reactor
from twisted.internet.defer import Deferred, fail
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase, TestCase
from twisted.web.client import ResponseNeverReceived
from twisted.web.iweb import IAgent
from zope.interface import implementer

from node2dm_tw.http.interface import NoAnswer, NotSent, post
from node2dm_tw.http.treq_client import TreqClient
from tests.contract.http_contract import ContractTests
from tests.contract.http_fixtures import HEADERS
from tests.contract.http_servers import OK, ClockedReactor


class TreqContractTests(ContractTests, TestCase):
    """The contract over real sockets."""

    def make_client(self, ca_file, reactor=reactor, **settings):
        return TreqClient(reactor, ca_file=ca_file, **settings)

    async def test_stale_connection(self):
        """A kept-alive connection closed before any byte of the answer is told from others."""

        def script(connection, request):
            if len(server.requests) == 1:
                connection.write(OK)
            else:
                connection.close()

        server = self.server(script)
        client = self.client()
        await post(client, server.url(), HEADERS, b"x")
        error = await self.failure(post(client, server.url(), HEADERS, b"x"), NoAnswer)
        assert error.retry_at_once
        assert len(server.connections) == 1
        error = await self.failure(post(client, server.url(), HEADERS, b"x"), NoAnswer)
        assert not error.retry_at_once

    async def test_another_method(self):
        """It is sent as it is named, with the body that is given."""
        server = self.server(lambda connection, request: connection.write(OK))
        client = self.client()
        for method, body in (("GET", b""), ("PUT", b"x"), (None, b"x"), (None, None)):
            await post(client, server.url(), HEADERS, body, method=method)
        lines = [(request.line.split()[0], request.body) for request in server.requests]
        assert lines == [(b"GET", b""), (b"PUT", b"x"), (b"POST", b"x"), (b"DELETE", b"")]

    async def test_unasked_bytes(self):
        """Bytes that come on an idle connection end it, and belong to no answer."""
        server = self.server(lambda connection, request: connection.write(OK))
        client = self.client()
        await post(client, server.url(), HEADERS, b"x")
        server.connections[0].write(b"HTTP/1.1 500 Surprise\r\n\r\n")
        await server.connections[0].gone
        response = await post(client, server.url(), HEADERS, b"x")
        assert response.status == 200

    async def test_close_leaves_no_call_behind(self):
        """Closing cancels every delayed call, those of idle connections too."""
        clock = Clock()
        server = self.server(lambda connection, request: connection.write(OK))
        client = self.client(reactor=ClockedReactor(clock))
        await post(client, server.url(), HEADERS, b"x")
        await client.close()
        assert clock.getDelayedCalls() == []


class Sink:
    """A consumer that keeps nothing."""

    def write(self, data):
        pass


@implementer(IAgent)
class InertAgent:
    """Answers each request as it is told.

    Args:
        answer: a Deferred, or a callable that makes one.
        write: whether the request's body is written first.
    """

    def __init__(self, answer, *, write=False):
        self.answer = answer
        self.write = write

    def request(self, method, uri, headers=None, bodyProducer=None):
        if self.write:
            bodyProducer.startProducing(Sink())
        return self.answer() if callable(self.answer) else self.answer


class TreqUnitTests(SynchronousTestCase):
    """Without sockets, on a clock."""

    def client(self, agent, timeout=30.0):
        self.clock = Clock()
        return TreqClient(self.clock, timeout=timeout, connections=1, agent=agent)

    def test_in_memory(self):
        """An agent handed in carries the request."""
        seen = []

        def render(method, url, params, headers, data):
            seen.append((method, url, data))
            return 503, {b"Retry-After": b"5"}, b"later"

        agent = RequestTraversalAgent(StringStubbingResource(render))
        client = self.client(agent)
        answer = post(client, "https://push.example/send", HEADERS, b"x")
        agent.flush()
        response = self.successResultOf(answer)
        assert (response.status, response.body) == (503, b"later")
        assert response.headers[b"retry-after"] == b"5"
        assert seen == [(b"POST", "https://push.example/send", b"x")]
        assert self.clock.getDelayedCalls() == []

    def test_time_runs_out(self):
        """The time-out covers everything, and says whether the request was out."""
        for write, kind in ((False, NotSent), (True, NoAnswer)):
            agent = InertAgent(Deferred(), write=write)
            answer = post(self.client(agent), "https://push.example/", HEADERS, b"x")
            self.clock.advance(29.9)
            self.assertNoResult(answer)
            self.clock.advance(0.2)
            failure = self.failureResultOf(answer, kind)
            assert failure.value.timed_out

    def test_failures_before_the_request(self):
        """What fails before the first byte is out is NotSent; only a time-out says so."""
        for exception, timed_out in (
            (error.ConnectionRefusedError(), False),
            (error.DNSLookupError(), False),
            (error.TimeoutError(), True),
            (ValueError("a header with secret-token in it"), False),
        ):
            agent = InertAgent(lambda e=exception: fail(e), write=False)
            answer = post(self.client(agent), "https://push.example/", HEADERS, b"x")
            failure = self.failureResultOf(answer, NotSent)
            assert failure.value.timed_out == timed_out
            assert "secret-token" not in str(failure.value)

    def test_failures_after_the_request(self):
        """What fails once the request is out is NoAnswer."""
        lost = ResponseNeverReceived([Failure(error.ConnectionLost())])
        agent = InertAgent(lambda: fail(lost), write=True)
        answer = post(self.client(agent), "https://push.example/", HEADERS, b"x")
        failure = self.failureResultOf(answer, NoAnswer)
        assert "ConnectionLost" in str(failure.value)

    def test_raising_agent(self):
        """An exception on the way out never leaves post."""

        def broken():
            raise RuntimeError("broken")

        answer = post(self.client(InertAgent(broken)), "https://push.example/", HEADERS, b"x")
        self.failureResultOf(answer, NotSent)
