"""Bad-token callbacks of a real gateway to a real webhook."""

import json
import os
import signal
import time
import zlib
from datetime import datetime

import pytest

from tests.e2e.test_reload import reload
from tests.support.gateway import GatewayProcess
from tests.support.odd_files import ODD
from tests.support.ports import free_port
from tests.support.upstream import Answer, Sent, Upstream, upstream
from tests.unit.providers.keys import CONTENT


def gone_or_delivered(sent: Sent) -> Answer:
    gone = sent.form["registration_id"].startswith("gone")
    return Answer(b"Error=NotRegistered" if gone else b"id=1")


def age(moment: str) -> float:
    """Seconds since a time in RFC 3339."""
    return time.time() - datetime.fromisoformat(moment).timestamp()


def section(port: int, more: str = "") -> str:
    return f"[callback]\nprotocol = http\nhost = 127.0.0.1\nport = {port}\npath = /bad\n{more}\n"


def test_a_dead_device_is_reported_to_the_application(make_gateway):
    """The webhook gets the device, the message, the secret, and what became of it."""
    hook = Upstream(lambda sent: Answer(b"thanks")).start()
    try:
        with upstream(gone_or_delivered) as google:
            config = google.section() + section(hook.port, "shared_secret = shhh")
            gateway = make_gateway(config).start()
            gateway.push("gone1:key:größer 😀".encode(), b"alive:key:x")
            gateway.wait_for(messages_sent=1, messages_bad_device=1, callbacks_sent=1)
            (form,) = [sent.form for sent in hook.requests]
            assert abs(age(form.pop("received"))) < 60
            assert form == {
                "device_token": "gone1",
                "message_body": "größer 😀",
                "shared_secret": "shhh",
                "reason": "NotRegistered",
                "route": "c2dm",
                "outcome": "bad_device",
                "id": "",
            }
            assert "shhh" not in gateway.log
    finally:
        hook.stop()


def test_a_new_secret_is_taken_over_while_running(make_gateway):
    """SIGHUP changes what reports carry from then on."""
    hook = Upstream(lambda sent: Answer(b"thanks")).start()
    try:
        with upstream(gone_or_delivered) as google:
            old = google.section() + section(hook.port, "shared_secret = shhh")
            gateway = make_gateway(old).start()
            gateway.config = google.section() + section(hook.port, "shared_secret = hush")
            reload(gateway, "reloaded: [callback] shared_secret\n")
            gateway.push(b"gone1:key:x")
            gateway.wait_for(callbacks_sent=1)
            assert [sent.form["shared_secret"] for sent in hook.requests] == ["hush"]
            assert "hush" not in gateway.log
    finally:
        hook.stop()


def test_a_host_that_is_down_or_slow_never_slows_pushes(make_gateway):
    """While callbacks fail, pushes flow; when the host is back, the reports arrive."""
    hook = Upstream(lambda sent: Answer(b"thanks", delay=0.01), port=free_port())
    with upstream(gone_or_delivered) as google:
        gateway = make_gateway(google.section() + section(hook.port)).start()
        gateway.push(*(b"gone%d:key:x" % n for n in range(100)))
        gateway.push(*(b"alive%d:key:x" % n for n in range(500)))
        began = time.monotonic()
        gateway.wait_for(messages_sent=500, messages_bad_device=100)
        assert time.monotonic() - began < 30
        assert gateway.stats()["callbacks_sent"] == 0
        hook.start()
        try:
            gateway.wait_for(callbacks_sent=100)
        finally:
            hook.stop()


def test_unsent_callbacks_survive_a_restart(make_gateway):
    """A report that could not be posted is posted by the next process."""
    hook = Upstream(lambda sent: Answer(b"thanks"), port=free_port())
    with upstream(gone_or_delivered) as google:
        gateway = make_gateway(google.section() + section(hook.port)).start()
        gateway.push(b"gone:key:x")
        gateway.wait_for(messages_bad_device=1)
        gateway.stop()
        hook.start()
        try:
            gateway.start()
            gateway.wait_for(callbacks_sent=1)
            assert hook.requests[0].form["device_token"] == "gone"
        finally:
            hook.stop()


def test_a_webhook_that_is_broken_for_a_moment_is_asked_again(make_gateway):
    """While it is deployed anew, its web server redirects, finds nothing or wants a password."""
    answers = iter([(404, ()), (401, ()), (302, ("Location: /login",))])
    hook = Upstream(lambda sent: Answer(b"", *next(answers, (200, ())))).start()
    try:
        with upstream(gone_or_delivered) as google:
            gateway = make_gateway(google.section() + section(hook.port)).start()
            gateway.push(b"gone:key:x")
            stats = gateway.wait_for(callbacks_sent=1)
            assert (stats["callbacks_failed"], stats["callbacks_waiting"]) == (0, 0)
            assert [sent.path for sent in hook.requests] == ["/bad"] * 4
            assert "callback failed, will retry: status 404\n" in gateway.log
    finally:
        hook.stop()


def test_a_webhook_that_wants_none_is_not_asked_again(make_gateway):
    """410 ends a callback, counted as failed."""
    hook = Upstream(lambda sent: Answer(b"", 410)).start()
    try:
        with upstream(gone_or_delivered) as google:
            gateway = make_gateway(google.section() + section(hook.port)).start()
            gateway.push(b"gone:key:x")
            gateway.wait_for(callbacks_failed=1, callbacks_waiting=0)
            assert "callback abandoned: status 410\n" in gateway.log
            assert len(hook.requests) == 1
    finally:
        hook.stop()


def test_a_webhook_that_stays_away_uses_up_the_retries(make_gateway):
    """Then a callback is counted as failed, and forgotten."""
    with upstream(gone_or_delivered) as google:
        gateway = make_gateway(google.section() + section(free_port(), "retries = 1")).start()
        gateway.push(b"gone:key:x")
        gateway.wait_for(callbacks_failed=1, callbacks_waiting=0)


def record(attempts: bytes) -> bytes:
    """A line of the spool whose checksum is right."""
    text = b'["c2dm", "kept", "x", "NotRegistered", "msg_1", %b]' % attempts
    return b"%08x %b\n" % (zlib.crc32(text), text)


FOREIGN = {
    "infinite": record(b"1e999"),
    "400 digits": record(b"9" * 400),
    "deep": record(b"[" * 50_000),
    "no spool": b"\x00\xff" * 10_000 + b"\n",
}


@pytest.mark.parametrize("what", [*FOREIGN, "a FIFO", "a symbolic link"])
def test_no_file_in_the_place_of_the_kept_callbacks_stops_the_start(make_gateway, what):
    """What is damaged is set aside, what is no file is left; whole callbacks are sent anyway."""
    hook = Upstream(lambda sent: Answer(b"thanks")).start()
    try:
        with upstream(gone_or_delivered) as google:
            gateway = make_gateway(google.section() + section(hook.port))
            path = gateway.folder / "state" / "callbacks.spool"
            path.parent.mkdir()
            if what in FOREIGN:
                path.write_bytes(b"node2dm_tw spool 1\n" + FOREIGN[what] + record(b"0"))
            else:
                ODD[what](path)
            gateway.start()
            gateway.push(b"gone:key:x")
            gateway.wait_for(callbacks_sent=1 + (what in FOREIGN), callbacks_waiting=0)
            assert gateway.stop() in (0, -signal.SIGTERM)
            assert gateway.log.count("callbacks.spool") >= 1
            assert "Traceback" not in gateway.log
            assert os.path.lexists(path) != (what in FOREIGN)
            gateway.start()
            gateway.push(b"gone:key:y")
            gateway.wait_for(callbacks_sent=1)
    finally:
        hook.stop()


def fcm_without_devices(sent: Sent) -> Answer:
    """Firebase, signed in to by anybody, that knows no registration."""
    if sent.path == "/token":
        token = {"access_token": "t", "expires_in": 3_600, "token_type": "Bearer"}
        return Answer(json.dumps(token).encode())
    detail = {
        "@type": "type.googleapis.com/google.firebase.fcm.v1.FcmError",
        "errorCode": "UNREGISTERED",
    }
    error = {"code": 404, "message": "Gone.", "status": "NOT_FOUND", "details": [detail]}
    return Answer(json.dumps({"error": error}).encode(), 404)


def fill(gateway: GatewayProcess, count: int, size: int) -> int:
    """Have `count` callbacks made of messages of `size` bytes; return how memory grew."""
    made, payload = 0, b"x" * size
    before = 0
    while made < count:
        step = 20 if made == 0 else min(100, count - made)
        gateway.push(*(b"gone%d::" % n + payload for n in range(made, made + step)))
        made += step
        stats = gateway.wait_for(60, messages_bad_device=made)
        before = before or stats["memory_rss"]
    return gateway.stats()["memory_rss"] - before


@pytest.mark.parametrize(
    ("count", "waiting"),
    [(2_000, 2_000), pytest.param(20_000, 14_000, marks=pytest.mark.long)],
)
def test_callbacks_that_wait_are_bounded_in_memory(make_gateway, count, waiting):
    """64 MiB of messages of 4,000 bytes wait, the rest is dropped and counted."""
    hook = Upstream(lambda sent: Answer(b"", delay=3_600.0)).start()
    google = Upstream(fcm_without_devices).start()
    url = f"http://127.0.0.1:{google.port}"
    fcm = f"[fcm]\nservice_account = key.json\nurl = {url}\nproject_rate =\nbad_device_alarm = 0\n"
    gateway = make_gateway(fcm + section(hook.port, "timeout = 600"))
    key = json.dumps({**CONTENT, "token_uri": f"{url}/token"})
    (gateway.folder / "key.json").write_text(key, encoding="utf-8")
    try:
        gateway.start()
        grown = fill(gateway, count, 4_000)
        stats = gateway.stats()
        assert stats["callbacks_waiting"] >= waiting
        assert stats["callbacks_waiting"] + stats["callbacks_dropped"] == count
        assert grown < 100 * 2**20
    finally:
        google.stop()
        hook.stop()
