"""The reference HTTP client: treq with a pool of connections, HTTP/1.1."""

from collections.abc import Callable
from http.cookiejar import DefaultCookiePolicy
from pathlib import Path
from typing import Any, cast

from treq.client import HTTPClient as Treq
from treq.cookies import IndexableCookieJar
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.web.client import Agent
from twisted.web.http_headers import Headers as WebHeaders
from twisted.web.iweb import IAgent, IBodyProducer, IResponse
from zope.interface import implementer

from node2dm_tw.http.interface import Headers, InFlight, NoAnswer, OnOutcomes, Outcome, finish_posts
from node2dm_tw.http.tls import VerifiedTLS
from node2dm_tw.http.treq_hosts import PlainURL
from node2dm_tw.http.treq_pool import ITCPReactor, RequestEndpoints, RequestPool
from node2dm_tw.http.treq_request import TreqRequest


@implementer(IAgent)
class _InnermostAgent:
    """The innermost agent: passes the answer to its `TreqRequest` before treq decompresses it.

    Args:
        agent_for: makes the agent for one request.
    """

    def __init__(self, agent_for: Callable[[TreqRequest], IAgent]) -> None:
        self._agent_for = agent_for

    def request(
        self,
        method: bytes,
        uri: bytes,
        headers: WebHeaders | None = None,
        bodyProducer: IBodyProducer | None = None,
    ) -> Deferred[IResponse]:
        assert isinstance(bodyProducer, TreqRequest)
        assert headers is not None
        headers.setRawHeaders(b"accept-encoding", [b"identity"])
        request = self._agent_for(bodyProducer).request
        answer: Deferred[IResponse] = request(method, uri, headers, bodyProducer)
        return answer.addCallback(bodyProducer.read)


class TreqClient:
    """Sends requests with treq; see `node2dm_tw.http.interface.HTTPClient`.

    Args:
        reactor: provides TCP, name resolution and time.
        timeout: seconds for connection, request and answer together.
        connections: maximum number of idle connections to one server.
        ca_file: a PEM bundle of the roots to trust; None means the platform's.
        on_outcomes: receives the outcomes; by default they are those of `post`.
        agent: sends the requests in tests; by default a pool of connections does.

    Raises:
        OSError, ValueError: `ca_file` is missing, unreadable, empty or damaged.
    """

    name = "treq"
    reconnects = 0

    def __init__(
        self,
        reactor: ITCPReactor,
        *,
        timeout: float,
        connections: int,
        ca_file: Path | None = None,
        on_outcomes: OnOutcomes = finish_posts,
        agent: IAgent | None = None,
    ) -> None:
        self._reactor = reactor
        self._timeout = timeout
        self._on_outcomes = on_outcomes
        self._agent = agent
        self._tls = VerifiedTLS(ca_file)
        self._pool = RequestPool(reactor, connections, timeout)
        self._requests: set[TreqRequest] = set()
        self._closed = False
        self._treq = Treq(
            _InnermostAgent(self._agent_for),
            cookiejar=IndexableCookieJar(DefaultCookiePolicy(allowed_domains=())),
            data_to_body_producer=lambda request: request,
        )

    @property
    def handshakes(self) -> int:
        return self._pool.handshakes

    def send(
        self,
        url: str,
        headers: Headers,
        body: bytes | None,
        context: object,
        *,
        method: str | None = None,
    ) -> InFlight | None:
        def on_outcome(outcome: Outcome) -> None:
            self._requests.discard(request)
            is_silent = request.reused and not request.answered
            if is_silent and isinstance(outcome, NoAnswer) and outcome.timed_out:
                self._pool.close_silent(self._timeout / 2)
            self._on_outcomes([(outcome, context)])

        chosen = method or ("DELETE" if body is None else "POST")
        request = TreqRequest(self._reactor, self._timeout, body or b"", on_outcome)
        if self._closed:
            request.abort("the client is closed")
            return None
        self._requests.add(request)
        request.attach(maybeDeferred(self._request, chosen, request, url, headers))
        return None if request.is_done else request

    def close(self) -> Deferred[None]:
        self._closed = True
        for request in list(self._requests):
            request.abort("the client was closed")
        return self._pool.close()

    def _request(
        self, method: str, request: TreqRequest, url: str, headers: Headers
    ) -> Deferred[Any]:
        fields = WebHeaders()
        for name, value in headers:
            fields.addRawHeader(name, value)
        return self._treq.request(
            method,
            PlainURL.from_text(url),
            data=request,
            headers=fields,
            allow_redirects=False,
            unbuffered=True,
            reactor=cast(Any, self._reactor),  # treq's type for it is private
        )

    def _agent_for(self, request: TreqRequest) -> IAgent:
        if self._agent is not None:
            return self._agent
        endpoints = RequestEndpoints(self._reactor, request, self._pool, self._tls)
        agent: IAgent = Agent.usingEndpointFactory(self._reactor, endpoints, self._pool)
        return agent
