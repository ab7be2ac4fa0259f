"""POST /v1/push and GET /v1/push/ID: what each request is answered, without a socket."""

import json
import re

import attrs
import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.logger import capturedLogs, formatEvent

from node2dm_tw.core.web import WebRequest
from node2dm_tw.intake.http import (
    JSON,
    NO_TOKEN,
    STOPPING,
    UNKNOWN_ID,
    BearerCheck,
    OutcomeEndpoint,
    PushEndpoint,
)
from node2dm_tw.intake.http_body import COMPRESSED, MAX_PUSHES, WRONG_TYPE
from node2dm_tw.queues.budget import ByteBudget
from node2dm_tw.queues.interface import QueueFull
from node2dm_tw.queues.memory_engine import MemoryEngine
from node2dm_tw.queues.receipts import MAX_RECEIPT_AGE
from tests.unit.intake.support import Intake

TOKEN = "correct-horse"
BEARER = {b"authorization": b"Bearer " + TOKEN.encode()}
PUSH = b'{"token":"phone","collapse_key":"key","data":"x"}'
SOURCE = ("2001:db8::1", 9)


@attrs.define(eq=False)
class SlowEngine:
    """The memory engine, whose storing and finding take until the test says so."""

    engine: MemoryEngine
    waiting: list = attrs.field(factory=list)

    def put_all(self, pushes, receipt=None):
        return self._later(lambda: self.engine.put_all(pushes, receipt))

    def find_receipt(self, key):
        return self._later(lambda: self.engine.find_receipt(key))

    def _later(self, act):
        later = Deferred().addCallback(lambda _: act())
        self.waiting.append(later)
        return later

    def go_on(self):
        """Do the next thing that waits."""
        self.waiting.pop(0).callback(None)


class HTTPIntake(Intake):
    """A push endpoint over two queues in memory."""

    def __init__(self, folder, *, is_slow=False):
        self.wall = 1e9
        self.folder = folder
        super().__init__()
        self.token = TOKEN
        engine = SlowEngine(self.engine) if is_slow else self.engine
        self.bearer = BearerCheck(lambda: self.token, self.clock)
        self.endpoint = PushEndpoint(self.parser, engine, lambda: self.wall, self.bearer)
        self.slow = engine

    def _route(self, name):
        if not self.stats.routes:
            self.engine = MemoryEngine(
                self.folder, ByteBudget(10_000_000), self.clock, lambda: self.wall
            )
        route = super()._route(name)
        queue = self.engine.add_queue(name, 1_500, route.stats, lambda: None, lambda *_: None)
        return attrs.evolve(route, queue=queue)

    def refuse(self, headers=BEARER):
        return self.endpoint.refuse(WebRequest(b"POST", b"", headers, SOURCE))

    def post(self, body=PUSH, **headers):
        """Send a request; return what came of it, which may be a Deferred."""
        given = {name.replace("_", "-").encode(): value for name, value in headers.items()}
        assert self.refuse({**BEARER, **given}) is None
        return self.endpoint.answer(WebRequest(b"POST", b"", {**BEARER, **given}, SOURCE, body))

    def answer(self, body=PUSH, **headers):
        """Send a request; return the answer, however many turns it takes."""
        response = self.post(body, **headers)
        if isinstance(response, Deferred):
            found = []
            response.addBoth(found.append)
            while not found:
                self.clock.advance(0)
            (response,) = found
        return response

    def ids(self, *args, **headers):
        response = self.answer(*args, **headers)
        assert response.status == 202
        return json.loads(response.body)["ids"]

    @property
    def queued(self):
        return self.shop.queue.depth, self.news.queue.depth

    @property
    def received(self):
        return self.shop.stats.messages_received, self.news.stats.messages_received


@pytest.fixture
def intake(tmp_path):
    return HTTPIntake(tmp_path)


@pytest.fixture
def slow(tmp_path):
    return HTTPIntake(tmp_path, is_slow=True)


@pytest.mark.parametrize(
    ("authorization", "is_right"),
    [
        (f"Bearer {TOKEN}", True),
        (f"bearer  {TOKEN} ", True),
        (f"Bearer {TOKEN}x", False),
        (f"Bearer {TOKEN[:-1]}", False),
        ("Bearer", False),
        ("", False),
        (f"Basic {TOKEN}", False),
        (TOKEN, False),
        (f"Bearer {TOKEN}, Bearer x", False),
        ("Bearer \xff", False),
    ],
)
def test_the_token(intake, authorization, is_right):
    """Must be the configured one; a wrong one is logged, though not itself."""
    with capturedLogs() as logged:
        refusal = intake.refuse({b"authorization": authorization.encode("latin-1")})
    if is_right:
        assert refusal is None
        assert logged == []
    else:
        assert refusal.status == 401
        assert refusal.headers == ((b"WWW-Authenticate", b"Bearer"),)
        assert [formatEvent(event) for event in logged] == [
            "request from 2001:db8::1 refused: no push_token, or another one"
        ]


def test_without_a_configured_token(intake):
    """Nobody may push, whatever they send; a reload changes that."""
    intake.token = None
    for headers in ({}, BEARER, {b"authorization": b"Bearer None"}, {b"authorization": b"Bearer "}):
        assert intake.refuse(headers) is NO_TOKEN
    assert b"push_token" in NO_TOKEN.body
    intake.token = TOKEN
    assert intake.refuse() is None


def test_what_is_refused_by_its_head(intake):
    """The token comes first: who does not know it learns nothing else."""
    form = {b"content-type": b"application/x-www-form-urlencoded"}
    assert intake.refuse(form).status == 401
    assert intake.refuse({**BEARER, **form}) is WRONG_TYPE
    assert intake.refuse({**BEARER, b"content-encoding": b"gzip"}) is COMPRESSED


def test_a_request_is_accepted(intake):
    """The queues have its pushes, which are counted, and the answer has an id for each."""
    body = b'[%b,{"id":"mine","route":"news","token":"a","collapse_key":"k"}]' % PUSH
    response = intake.answer(body)
    assert (response.status, response.content_type) == (202, JSON)
    answer = json.loads(response.body)
    assert answer["accepted"] == 2
    assert re.fullmatch(r"[A-Za-z0-9._:-]{22}", answer["ids"][0])
    assert answer["ids"][1] == "mine"
    assert intake.queued == intake.received == (1, 1)
    assert intake.shop.queue.take().push.id == answer["ids"][0]


def test_ids_differ(intake):
    """Within a request and between requests."""
    ids = [each for _ in range(5) for each in intake.ids(b"[%b,%b]" % (PUSH, PUSH))]
    assert len(set(ids)) == 10


def test_nothing_is_taken_of_an_invalid_request(intake):
    """Each invalid push is counted once, with the sender's address; the answer has every fault."""
    body = b"%b\n{}\n%b\n[]\n{" % (PUSH, PUSH)
    with capturedLogs() as logged:
        response = intake.answer(body, content_type=b"application/x-ndjson")
    assert (response.status, response.content_type) == (400, JSON)
    assert [error["index"] for error in json.loads(response.body)["errors"]] == [1, 3, 4]
    assert intake.queued == intake.received == (0, 0)
    assert intake.stats.invalid == {"token": 1, "json": 2}
    assert {each.source for each in intake.stats.latest_invalid()} == {"[2001:db8::1]:9"}
    assert formatEvent(logged[0]).startswith("invalid push from [2001:db8::1]:9 (2 bytes): token: ")


def test_too_many_pushes_are_not_looked_at(intake):
    """413; none is counted as invalid."""
    response = intake.answer(b"[%b]" % b",".join([b"{}"] * (MAX_PUSHES + 1)))
    assert response.status == 413
    assert intake.stats.invalid == {}


def test_a_full_queue(intake):
    """503 says when to come again; all or nothing, over all routes."""
    full = b"[%b]" % b",".join([PUSH] * 999)
    news = PUSH.replace(b'"token"', b'"route":"news","token"')
    intake.ids(full)
    with capturedLogs() as logged:
        for body in (full, full[:-1] + b"," + news + b"]"):
            response = intake.answer(body)
            assert response.status == 503
            assert response.headers == ((b"Retry-After", b"5"),)
    assert [formatEvent(event) for event in logged] == [
        "pushes by HTTP turned away: the queue holds max_queued pushes"
    ]
    assert intake.queued == intake.received == (999, 0)


def test_a_receipt_comes_once_the_pushes_are_stored(slow):
    """Until then they are neither received nor queued."""
    response = slow.post()
    assert isinstance(response, Deferred)
    assert slow.received == (0, 0)
    slow.slow.go_on()
    assert json.loads(response.result.body)["accepted"] == 1
    assert slow.queued == slow.received == (1, 0)


def test_an_engine_that_cannot_store_says_so_later(slow):
    """Its Deferred fails: the same 503."""
    slow.post(b"[%b]" % b",".join([PUSH] * 999))
    response = slow.post(b"[%b]" % b",".join([PUSH] * 999))
    slow.slow.go_on()
    slow.slow.go_on()
    assert response.result.status == 503
    assert slow.received == (999, 0)


def test_an_engine_that_cannot_look_for_a_receipt(slow):
    """503 as well: whether the request was accepted is not known."""
    response = slow.post(idempotency_key=b"k")
    slow.slow.waiting.pop(0).errback(QueueFull("the disk is gone"))
    assert (response.result.status, response.result.body) == (503, b"the disk is gone\n")


def test_any_other_failure_of_an_engine_is_handed_on(slow):
    """It is a fault of ours, no lack of room; the web port answers 500."""
    response = slow.post(idempotency_key=b"k")
    slow.slow.waiting.pop(0).errback(ZeroDivisionError())
    response.addErrback(lambda failure: failure.check(ZeroDivisionError))
    assert response.result is ZeroDivisionError
    assert isinstance(slow.post(idempotency_key=b"k"), Deferred)


def test_the_same_key_and_body_get_the_same_answer(intake):
    """Nothing is queued twice; the header says so."""
    first, again = (intake.answer(idempotency_key=b"order-1") for _ in range(2))
    assert again == attrs.evolve(first, headers=((b"Idempotent-Replayed", b"true"),))
    assert intake.ids(idempotency_key=b"order-2") != json.loads(first.body)["ids"]
    assert intake.queued == (2, 0)


def test_the_same_key_with_another_body(intake):
    """422: it is a mistake of the sender."""
    intake.ids(idempotency_key=b"order-1")
    response = intake.answer(PUSH + b" ", idempotency_key=b"order-1")
    assert response.status == 422
    assert intake.queued == (1, 0)


def test_a_key_is_kept_for_a_day(intake):
    """Afterwards it is new."""
    intake.ids(idempotency_key=b"k")
    intake.wall += MAX_RECEIPT_AGE - 1
    assert intake.answer(idempotency_key=b"k").headers
    intake.wall += 1
    assert not intake.answer(idempotency_key=b"k").headers


def test_a_key_of_a_refused_request_can_be_used_again(intake):
    """Only an accepted request leaves a receipt."""
    assert intake.answer(b"[1]", idempotency_key=b"k").status == 400
    intake.ids(b"[%b]" % b",".join([PUSH] * 999))
    assert intake.answer(b"[%b]" % b",".join([PUSH] * 999), idempotency_key=b"k").status == 503
    assert intake.ids(idempotency_key=b"k")


def test_the_same_key_while_the_first_request_runs(slow):
    """409, with the same or another body; afterwards its answer."""
    first = slow.post(idempotency_key=b"k")
    for step in range(2):
        for body in (PUSH, b"{}"):
            assert slow.post(body, idempotency_key=b"k").status == 409, step
        slow.slow.go_on()
    assert first.result.status == 202
    again = slow.post(idempotency_key=b"k")
    slow.slow.go_on()
    assert again.result.body == first.result.body
    assert slow.queued == (1, 0)


@pytest.mark.parametrize("key", [b"", b"x" * 65, b"a b", b"\xff", b"a\tb"])
def test_an_invalid_key(intake, key):
    """400 in the form of the other errors."""
    response = intake.answer(idempotency_key=key)
    assert response.status == 400
    (error,) = json.loads(response.body)["errors"]
    assert error["field"] == "Idempotency-Key"
    assert intake.queued == (0, 0)
    assert intake.ids(idempotency_key=b"!" * 64)


class TickingClock(Clock):
    """A clock that moves a millisecond with each look at it."""

    def seconds(self):
        self.rightNow += 0.001
        return self.rightNow


def test_a_large_batch_takes_several_turns(intake):
    """The reactor looks at its sockets between; others are answered meanwhile."""
    clock = intake.parser.clock = TickingClock()
    large = intake.post(b"[%b]" % b",".join([PUSH] * 100), idempotency_key=b"k")
    assert isinstance(large, Deferred)
    assert intake.post(idempotency_key=b"k").status == 409
    assert intake.ids()
    assert intake.queued == (1, 0)
    clock.advance(0)
    assert json.loads(large.result.body)["accepted"] == 100
    assert intake.queued == (101, 0)


def test_a_stop(slow):
    """Waits for the requests that are open; new ones are turned away."""
    assert HTTPIntake(slow.folder).endpoint.stop() is None
    open_request = slow.post()
    stopped = slow.endpoint.stop()
    assert slow.refuse() is STOPPING
    assert slow.refuse({}).status == 401
    assert slow.endpoint.answer(WebRequest(b"POST", b"", BEARER, SOURCE, PUSH)) is STOPPING
    assert not stopped.called
    slow.slow.go_on()
    assert open_request.result.status == 202
    assert stopped.called


def test_outcomes(intake):
    """By id, for those who know the token."""
    endpoint = OutcomeEndpoint(intake.bearer, {"a:b/1": b'{"outcome":"sent"}'}.get)

    def ask(path, headers=BEARER):
        request = WebRequest(b"GET", path, headers, SOURCE)
        return endpoint.refuse(request) or endpoint.answer(request)

    for path in (b"a:b/1", b"a%3Ab%2F1"):
        found = ask(path)
        assert (found.status, found.body, found.content_type) == (200, b'{"outcome":"sent"}', JSON)
    for path in (b"", b"b", b"%ff", b"\xff"):
        assert ask(path) is UNKNOWN_ID
    assert json.loads(UNKNOWN_ID.body)["error"]
    assert ask(b"a:b/1", {}).status == 401
