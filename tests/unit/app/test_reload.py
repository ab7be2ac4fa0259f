"""SIGHUP in this process: every option that may change does, and a faulty file changes nothing."""

import signal

import attrs
import pytest

from node2dm_tw.config.route_sections import C2DMRoute, FCMRoute
from node2dm_tw.config.sections import CallbackSection, GatewaySection, Statsd
from node2dm_tw.core.push import split_at_colons
from node2dm_tw.core.snapshot import LaneState
from node2dm_tw.delivery.admission import TOO_OLD
from node2dm_tw.queues.interface import Lease
from tests.unit.app.gateway import ACCOUNT, MemoryGateway

SECTIONS = {
    "node2dm": GatewaySection,
    "c2dm": C2DMRoute,
    "fcm": FCMRoute,
    "callback": CallbackSection,
    "statsd": Statsd,
}

RELOADING = [
    (title, field.name)
    for title, section in SECTIONS.items()
    for field in attrs.fields(section)
    if field.metadata.get("reloads")
]

KEY = "whsec_" + "a" * 32


def lane(gateway: MemoryGateway, route: str):
    return gateway.parts.routes[route].lane


def target(gateway: MemoryGateway):
    return gateway.parts.callbacks.senders[None].target


def credentials(gateway: MemoryGateway, route: str):
    return lane(gateway, route).session.signin.credentials


def is_taken(gateway: MemoryGateway) -> bool:
    gateway.push(b"phone:key:x")
    return gateway.stats("messages_received") == 1


def overflows(gateway: MemoryGateway) -> int:
    gateway.push(*(b"phone:%d:x" % number for number in range(9)))
    return gateway.stats("messages_overflowed")


def overflows_by_bytes(gateway: MemoryGateway) -> int:
    lines = b"\n".join(b"phone:%d:%b" % (number, b"x" * 800) for number in range(50))
    gateway.push(*[lines] * 20)
    return gateway.stats("messages_overflowed")


def expires(gateway: MemoryGateway, route: str) -> bool:
    old = Lease(split_at_colons(b"phone:key:x", gateway.reactor.seconds() - 100))
    return lane(gateway, route).admission.decide(old, gateway.reactor.seconds(), False) is TOO_OLD


def seconds_blocked(gateway: MemoryGateway) -> float:
    admission = lane(gateway, "c2dm").admission
    admission.block(b"phone", None)
    return admission.blocked.until[b"phone"] - gateway.reactor.seconds()


def seconds_to_stop(gateway: MemoryGateway) -> float:
    gateway.push(b"phone:key:x")
    began = gateway.reactor.seconds()
    assert gateway.stop()
    return gateway.reactor.seconds() - began


def is_traced(gateway: MemoryGateway) -> bool:
    gateway.push(b"phone:key:x")
    return "c2dm: push to phone" in gateway.log


OBSERVED = {
    ("node2dm", "web_hosts"): (
        "push.test",
        lambda gateway: gateway.ask("GET /stats HTTP/1.1", "Host: push.test"),
    ),
    ("node2dm", "push_token"): (
        "word",
        lambda gateway: gateway.ask("POST /v1/push HTTP/1.1", "Authorization: Bearer word"),
    ),
    ("node2dm", "allow"): ("10.0.0.0/8", is_taken),
    ("node2dm", "datagram_key"): ("sixteen bytes or more", is_taken),
    ("node2dm", "max_queued"): ("5", overflows),
    ("node2dm", "max_queued_bytes"): ("1000000", overflows_by_bytes),
    ("node2dm", "max_age"): ("60", lambda gateway: expires(gateway, "c2dm")),
    ("node2dm", "drain"): ("3", seconds_to_stop),
    ("node2dm", "log_level"): ("debug", is_traced),
    ("c2dm", "max_in_flight"): ("3", lambda gateway: lane(gateway, "c2dm").window.maximum),
    ("c2dm", "device_rate"): ("5/m", lambda gateway: lane(gateway, "c2dm").admission.rates.limits),
    ("c2dm", "device_burst"): ("3", lambda gateway: lane(gateway, "c2dm").admission.rates.burst),
    ("c2dm", "username"): ("other@example.com", lambda gateway: gateway.posted[-1]),
    ("c2dm", "password"): ("other-word", lambda gateway: gateway.posted[-1]),
    ("c2dm", "source"): ("acme-push-1", lambda gateway: credentials(gateway, "c2dm").source),
    ("c2dm", "device_block"): ("5", seconds_blocked),
    ("fcm", "service_account"): ("other.json", lambda gateway: credentials(gateway, "fcm").account),
    ("fcm", "max_in_flight"): ("3", lambda gateway: lane(gateway, "fcm").window.maximum),
    ("fcm", "max_age"): ("60", lambda gateway: expires(gateway, "fcm")),
    ("fcm", "device_rate"): ("70/m", lambda gateway: lane(gateway, "fcm").admission.rates.limits),
    ("fcm", "device_burst"): ("3", lambda gateway: lane(gateway, "fcm").admission.rates.burst),
    ("fcm", "project_rate"): ("5/m", lambda gateway: lane(gateway, "fcm").project_rate.limit),
    ("fcm", "bad_device_alarm"): ("7", lambda gateway: lane(gateway, "fcm").alarm.percent),
    ("callback", "shared_secret"): ("word", lambda gateway: target(gateway).shared_secret),
    ("callback", "signing_secret"): (KEY, lambda gateway: target(gateway).signing_key),
    ("callback", "events"): ("expired", lambda gateway: target(gateway).outcomes),
}
"""By section and option: another value, and what differs in the gateway that has taken it over."""


def config_with(title: str = "", option: str = "", value: str = "") -> dict[str, str]:
    """Make the file's text, with one option that differs."""
    sections = {
        "node2dm": {},
        "c2dm": dict(line.split(" = ") for line in ACCOUNT.splitlines()[1:])
        | {"device_burst": "2"},  # else it follows device_rate
        "fcm": {"service_account": "key.json"},
        "callback": {"protocol": "http", "host": "app.test"},
    }
    if title:
        sections[title][option] = value
    texts = {
        title: "".join(f"{name} = {text}\n" for name, text in options.items())
        for title, options in sections.items()
    }
    node2dm = texts.pop("node2dm")
    return {
        "config": "".join(f"[{title}]\n{text}" for title, text in texts.items()),
        "node2dm": node2dm,
    }


def observe(gateway: MemoryGateway, title: str, option: str, *, is_changed: bool) -> object:
    """Start a gateway, reload its file with another value or as it is, and look at it."""
    value, look = OBSERVED[title, option]
    gateway.start()
    del gateway.answers[b"/send"]  # so that pushes stay
    if is_changed:
        changed = config_with(title, option, value)
        gateway.config, gateway.node2dm = changed["config"], changed["node2dm"]
    gateway.hang_up()
    expected = f"reloaded: [{title}] {option}\n" if is_changed else "reloaded: nothing\n"
    assert expected in f"{gateway.log}\n"
    assert "waiting for a restart" not in gateway.log
    return look(gateway)


@pytest.mark.parametrize(("title", "option"), RELOADING)
def test_every_option_that_reloads_changes_something(memory_gateway, title, option):
    """One that is marked `reloads` needs a row in `OBSERVED`, and something that takes it over."""
    assert (title, option) in OBSERVED, "a new option that reloads: how is that seen?"
    before, after = (
        observe(memory_gateway(**config_with()), title, option, is_changed=is_changed)
        for is_changed in (False, True)
    )
    assert before != after


@pytest.mark.parametrize("rates", [("5/m", "", "7/m"), ("", "7/m", "")])
def test_an_option_without_a_limit(memory_gateway, rates):
    """A project's rate goes and comes back; a device's, too."""
    texts = [
        f"{ACCOUNT}[fcm]\nservice_account = key.json\nproject_rate = {rate}\ndevice_rate = {rate}\n"
        for rate in rates
    ]
    gateway = memory_gateway(texts[0]).start()
    for rate, text in zip(rates, texts, strict=True):
        gateway.config = text
        gateway.hang_up()
        found = lane(gateway, "fcm")
        limit = (int(rate[0]), 60.0) if rate else None
        assert (found.project_rate.limit if found.project_rate else None) == limit
        assert found.admission.rates.limits == ((limit,) if limit else ())


def test_a_faulty_file_changes_nothing(memory_gateway):
    """Every fault is logged; so is that of a key."""
    gateway = memory_gateway(f"{ACCOUNT}[fcm]\nservice_account = key.json\n").start()
    (gateway.folder / "key.json").write_text("{}", encoding="utf-8")
    gateway.node2dm = "max_queued = many\nmax_age = 60"
    gateway.hang_up()
    assert "the configuration is not reloaded: [node2dm] max_queued = many: expected" in gateway.log
    assert "[fcm] service_account = key.json: expected" in gateway.log
    assert not expires(gateway, "c2dm")
    assert gateway.route.queue.max_queued == 1_000_000


def test_what_waits_for_a_restart_is_named_each_time(memory_gateway):
    """The rest of the file takes effect; later ones are compared with what is in force."""
    gateway = memory_gateway().start()
    gateway.node2dm = "rcvbuf = 100000\nmax_age = 60"
    gateway.config = f"{ACCOUNT}source = other\n[callback]\nhost = app.test\n[statsd]\nhost = b\n"
    for reloaded in ("[node2dm] max_age, [c2dm] source", "nothing"):
        gateway.events.clear()
        gateway.hang_up()
        assert f"reloaded: {reloaded}\n" in gateway.log
        line = gateway.log.rpartition("waiting for a restart: ")[2]
        assert line.split("\n")[0] == "[node2dm] rcvbuf, [callback], [statsd]"
        assert expires(gateway, "c2dm")


def test_pushes_that_waited_go_at_once(memory_gateway):
    """Nothing else need happen."""
    fcm = "[fcm]\nservice_account = key.json\nurl = http://google.test\n"
    gateway = memory_gateway(f"{fcm}project_rate = 1/d\n")
    gateway.answers[b"/token"] = b'{"access_token": "a", "expires_in": 3600}'
    gateway.answers[b"/v1/projects/shop/messages:send"] = b'{"name": "projects/shop/messages/1"}'
    gateway.start()
    gateway.push(b"phone:key:x")
    assert gateway.stats("messages_sent") == 0
    gateway.config = f"{fcm}project_rate =\n"
    gateway.hang_up()
    assert gateway.stats("messages_sent") == 1


def test_a_locked_route_sends_again(memory_gateway):
    """Over its quota once the lock is gone, given up once the password is another one."""
    second = ACCOUNT.replace("[c2dm]", "[c2dm:second]").replace("/send", "/second")
    gateway = memory_gateway(ACCOUNT + second)
    gateway.answers |= {b"/send": b"Error=QuotaExceeded", b"/second": b"id=2"}
    gateway.start()
    gateway.push(b"phone:key:x")
    session, lock = gateway.route.lane.session, gateway.route.quota_lock
    gateway.hang_up()
    assert session.state is LaneState.LOCKED
    assert gateway.route.snapshot().state_advice.startswith("once the quota is granted again")
    lock.path.unlink()
    gateway.answers[b"/send"] = b"id=1"
    gateway.hang_up()
    assert "c2dm: unlocked" in gateway.log
    assert gateway.stats("messages_sent") == 1


def test_a_sign_in_that_was_given_up_is_tried_with_another_password(memory_gateway):
    """The same password leaves the route locked."""
    second = ACCOUNT.replace("[c2dm]", "[c2dm:second]").replace("/login", "/second")
    gateway = memory_gateway(ACCOUNT + second)
    captcha = (403, b"Error=CaptchaRequired\nCaptchaUrl=x\n")
    gateway.answers |= {b"/login": captcha, b"/second": b"Auth=a-token\n"}
    gateway.start()
    session = gateway.route.lane.session
    gateway.answers[b"/login"] = b"Auth=a-token\n"
    gateway.hang_up()
    assert session.state is LaneState.LOCKED
    gateway.config = gateway.config.replace("secret-word", "other-word", 1)
    gateway.hang_up()
    assert session.state is LaneState.READY


def test_sighup_before_the_start_is_obeyed_after_it(memory_gateway):
    """What the file says by then is in force."""
    gateway = memory_gateway()
    signal.raise_signal(signal.SIGHUP)
    gateway.node2dm = "max_age = 60"
    gateway.write_config()
    gateway.start()
    assert "reloaded: [node2dm] max_age" in gateway.log
    assert expires(gateway, "c2dm")


def test_sighup_during_the_stop_does_nothing(memory_gateway):
    """The file is not even read."""
    gateway = memory_gateway().start()
    assert gateway.stop()
    gateway.config = "faulty"
    gateway.hang_up()
    assert "reloaded" not in gateway.log
