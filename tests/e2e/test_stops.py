"""When the gateway stops by itself: exit statuses, and what the next start makes of it."""

import subprocess
import time

import pytest

from tests.support.gateway import TWISTD
from tests.support.upstream import Answer, Sent, Upstream, upstream
from tests.support.waiting import wait_until


def test_over_quota_stops_with_status_3_and_refuses_the_next_start(make_gateway):
    """QuotaExceeded: the lock is written, every push kept; the lock's advice leads out again."""
    over = {"quota": True}

    def answer(sent: Sent) -> Answer:
        return Answer(b"Error=QuotaExceeded" if over["quota"] else b"id=1")

    with upstream(answer) as google:
        gateway = make_gateway(google.section()).start()
        gateway.push(*(b"d%d:key:%d" % (n, n) for n in range(30)))
        assert gateway.process.wait(60) == 3
        lock = gateway.folder / "state" / "quota.lock"
        assert "delete this file" in lock.read_text()
        asked = len(google.sends())
        refused = subprocess.run(
            [TWISTD, "-n", "--pidfile=", "node2dm", "-c", gateway.file],
            cwd=gateway.folder,
            check=False,
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert refused.returncode == 3
        assert str(lock) in refused.stderr
        assert "delete the file" in refused.stderr
        assert "Traceback" not in refused.stderr
        assert len(google.sends()) == asked
        lock.unlink()
        over["quota"] = False
        gateway.start()
        gateway.wait_for(messages_taken_over=30, messages_sent=30)


def refusing(code: str, status: int = 403) -> Upstream:
    more = "CaptchaToken=x\nCaptchaUrl=Captcha?ctoken=abc\n" if code == "CaptchaRequired" else ""
    return Upstream(lambda sent: Answer(f"Error={code}\n{more}".encode(), status))


def test_a_captcha_stops_with_status_4_and_says_where_it_is(make_gateway):
    """The captcha's address is in the log, the password is not, and the pushes are kept."""
    google = refusing("CaptchaRequired").start()
    try:
        gateway = make_gateway(google.section()).start(wait=False)
        assert gateway.process.wait(60) == 4
        assert "https://www.google.com/accounts/Captcha?ctoken=abc" in gateway.log
        assert "secret-word" not in gateway.log
        assert len(google.requests) == 1
    finally:
        google.stop()


@pytest.mark.parametrize("code", ["BadAuthentication", "AccountDisabled"])
def test_a_refused_sign_in_is_tried_again_with_back_off(make_gateway, code):
    """Tries are ever farther apart, and pushes wait meanwhile."""
    google = refusing(code).start()
    try:
        gateway = make_gateway(google.section()).start()
        gateway.push(b"phone:key:payload")
        wait_until(lambda: len(google.requests) >= 3, "three sign-ins")
        first, second, third = (sent.when for sent in google.requests[:3])
        assert second - first >= 0.5
        assert third - second >= 1.0
        assert gateway.stats()["messages_in_queue"] == 1
        assert gateway.stats()["logged_in_to_c2dm"] == "false"
    finally:
        google.stop()


def test_the_stored_token_is_used_by_the_next_start_until_it_is_refused(make_gateway):
    """One ClientLogin serves several processes; a 401 leads to one more."""
    revoked = {"now": False}

    def answer(sent: Sent) -> Answer:
        bad = revoked["now"] and sent.auth.endswith("token-1")
        return Answer(b"", 401) if bad else Answer()

    with upstream(answer) as google:
        gateway = make_gateway(google.section()).start()
        gateway.push(b"phone:key:1")
        gateway.wait_for(messages_sent=1)
        token = gateway.folder / "state" / "c2dm.token"
        assert token.stat().st_mode & 0o777 == 0o600
        gateway.stop()
        gateway.start()
        gateway.push(b"phone:key:2")
        gateway.wait_for(messages_sent=1)
        assert google.logins() == 1
        gateway.stop()
        revoked["now"] = True
        gateway.start()
        gateway.push(b"phone:key:3")
        gateway.wait_for(messages_sent=1)
        assert google.logins() == 2


@pytest.mark.parametrize(
    "content", ["", "{}", "[]", "garbage", '{"auth": 1, "obtained": "x"}', "\x00"]
)
def test_a_damaged_token_file_only_costs_a_sign_in(make_gateway, content):
    """Whatever stands in the token file, the start goes on."""
    with upstream(lambda sent: Answer()) as google:
        gateway = make_gateway(google.section())
        (gateway.folder / "state").mkdir()
        (gateway.folder / "state" / "c2dm.token").write_text(content)
        gateway.start()
        gateway.push(b"phone:key:1")
        gateway.wait_for(messages_sent=1)
        assert google.logins() == 1


def test_the_token_is_renewed_in_the_background(make_gateway):
    """With a short token_max_age sign-ins follow one another while pushes flow."""
    with upstream(lambda sent: Answer()) as google:
        gateway = make_gateway(google.section("token_max_age = 2")).start()
        began = time.monotonic()
        count = 0
        while time.monotonic() < began + 4:
            gateway.push(b"phone:key:%d" % count)
            count += 1
            time.sleep(0.02)
        gateway.wait_for(messages_sent=count)
        assert 2 <= google.logins() <= 2 + (time.monotonic() - began) / 2
        assert len({sent.auth for sent in google.sends()}) >= 2
