"""The reference client: treq over a persistent pool of connections, HTTP/1.1."""

from collections.abc import Callable
from http.cookiejar import DefaultCookiePolicy
from pathlib import Path
from typing import Any

from treq.client import HTTPClient as Treq
from treq.cookies import IndexableCookieJar
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.web.client import Agent
from twisted.web.http_headers import Headers as WebHeaders
from twisted.web.iweb import IAgent, IResponse
from zope.interface import implementer

from node2dm_tw.http.exchange import Exchange
from node2dm_tw.http.hosts import PlainURL
from node2dm_tw.http.interface import Done, Headers, InFlight, Outcome
from node2dm_tw.http.limits import CONNECT_TIMEOUT
from node2dm_tw.http.pool import ExchangeEndpoints, ExchangePool
from node2dm_tw.http.posting import Posting
from node2dm_tw.http.tls import VerifiedTLS


@implementer(IAgent)
class _ExchangeAgent:
    """The innermost agent: hands the answer to the exchange before treq would decompress it.

    Args:
        agent_for: makes the agent that carries one exchange.
    """

    def __init__(self, agent_for: Callable[[Exchange], IAgent]) -> None:
        self._agent_for = agent_for

    def request(
        self,
        method: bytes,
        uri: bytes,
        headers: WebHeaders | None = None,
        bodyProducer: Any = None,
    ) -> Deferred[IResponse]:
        exchange: Exchange = bodyProducer
        assert headers is not None
        headers.removeHeader(b"accept-encoding")
        request = self._agent_for(exchange).request
        answer: Deferred[IResponse] = request(method, uri, headers, exchange)
        return answer.addCallback(exchange.read)


class TreqClient(Posting):
    """Moves requests by treq; see `node2dm_tw.http.interface.HTTPClient`.

    Args:
        reactor: provides TCP, name resolution and time.
        timeout: seconds for connection, request and answer together.
        connections: how many idle connections to one server are kept.
        ca_file: a PEM bundle of the roots to trust; None means the platform's.
        agent: carries the requests in tests; a pool of real connections otherwise.

    Raises:
        OSError, ValueError: `ca_file` is missing, unreadable, empty or damaged.
    """

    name = "treq"
    reconnects = 0

    def __init__(
        self,
        reactor: Any,
        *,
        timeout: float,
        connections: int,
        ca_file: Path | None = None,
        agent: IAgent | None = None,
    ) -> None:
        self._reactor = reactor
        self._timeout = timeout
        self._agent = agent
        self._tls = VerifiedTLS(ca_file)
        self._pool = ExchangePool(reactor, connections)
        self._exchanges: set[Exchange] = set()
        self._closed = False
        self._treq = Treq(
            _ExchangeAgent(self._agent_for),
            cookiejar=IndexableCookieJar(DefaultCookiePolicy(allowed_domains=())),
            data_to_body_producer=lambda exchange: exchange,
        )

    @property
    def handshakes(self) -> int:
        return self._pool.handshakes

    def send(
        self, url: str, headers: Headers, body: bytes, done: Done, context: Any
    ) -> InFlight | None:
        def ended(outcome: Outcome) -> None:
            self._exchanges.discard(exchange)
            done(outcome, context)
            self.on_reported()

        exchange = Exchange(self._reactor, self._timeout, body, ended)
        if self._closed:
            exchange.give_up("the client is closed")
            return None
        self._exchanges.add(exchange)
        exchange.follow(maybeDeferred(self._request, exchange, url, headers))
        return None if exchange.settled else exchange

    def close(self) -> Deferred[None]:
        self._closed = True
        for exchange in list(self._exchanges):
            exchange.give_up("the client was closed")
        return self._pool.close()

    def _request(self, exchange: Exchange, url: str, headers: Headers) -> Deferred[Any]:
        fields = WebHeaders()
        for name, value in headers:
            fields.addRawHeader(name, value)
        return self._treq.post(
            PlainURL.from_text(url),
            data=exchange,
            headers=fields,
            allow_redirects=False,
            unbuffered=True,
            reactor=self._reactor,
        )

    def _agent_for(self, exchange: Exchange) -> IAgent:
        if self._agent is not None:
            return self._agent
        endpoints = ExchangeEndpoints(
            self._reactor, exchange, self._pool, self._tls, min(self._timeout, CONNECT_TIMEOUT)
        )
        make: Callable[..., IAgent] = Agent.usingEndpointFactory
        return make(self._reactor, endpoints, self._pool)
