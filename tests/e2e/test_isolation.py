"""One push that fares badly, others that do not: seen from outside real gateways.

Each case is a route of its own, with its own answers to the bad push; every route gets healthy
pushes at the same time, through both clients.
"""

import json
import re
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import attrs
import pytest

from tests.support.gateway import GatewayProcess
from tests.support.upstream import Answer, Sent, Upstream
from tests.support.waiting import wait_until
from tests.unit.providers.keys import CONTENT

CLIENTS = ("treq", "curl")
SECONDS = 30.0
INTERVAL = 0.2
"""Seconds between two healthy pushes of a route."""

HTML = b"<!DOCTYPE html><title>Error 404 (Not Found)!!1</title>"
NUMBER = re.compile(rb"n\.(\w+)\.")


def fcm_error(status: int, name: str, message: str, details: object) -> bytes:
    error = {"code": status, "message": message, "status": name, "details": details}
    return json.dumps({"error": error}).encode()


@attrs.frozen
class Case:
    """What the bad push of a route draws.

    Args:
        service: `c2dm` or `fcm`.
        answer: to the bad push.
        reason: under which it is refused in the end, where that comes within the test.
        line: the bad push.
        share: of all answers that draw the bad one, at random, gone at the next try.
    """

    service: str
    answer: Answer
    reason: str | None = None
    line: str = "bad:k:{n.bad.}"
    share: float = 0.0


CASES = {
    "c2dm-500": Case("c2dm", Answer(b"", 500), "http_500"),
    "c2dm-404": Case("c2dm", Answer(HTML, 404), "http_404"),
    "c2dm-401": Case("c2dm", Answer(b"", 401), "unauthorized"),
    "c2dm-503": Case("c2dm", Answer(b"", 503), "unavailable"),
    "fcm-html": Case("fcm", Answer(HTML, 404)),
    "fcm-dip": Case("fcm", Answer(HTML, 404), share=0.02),
    "fcm-403": Case("fcm", Answer(HTML, 403)),
    "fcm-topic": Case(
        "fcm",
        Answer(fcm_error(429, "RESOURCE_EXHAUSTED", "Topic quota exceeded.", []), 429),
        line='{"topic": "news", "data": "n.bad."}',
    ),
    "fcm-null": Case("fcm", Answer(fcm_error(404, "NOT_FOUND", "No.", None), 404)),
    "fcm-401": Case("fcm", Answer(b"", 401), "unauthorized"),
    "fcm-500": Case("fcm", Answer(fcm_error(500, "INTERNAL", "No.", []), 500)),
}


@attrs.define(eq=False)
class Google:
    """The upstream of every route of one gateway; the path names the route."""

    turns: int = 0
    tokens: int = 0
    script: Callable[[Sent], Answer] = attrs.field(init=False)

    def answer(self, sent: Sent) -> Answer:
        if sent.path.startswith("/login"):
            self.tokens += 1
            return Answer(f"Auth=token-{self.tokens}\n".encode())
        if sent.path.startswith("/token"):
            self.tokens += 1
            token = {"access_token": f"token-{self.tokens}", "expires_in": 3_600}
            return Answer(json.dumps(token).encode())
        name = sent.path.split("/")[1].split(":")[0]
        case = CASES[name]
        if case.share:
            self.turns += 1
            if self.turns % round(1 / case.share) == 0:
                return case.answer
        elif b"bad" in sent.body:
            return case.answer
        return Answer(b"id=1" if case.service == "c2dm" else b'{"name": "projects/p/messages/1"}')


def section(name: str, case: Case, url: str, key: Path) -> str:
    if case.service == "c2dm":
        return (
            f"[c2dm:{name}]\nusername = a@example.com\npassword = secret\n"
            f"login_url = {url}/login\nsend_url = {url}/{name}\n"
        )
    return (
        f"[fcm:{name}]\nprefix = p-{name}\nservice_account = {key}\n"
        f"url = {url}/{name}:x/messages:send\n"
    )


@attrs.define(eq=False)
class World:
    """A gateway of one client, and what it delivered when."""

    client: str
    gateway: GatewayProcess
    google: Upstream
    pushed: dict[str, float] = attrs.field(factory=dict)

    def push_all(self, number: int) -> None:
        for name in CASES:
            payload = f"{name.replace('-', '_')}_{number}"
            self.pushed[payload] = time.monotonic()
            self.gateway.push(f"{name}|d{number % 20}:k{number}:{{n.{payload}.}}".encode())

    def delays(self, name: str) -> list[float]:
        """Seconds from each healthy push of a route to the first request that was answered well."""
        delivered: dict[str, float] = {}
        route = name.replace("-", "_") + "_"
        for sent in self.google.requests:
            match = NUMBER.search(sent.body)
            if match is not None and sent.status == 200:
                delivered.setdefault(match[1].decode(), sent.when)
        pushed = {payload: at for payload, at in self.pushed.items() if payload.startswith(route)}
        return [delivered.get(payload, float("inf")) - at for payload, at in pushed.items()]

    def has_delivered_all(self) -> bool:
        return all(float("inf") not in self.delays(name) for name in CASES)


@pytest.fixture(scope="module")
def worlds(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, World]]:
    """Both gateways after half a minute of traffic."""
    with ExitStack() as stack:
        made = {}
        for client in CLIENTS:
            folder = tmp_path_factory.mktemp(client)
            google = Upstream(Google().answer).start()
            stack.callback(google.stop)
            url = f"http://127.0.0.1:{google.port}"
            key = folder / "key.json"
            key.write_text(json.dumps({**CONTENT, "token_uri": f"{url}/token"}))
            sections = (section(name, case, url, key) for name, case in CASES.items())
            gateway = GatewayProcess(folder, "\n".join(sections), f"http_client = {client}")
            made[client] = World(client, gateway, google)
            stack.callback(gateway.start().stop)
        for world in made.values():
            world.push_all(0)
            world.gateway.wait_for(messages_sent=len(CASES))
        for world in made.values():
            for name, case in CASES.items():
                if not case.share:
                    line = case.line
                    routed = (
                        line.replace("{", f'{{"route": "{name}", ', 1)
                        if line.startswith("{")
                        else f"{name}|{line}"
                    )
                    world.gateway.push(routed.encode())
        begun = time.monotonic()
        for number in range(1, round(SECONDS / INTERVAL)):
            time.sleep(max(0.0, begun + number * INTERVAL - time.monotonic()))
            for world in made.values():
                world.push_all(number)
        with suppress(AssertionError):  # A few may come later.
            wait_until(lambda: all(world.has_delivered_all() for world in made.values()), "", 10)
        yield made


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("client", CLIENTS)
def test_healthy_pushes_go_on(worlds: dict[str, World], client: str, name: str):
    """95 of 100 are delivered within ten seconds, whatever the bad push draws."""
    delays = worlds[client].delays(name)
    assert len(delays) == round(SECONDS / INTERVAL)
    assert sum(delay <= 10 for delay in delays) >= 0.95 * len(delays)
    stats = worlds[client].gateway.stats()
    assert stats[f"{name}.messages_bad_device"] == 0
    assert stats[f"{name}.messages_overflowed"] == 0


REJECTED = {name: case.reason for name, case in CASES.items() if case.reason is not None}


@pytest.mark.parametrize("name", REJECTED)
@pytest.mark.parametrize("client", CLIENTS)
def test_the_bad_push_is_rejected_in_the_end(worlds: dict[str, World], client: str, name: str):
    """With the reason of its answers, after few tries."""
    world = worlds[client]
    counter = f"{name}.messages_refused.{REJECTED[name]}"
    stats = world.gateway.wait_for(60, **{counter: 1})
    assert stats[f"{name}.messages_refused"] == 1
    assert stats[f"{name}.messages_in_queue"] == 0
    route = f"/{name}"
    tries = [s for s in world.google.requests if b"bad" in s.body and s.path.startswith(route)]
    assert len(tries) <= 7


@pytest.mark.parametrize("client", CLIENTS)
def test_a_newcomer_sees_what_is_wrong_at_once(worlds: dict[str, World], client: str):
    """Each unexplained answer shows its hint in the log, though no route pauses for it."""
    log = worlds[client].gateway.log
    assert "fcm-html: push to bad: unexplained: 404, are project and url right?" in log
    assert "c2dm-404: push to bad: unexplained: 404: is send_url right?" in log
    assert "fcm-html: paused" not in log


def test_a_real_misconfiguration_opens_the_breaker_and_loses_nothing(tmp_path):
    """Every answer a page of HTML: five pushes, what was in flight, then a probe a minute."""
    is_repaired = False

    def answer(sent: Sent) -> Answer:
        if sent.path == "/login":
            return Answer(b"Auth=token\n")
        return Answer() if is_repaired else Answer(HTML, 404)

    google = Upstream(answer).start()
    gateway = GatewayProcess(tmp_path, google.section()).start()
    try:
        gateway.push(*(b"d%d:k:%d" % (number, number) for number in range(200)))
        wait_until(lambda: "paused for 60.0 s: 404" in gateway.log, "it says so")
        gateway.wait_for(messages_in_flight=0)
        sends = len(google.sends())
        assert sends <= 5 + 64
        time.sleep(5)
        assert len(google.sends()) == sends
        assert gateway.stats()["messages_in_queue"] == 200
        is_repaired = True
        stats = gateway.wait_for(90, messages_sent=200)
    finally:
        gateway.stop()
        google.stop()
    assert stats["messages_refused"] == stats["messages_overflowed"] == 0
    assert "c2dm: sending resumed" in gateway.log
