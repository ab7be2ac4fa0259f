"""Each way a push can end badly reaches a real webhook, signed as Standard Webhooks says."""

import base64
import json
from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from standardwebhooks import Webhook, WebhookVerificationError

from tests.e2e.test_callbacks import age
from tests.e2e.test_reload import reload
from tests.support.gateway import GatewayProcess
from tests.support.ports import free_port
from tests.support.upstream import Answer, Sent, Upstream, upstream
from tests.support.waiting import wait_until

SECRET = "whsec_" + base64.b64encode(b"0123456789abcdef0123456789abcdef").decode()
OTHER_SECRET = "whsec_" + base64.b64encode(b"fedcba9876543210fedcba9876543210").decode()


@pytest.fixture
def hook() -> Iterator[Upstream]:
    """A webhook that takes everything."""
    made = Upstream(lambda sent: Answer(b"", 204)).start()
    yield made
    made.stop()


def section(port: int, events: str = "all", route: str = "", secret: str = SECRET) -> str:
    return (
        f"[callback{route and ':' + route}]\nprotocol = http\nhost = 127.0.0.1\nport = {port}\n"
        f"format = json\nsigning_secret = {secret}\nevents = {events}\n"
    )


def verified(sent: Sent, secret: str = SECRET) -> dict[str, str]:
    """Verify a callback with the official library, as an application does."""
    found: dict[str, str] = Webhook(secret).verify(sent.body, sent.headers)
    return found


def ended(hook: Upstream, count: int = 1) -> list[tuple[str, str, str]]:
    """Wait for callbacks; return outcome, device and reason of each."""
    wait_until(lambda: len(hook.requests) >= count, "callbacks")
    told = [verified(sent) for sent in hook.requests]
    return [(each["outcome"], each["device_token"], each["reason"]) for each in told]


@pytest.mark.parametrize(
    ("route", "reason"), [("c2dm", "InvalidRegistration"), ("fcm", "INVALID_ARGUMENT")]
)
def test_a_device_that_is_not_registered(make_gateway, hook, route, reason):
    """From datagram to signed JSON, with the emulator as Google; an FCM route without its alarm."""
    config = f"[{route}]\n" + ("bad_device_alarm = 0\n" if route == "fcm" else "")
    gateway = make_gateway(f"{config}[emulator]\n{section(hook.port, 'bad_device')}").start()
    line = {"token": "nobody", "id": "order-7", "collapse_key": "k", "data": '{"größe": "😀"}'}
    gateway.push(json.dumps(line | {"route": route}).encode(), b"demo-phone:key:{}")
    gateway.wait_for(messages_sent=1, messages_bad_device=1, callbacks_sent=1)
    (sent,) = hook.requests
    callback = verified(sent)
    assert abs(age(callback.pop("received"))) < 60
    assert callback == {
        "device_token": "nobody",
        "message_body": '{"größe": "😀"}',
        "reason": reason,
        "route": route,
        "outcome": "bad_device",
        "id": "order-7",
    }
    with pytest.raises(WebhookVerificationError):
        verified(sent, OTHER_SECRET)
    assert SECRET not in gateway.log


def by_payload(sent: Sent) -> Answer:
    """C2DM that answers what the payload says."""
    answer = sent.form["data.data"]
    if answer == "busy":
        return Answer(b"", 503, ("Retry-After: 2",))
    return Answer(answer.encode())


def test_answers_that_end_a_push(make_gateway, hook):
    """Refused and blocked: by an answer, and by what an earlier one said of the device."""
    with upstream(by_payload) as google:
        gateway = make_gateway(google.section() + section(hook.port)).start()
        gateway.push(b"phone1:key:Error=MessageTooBig", b"phone2:key:Error=DeviceQuotaExceeded")
        gateway.wait_for(messages_refused=1, messages_blocked=1)
        gateway.push(b"phone2:key:again")
        gateway.wait_for(messages_blocked=2, callbacks_sent=3)
    assert sorted(ended(hook)) == [
        ("blocked", "phone2", "the device is over its quota"),
        ("blocked", "phone2", "the device is over its quota"),
        ("refused", "phone1", "MessageTooBig"),
    ]


def test_a_push_that_is_too_old(make_gateway, hook):
    """While the service is away its ttl runs out."""
    with upstream(by_payload) as google:
        gateway = make_gateway(google.section() + section(hook.port, "expired")).start()
        push = {"token": "phone", "collapse_key": "k", "data": "busy", "ttl": 1}
        gateway.push(json.dumps(push).encode())
        gateway.wait_for(messages_expired=1, callbacks_sent=1)
    assert ended(hook) == [("expired", "phone", "older than its ttl")]


def away(make_gateway, events: str, hook: Upstream, max_queued: int) -> GatewayProcess:
    """Start a gateway that cannot sign in, so that its queue fills."""
    config = (
        "[c2dm]\nusername = a\npassword = b\n"
        f"login_url = http://127.0.0.1:{free_port()}/\n{section(hook.port, events)}"
    )
    gateway: GatewayProcess = make_gateway(config, node2dm=f"max_queued = {max_queued}")
    return gateway.start()


def test_pushes_for_which_the_queue_has_no_room(make_gateway, hook):
    """The oldest go, and the application learns which."""
    gateway = away(make_gateway, "bad_device, overflowed", hook, 3)
    gateway.push(*(b"phone%d:key:x" % number for number in range(5)))
    gateway.wait_for(messages_received=5, messages_overflowed=2, callbacks_sent=2)
    assert sorted(ended(hook)) == [
        ("overflowed", "phone0", "max_queued is reached"),
        ("overflowed", "phone1", "max_queued is reached"),
    ]


def test_what_no_event_names_is_not_posted(make_gateway, hook):
    """Nor does it wait anywhere."""
    gateway = away(make_gateway, "bad_device, expired", hook, 3)
    gateway.push(*(b"phone%d:key:x" % number for number in range(50)))
    gateway.wait_for(messages_received=50, messages_overflowed=47, callbacks_waiting=0)
    assert not hook.requests


@pytest.mark.long
def test_a_flood_of_overflows_costs_bounded_memory(make_gateway, hook):
    """The webhook never answers: 64 MiB wait, the rest is dropped and counted."""
    hook.script = lambda sent: Answer(b"", delay=3_600.0)
    gateway = away(make_gateway, "overflowed", hook, 100)
    before, count = gateway.stats()["memory_rss"], 60_000
    datagram = b"\n".join(b"phone%d:key:" % number + b"x" * 1_000 for number in range(50))
    for pushed in range(100, count + 1, 100):
        gateway.push(datagram, datagram)
        stats = gateway.wait_for(messages_received=pushed, messages_in_queue=100)
    assert stats["callbacks_waiting"] + stats["callbacks_dropped"] == count - 100
    assert stats["callbacks_waiting"] > 40_000
    assert stats["callbacks_dropped"] > 10_000
    assert stats["memory_rss"] - before < 100 * 2**20


def shops(*sections: str) -> str:
    routes = "".join(f"[c2dm:{name}]\n" for name in ("main", "shop"))
    return "".join((routes, "[emulator]\n", *sections))


def test_a_route_with_a_webhook_of_its_own(make_gateway, hook):
    """Its own address, secret and events; one webhook that never answers holds up no other."""
    with ExitStack() as stack:
        silent = Upstream(lambda sent: Answer(b"", delay=3_600.0)).start()
        stack.callback(silent.stop)
        config = shops(
            section(silent.port, "bad_device"),
            section(hook.port, "bad_device", route="shop", secret=OTHER_SECRET),
        )
        gateway = make_gateway(config).start()
        gateway.push(*(b"main|nobody%d:key:x" % number for number in range(20)))
        gateway.wait_for(messages_received=20, messages_in_queue=0, callbacks_waiting=20)
        gateway.push(b"shop|nobody:key:x")
        gateway.wait_for(callbacks_sent=1, callbacks_waiting=20)
        (sent,) = hook.requests
        assert verified(sent, OTHER_SECRET)["route"] == "shop"
        assert verified(silent.requests[0])["route"] == "main"


def test_new_secrets_of_a_route_are_taken_over_while_running(make_gateway, hook):
    """At SIGHUP; the webhook's other options wait for a restart."""
    config = shops(section(hook.port, "bad_device", route="shop"))
    gateway = make_gateway(config).start()
    gateway.config = config.replace(SECRET, OTHER_SECRET)
    reload(gateway, "reloaded: [callback:shop] signing_secret\n")
    gateway.push(b"shop|nobody:key:x")
    gateway.wait_for(callbacks_sent=1)
    assert verified(hook.requests[0], OTHER_SECRET)["device_token"] == "nobody"
    assert OTHER_SECRET not in gateway.log


def test_callbacks_of_several_webhooks_survive_a_restart(make_gateway, hook):
    """Each is posted by the next process where its route's section says, with the same id."""
    port = free_port()
    before = Upstream(lambda sent: Answer(b"", 500, ("Retry-After: 3600",)), port).start()
    config = shops(
        section(hook.port, "bad_device"), section(port, "bad_device", "shop", OTHER_SECRET)
    )
    gateway = make_gateway(config).start()
    gateway.push(b"main|nobody1:key:x", b"shop|nobody2:key:x")
    try:
        gateway.wait_for(callbacks_sent=1, callbacks_waiting=1)
        wait_until(lambda: before.requests and before.requests[0].status, "it was asked")
    finally:
        gateway.stop()
        before.stop()
    after = Upstream(lambda sent: Answer(b""), port).start()
    try:
        gateway.start()
        gateway.wait_for(callbacks_sent=1, callbacks_waiting=0)
    finally:
        after.stop()
    (first,), (second,) = before.requests, after.requests
    assert first.body == second.body
    assert first.headers["webhook-id"] == second.headers["webhook-id"]
    assert verified(second, OTHER_SECRET)["device_token"] == "nobody2"
