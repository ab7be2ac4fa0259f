"""Every answer of FCM does what the table says, for each client, seen from outside.

Each row is a route of its own with one push, so that one route's pause delays no other row.
"""

import json
import re
from collections.abc import Iterator
from contextlib import ExitStack
from itertools import pairwise
from pathlib import Path
from typing import Any

import attrs
import pytest

from node2dm_tw.emulator import testing
from tests.e2e.nginx import Front, in_front_of
from tests.support.gateway import GatewayProcess
from tests.support.waiting import wait_until

CLIENTS = {"treq": "treq", "curl": "curl", "curl-http2": "curl"}
"""Names of the ways to send, and the client that each takes."""

SENT = {"messages_sent": 1}
PAUSED = {"messages_in_queue": 1, "backing_off": "true"}
ASLEEP = {"messages_in_queue": 1, "messages_waiting": 1, "backing_off": "false"}
GONE = {"messages_bad_device": 1}
QUOTA = "type.googleapis.com/google.rpc.QuotaFailure"
BAD_REQUEST = "type.googleapis.com/google.rpc.BadRequest"


def refused(reason: str) -> dict[str, Any]:
    return {"messages_refused": 1, f"messages_refused.{reason}": 1}


def answer(status: int, name: str, kind: str, listed: str, item: dict[str, str]) -> dict[str, Any]:
    """A fault whose body is an error with one detail of Google's."""
    detail = {"@type": kind, listed: [item]}
    error = {"code": status, "message": "Said.", "status": name, "details": [detail]}
    return {"status": status, "body": json.dumps({"error": error})}


def violation(field: str) -> dict[str, Any]:
    item = {"field": field, "description": "Said."}
    return answer(400, "INVALID_ARGUMENT", BAD_REQUEST, "fieldViolations", item)


@attrs.frozen
class Row:
    """One row of the table.

    Args:
        statuses: of the answers that the push gets, in their order; more of the last may follow
            where it is kept.
        ends: what the counters of its route come to.
        fault: what the emulator says in place of the truth.
        device: a name that is no phone's, or how the phone is to be: `gone` or `foreign`.
        gap: seconds between two tries, at least.
        log: what the gateway's log says of the route.
    """

    statuses: tuple[int, ...]
    ends: dict[str, Any]
    fault: dict[str, Any] | None = None
    device: str = ""
    gap: float = 0.0
    log: str = ""


ALWAYS = {"times": None}
HTML = "<!DOCTYPE html><title>Error</title>"
WAIT_2 = {"headers": {"Retry-After": "2"}}
ROWS = {
    "delivered": Row((200,), SENT),
    "bad-message": Row((400,), refused("INVALID_ARGUMENT"), {"error": "INVALID_ARGUMENT"}),
    "bad-field": Row(
        (400,),
        refused("INVALID_ARGUMENT.message.android.ttl"),
        violation("message.android.ttl"),
    ),
    "bad-token-field": Row((400,), GONE, violation("message.token")),
    "malformed-token": Row((400,), GONE, device="malformed"),
    "no-longer-signed-in": Row((401, 200), SENT, {"error": "UNAUTHENTICATED"}),
    "never-signed-in": Row(
        (401, 401),
        {"messages_in_queue": 1, "signed_in": "false"},
        {"error": "UNAUTHENTICATED", **ALWAYS},
        log="sign-in failed: a new token is refused (401)",
    ),
    "apns-key": Row((401,), refused("THIRD_PARTY_AUTH_ERROR"), {"error": "THIRD_PARTY_AUTH_ERROR"}),
    "other-project": Row((403,), GONE, device="foreign"),
    "forbidden": Row(
        (403, 403),
        ASLEEP,
        {"error": "PERMISSION_DENIED", **ALWAYS},
        gap=10,
        log="unexplained: 403, PERMISSION_DENIED",
    ),
    "unregistered": Row((404,), GONE, device="gone"),
    "not-found": Row(
        (404, 404),
        ASLEEP,
        {"error": "NOT_FOUND", **ALWAYS},
        gap=10,
        log="unexplained: 404, NOT_FOUND",
    ),
    "not-found-html": Row(
        (404, 404),
        ASLEEP,
        {"status": 404, "body": HTML, **ALWAYS},
        gap=10,
        log="unexplained: 404, are project and url right?",
    ),
    "device-quota": Row(
        (429,),
        {"messages_blocked": 1, "quota_answers": 1, "rate_limited_tokens": 1},
        answer(429, "RESOURCE_EXHAUSTED", QUOTA, "violations", {"subject": "device:it"}),
    ),
    "project-quota": Row(
        (429, 200), {**SENT, "quota_answers": 1}, {"error": "QUOTA_EXCEEDED", **WAIT_2}, gap=2
    ),
    "project-quota-unnamed": Row(
        (429,),
        {**PAUSED, "quota_answers": 1},
        {"error": "QUOTA_EXCEEDED", **ALWAYS},
        log="paused for 60.0 s: 429 QUOTA_EXCEEDED",
    ),
    "unavailable": Row((503, 200), SENT, {"error": "UNAVAILABLE", **WAIT_2}, gap=2),
    "unavailable-html": Row((503, 200), SENT, {"status": 503, "body": HTML, **WAIT_2}, gap=2),
    "unreadable": Row((200,), refused("unreadable"), {"status": 200, "body": HTML}),
    "internal": Row((500, 200), SENT, {"error": "INTERNAL"}, gap=10),
    "bad-gateway": Row((502, 200), SENT, {"status": 502, "body": HTML}, gap=10),
    "gateway-timeout": Row((504, 200), SENT, {"status": 504, "body": HTML}, gap=10),
    "unavailable-unnamed": Row((503, 200), SENT, {"error": "UNAVAILABLE"}, gap=10),
}
"""The quick ones first: the others wait meanwhile."""


@attrs.define(eq=False)
class Bench:
    """The emulator, a gateway for each client, and which device each row's push goes to."""

    google: testing.PushEmulator
    front: Front
    gateways: dict[str, GatewayProcess] = attrs.field(factory=dict)
    devices: dict[tuple[str, str], str] = attrs.field(factory=dict)

    def add(self, client: str, folder: Path) -> GatewayProcess:
        """Start a gateway with a route for each row."""
        url = self.front.url if client == "curl-http2" else self.google.base_url
        sections = (
            f"[fcm:{name}]\nprefix = p{number}\nurl = {url}\nca_file = {self.google.ca_file}\n"
            f"service_account = {self.google.service_account}\n"
            for number, name in enumerate(ROWS)
        )
        options = f"http_client = {CLIENTS[client]}"
        made = self.gateways[client] = GatewayProcess(folder, "\n".join(sections), options)
        return made.start()

    def push(self, client: str) -> None:
        """Arm each row's fault, and push for each."""
        for name, row in ROWS.items():
            device = self.devices[client, name] = self._device(client, row.device)
            if row.fault is not None:
                self.google.fault(endpoint="fcm", device=device, **row.fault)
            self.gateways[client].push(f"{name}|{device}:k:{{}}".encode())

    def tries(self, client: str, name: str) -> list[dict[str, Any]]:
        """What the emulator logged of a row's push."""
        device = json.dumps(self.devices[client, name])
        return [entry for entry in self.google.log("fcm") if device in entry["body"]]

    def _device(self, client: str, wanted: str) -> str:
        if wanted == "malformed":
            return f"malformed-{client}"
        sender = "sender@example.com" if wanted == "foreign" else self.google.project
        phone = self.google.register(sender)
        if wanted == "gone":
            phone.unregister()
        return phone.registration_id


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    with ExitStack() as stack:
        folder = tmp_path_factory.mktemp("fcm")
        google = stack.enter_context(testing.start(folder / "google"))
        (folder / "nginx").mkdir()
        front = in_front_of(google.base_url, google.ca_file, folder / "nginx")
        made = Bench(google, stack.enter_context(front))
        for client in CLIENTS:
            (folder / client).mkdir()
            stack.callback(made.add(client, folder / client).stop)
        for client in CLIENTS:
            made.push(client)
        yield made


@pytest.mark.parametrize("name", ROWS)
@pytest.mark.parametrize("client", CLIENTS)
def test_a_row_ends_as_the_table_says(bench: Bench, client: str, name: str):
    """So many tries, so far apart, and one counter."""
    row, gateway = ROWS[name], bench.gateways[client]
    ends = {f"{name}.{counter}": value for counter, value in row.ends.items()}
    stats = gateway.wait_for(**ends)
    assert stats[f"{name}.messages_received"] == 1
    count = len(row.statuses)
    wait_until(lambda: len(bench.tries(client, name)) >= count, f"{count} tries", 60)
    tries = bench.tries(client, name)
    assert tuple(entry["status"] for entry in tries[:count]) == row.statuses
    if "messages_in_queue" not in row.ends:
        assert len(tries) == count
    for earlier, later in pairwise(tries):
        assert later["time"] - earlier["time"] >= row.gap
    assert not row.log or re.search(rf"{name}: .*{re.escape(row.log)}", gateway.log)
    assert row.log or f"{name}: paused for 60" not in gateway.log
    assert stats["http_client"] == CLIENTS[client]


@pytest.mark.parametrize("name", ROWS)
@pytest.mark.parametrize("client", CLIENTS)
def test_client_errors_are_counted_by_the_status(bench: Bench, client: str, name: str):
    """4xx but for 429, as in Google's console; a push that is kept may have drawn more by now."""
    row = ROWS[name]
    ends = {f"{name}.{counter}": value for counter, value in row.ends.items()}
    counted = bench.gateways[client].wait_for(**ends)[f"{name}.client_error_answers"]
    errors = sum(400 <= status < 500 and status != 429 for status in row.statuses)
    assert counted == errors or ("messages_in_queue" in row.ends and counted and errors)


@pytest.mark.parametrize("client", CLIENTS)
def test_a_refused_token_brings_another_and_a_key_of_apns_does_not(bench: Bench, client: str):
    """The second try was signed with a newer token; THIRD_PARTY_AUTH_ERROR asked for none."""
    bench.gateways[client].wait_for(**{"no-longer-signed-in.messages_sent": 1})
    first, second = (entry["token"] for entry in bench.tries(client, "no-longer-signed-in"))
    assert first < second
    assert bench.gateways[client].log.count("apns-key: signed in") == 1


def test_http2_reached_the_gateway(bench: Bench):
    """Every push of one gateway, and none of another, went through nginx, by HTTP/2."""
    assert bench.front.protocols() == {"HTTP/2.0"}
