"""Receives pushes by HTTP, and says what became of them: POST /v1/push, GET /v1/push/ID."""

import hashlib
import hmac
import re
import secrets
from collections.abc import Callable, Generator
from typing import Any
from urllib.parse import unquote

import attrs
from twisted.internet.defer import Deferred, DeferredList, inlineCallbacks, maybeDeferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.python.failure import Failure

from node2dm_tw.core.logs import Throttle, logger
from node2dm_tw.core.web import WebRequest, WebResponse
from node2dm_tw.intake.http_body import MAX_PUSHES, Batch, read_values, refuse_type
from node2dm_tw.intake.parser import LineParser
from node2dm_tw.queues.interface import PushEngine, QueueFull, Receipt

log = logger()

MAX_BODY_BYTES = 1_048_576
"""Maximum length of the body of a request."""

SLICE_SECONDS = 0.005
"""Seconds of parsing before the reactor looks at its sockets again."""

_KEY = re.compile(rb"[!-~]{1,64}")
"""An idempotency key: visible ASCII."""

JSON = "application/json"
RETRY_AFTER = ((b"Retry-After", b"5"),)

NO_TOKEN = WebResponse(
    b"POST /v1/push needs a push_token in the section [node2dm], and none is configured:"
    b" expected pushes by UDP\n",
    status=403,
)
UNAUTHORIZED = WebResponse(
    b"the push_token is another one: expected the header `Authorization: Bearer PUSH_TOKEN`\n",
    status=401,
    headers=((b"WWW-Authenticate", b"Bearer"),),
)
STOPPING = WebResponse(b"the gateway is stopping\n", status=503, headers=RETRY_AFTER)
MANY_PUSHES = WebResponse(
    b"the request has too many pushes: expected at most %d\n" % MAX_PUSHES, status=413
)
WRONG_KEY = WebResponse(
    b'{"errors": [{"index": 0, "field": "Idempotency-Key", "reason": "header",'
    b' "detail": "expected 1 to 64 visible ASCII characters"}]}\n',
    JSON,
    400,
)
KEY_RUNNING = WebResponse(
    b"a request with this Idempotency-Key is being answered: expected to be sent again later\n",
    status=409,
    headers=((b"Retry-After", b"1"),),
)
KEY_REUSED = WebResponse(
    b"this Idempotency-Key was used for another body: expected a key of its own\n", status=422
)
UNKNOWN_ID = WebResponse(
    b'{"error": "no outcome is known for this id: the push has not ended, or is not among the'
    b' latest"}\n',
    JSON,
    404,
)


@attrs.define(eq=False)
class BearerCheck:
    """Compares the token of requests with the configured one, in constant time.

    Args:
        token: returns the configured one; None: requests are not answered at all.
        clock: monotonic seconds.
    """

    token: Callable[[], str | None]
    clock: IReactorTime
    _throttle: Throttle = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self._throttle = Throttle(log, self.clock)

    def refuse(self, request: WebRequest) -> WebResponse | None:
        """Return why a request is not answered; None: its token is right."""
        token = self.token()
        if token is None:
            return NO_TOKEN
        scheme, _, given = request.headers.get(b"authorization", b"").partition(b" ")
        if scheme.lower() == b"bearer" and hmac.compare_digest(given.strip(), token.encode()):
            return None
        self._throttle.warn(
            "request from {source} refused: no push_token, or another one", source=request.source[0]
        )
        return UNAUTHORIZED


@attrs.define(eq=False)
class PushEndpoint:
    """Answers POST /v1/push: 202 once the engine has stored every push of a request.

    Args:
        parser: has the routes, and counts invalid pushes.
        engine: stores pushes and receipts.
        wall: seconds since the epoch.
        bearer: checks the token.
    """

    methods = (b"POST",)
    max_body = MAX_BODY_BYTES

    parser: LineParser
    engine: PushEngine
    wall: Callable[[], float]
    bearer: BearerCheck
    _running_keys: set[bytes] = attrs.field(factory=set, init=False)
    _open: set[Deferred[WebResponse]] = attrs.field(factory=set, init=False)
    _is_stopping: bool = attrs.field(default=False, init=False)
    _throttle: Throttle = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self._throttle = Throttle(log, self.parser.clock)

    def refuse(self, request: WebRequest) -> WebResponse | None:
        refusal = self.bearer.refuse(request) or refuse_type(request.headers)
        return STOPPING if refusal is None and self._is_stopping else refusal

    def answer(self, request: WebRequest) -> WebResponse | Deferred[WebResponse]:
        if self._is_stopping:
            return STOPPING
        key = request.headers.get(b"idempotency-key")
        try:
            answer = self._accept(request) if key is None else self._accept_once(request, key)
        except QueueFull as error:
            return self._turn_away(str(error))
        if isinstance(answer, Deferred):
            self._open.add(answer)
            answer.addErrback(self._on_not_stored)
            answer.addBoth(self._close, answer)
        return answer

    def stop(self) -> Deferred[None] | None:
        """Accept nothing more. Fires when every open request is answered; None: they are."""
        self._is_stopping = True
        return DeferredList(list(self._open)).addCallback(lambda _: None) if self._open else None

    def _close(
        self, result: WebResponse | Failure, answer: Deferred[WebResponse]
    ) -> WebResponse | Failure:
        self._open.discard(answer)
        return result

    def _accept_once(self, request: WebRequest, key: bytes) -> WebResponse | Deferred[WebResponse]:
        """Accept a request, unless one with its key was accepted before."""
        if not _KEY.fullmatch(key):
            return WRONG_KEY
        if key in self._running_keys:
            return KEY_RUNNING
        self._running_keys.add(key)
        digest = hashlib.sha256(request.body).digest()

        def on_found(receipt: Receipt | None) -> WebResponse | Deferred[WebResponse]:
            if receipt is None:
                return self._accept(request, (key.decode(), digest))
            if receipt.digest != digest:
                return KEY_REUSED
            return WebResponse(receipt.answer, JSON, 202, ((b"Idempotent-Replayed", b"true"),))

        def on_answered(result: WebResponse | Failure) -> WebResponse | Failure:
            self._running_keys.discard(key)
            return result

        found = maybeDeferred(self.engine.find_receipt, key.decode())
        answered: Deferred[WebResponse] = found.addCallback(on_found)
        return answered.addBoth(on_answered)

    def _accept(
        self, request: WebRequest, key: tuple[str, bytes] | None = None
    ) -> WebResponse | Deferred[WebResponse]:
        """Parse the pushes of a request and store them. Raises QueueFull, or the Deferred fails so.

        Args:
            key: its idempotency key, and the digest of its body.
        """
        values = read_values(request.body, request.headers)
        batch = Batch(self.parser, values, f"{secrets.token_urlsafe(15)}-", self.parser.now())
        if batch.read(self._slice_end()):
            return self._store(batch, request, key)
        return self._accept_slowly(batch, request, key)

    def _slice_end(self) -> float:
        return self.parser.clock.seconds() + SLICE_SECONDS

    @inlineCallbacks
    def _accept_slowly(
        self, batch: Batch, request: WebRequest, key: tuple[str, bytes] | None
    ) -> Generator[Any, Any, WebResponse]:
        """Parse a large batch in turns of the reactor, so that others are not held up."""
        is_complete = False
        while not is_complete:
            yield deferLater(self.parser.clock, 0.0)
            is_complete = batch.read(self._slice_end())
        return (yield self._store(batch, request, key))  # type: ignore[no-any-return]

    def _store(
        self, batch: Batch, request: WebRequest, key: tuple[str, bytes] | None
    ) -> WebResponse | Deferred[WebResponse]:
        if batch.is_too_long:
            return MANY_PUSHES
        if batch.faults:
            for _, error, size in batch.faults:
                self.parser.reject(error, request.source, size)
            return WebResponse(batch.describe_faults(), JSON, 400)
        answer = batch.describe_receipt()
        receipt = None if key is None else Receipt(*key, answer, self.wall())
        pushes = {route.queue: each for route, each in batch.pushes.items()}

        def on_stored(_: None) -> WebResponse:
            for route, each in batch.pushes.items():
                route.stats.messages_received += len(each)
                self.parser.trace(route, each)
            return WebResponse(answer, JSON, 202)

        stored = self.engine.put_all(pushes, receipt)
        return on_stored(None) if stored is None else stored.addCallback(on_stored)

    def _on_not_stored(self, failure: Failure) -> WebResponse:
        failure.trap(QueueFull)
        return self._turn_away(failure.getErrorMessage())

    def _turn_away(self, why: str) -> WebResponse:
        self._throttle.warn("pushes by HTTP turned away: {why}", key=why, why=why)
        return WebResponse(f"{why}\n".encode(), status=503, headers=RETRY_AFTER)


@attrs.define(eq=False)
class OutcomeEndpoint:
    """Answers GET /v1/push/ID: how the push with this id ended.

    Args:
        bearer: checks the token.
        find_outcome: returns the outcome of the push with this id as JSON; None: none is known.
    """

    methods = (b"GET", b"HEAD")
    max_body = 0

    bearer: BearerCheck
    find_outcome: Callable[[str], bytes | None]

    def refuse(self, request: WebRequest) -> WebResponse | None:
        return self.bearer.refuse(request)

    def answer(self, request: WebRequest) -> WebResponse:
        outcome = self.find_outcome(unquote(request.path.decode("latin-1")))
        return UNKNOWN_ID if outcome is None else WebResponse(outcome, JSON)
