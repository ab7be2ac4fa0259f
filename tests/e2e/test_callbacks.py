"""Bad-token callbacks of a real gateway to a real webhook."""

import time

from tests.e2e.gateway import free_port, wait_until
from tests.e2e.test_reload import reload
from tests.upstream import Answer, Sent, Upstream, upstream


def gone_or_delivered(sent: Sent) -> Answer:
    gone = sent.form["registration_id"].startswith("gone")
    return Answer(b"Error=NotRegistered" if gone else b"id=1")


def section(port: int, more: str = "") -> str:
    return f"[callback]\nprotocol = http\nhost = 127.0.0.1\nport = {port}\npath = /bad\n{more}\n"


def test_a_dead_device_is_reported_to_the_application(make_gateway):
    """The webhook gets the device, the message, the secret and the reason."""
    hook = Upstream(lambda sent: Answer(b"thanks")).start()
    try:
        with upstream(gone_or_delivered) as google:
            config = google.section() + section(hook.port, "shared_secret = shhh")
            gateway = make_gateway(config).start()
            gateway.push("gone1:key:größer 😀".encode(), b"alive:key:x")
            gateway.wait_for(messages_sent=1, messages_bad_device=1, callbacks_sent=1)
            assert [sent.form for sent in hook.requests] == [
                {
                    "device_token": "gone1",
                    "message_body": "größer 😀",
                    "shared_secret": "shhh",
                    "reason": "NotRegistered",
                }
            ]
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


def test_a_webhook_that_says_no_is_not_asked_again(make_gateway):
    """A 4xx ends a report, counted as failed."""
    hook = Upstream(lambda sent: Answer(b"", 404)).start()
    try:
        with upstream(gone_or_delivered) as google:
            gateway = make_gateway(google.section() + section(hook.port)).start()
            gateway.push(b"gone:key:x")
            gateway.wait_for(callbacks_failed=1)
            wait_until(lambda: len(hook.requests) == 1, "one request")
    finally:
        hook.stop()
