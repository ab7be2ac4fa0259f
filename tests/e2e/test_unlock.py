"""SIGHUP releases a route that was locked, once what locked it is gone."""

import re
import signal
import urllib.request
from collections.abc import Callable

from tests.support.gateway import GatewayProcess, telnet
from tests.support.ports import free_port
from tests.support.upstream import Answer, Sent, Upstream
from tests.support.waiting import wait_until

ROUTES = ("shop", "news")


def section(name: str, google: Upstream, password: str = "secret-word") -> str:
    url = f"http://127.0.0.1:{google.port}"
    return (
        f"[c2dm:{name}]\nusername = {name}@example.com\npassword = {password}\n"
        f"login_url = {url}/login\nsend_url = {url}/{name}\n"
    )


def hang_up(gateway: GatewayProcess) -> None:
    gateway.write_config()
    assert gateway.process is not None
    gateway.process.send_signal(signal.SIGHUP)


def health(gateway: GatewayProcess) -> list[str]:
    return telnet(gateway.stats_port, b"health\r\nquit\r\n").splitlines()


def run(make_gateway: Callable[..., GatewayProcess], google: Upstream) -> GatewayProcess:
    return make_gateway(section("shop", google) + section("news", google)).start()


def test_a_quota_lock_that_was_deleted_is_no_lock(make_gateway):
    """The route goes on with what it kept; while the file is there it does not."""
    is_over = True

    def answer(sent: Sent) -> Answer:
        if sent.path == "/login":
            return Answer(b"Auth=token\n")
        return Answer(b"Error=QuotaExceeded" if is_over and sent.path == "/shop" else b"id=1")

    google = Upstream(answer).start()
    try:
        gateway = run(make_gateway, google)
        gateway.push(b"shop|phone:key:1", b"news|phone:key:2")
        gateway.wait_for(**{"news.messages_sent": 1, "shop.state": "locked"})
        lock = gateway.folder / "state" / "quota.lock.shop"
        advice = f"once the quota is granted again, delete {lock} and send SIGHUP"
        assert f"notice: shop: locked (QuotaExceeded): {advice}" in health(gateway)
        is_over = False
        hang_up(gateway)
        wait_until(lambda: "reloaded: nothing" in gateway.log, "it is reloaded")
        assert gateway.stats()["shop.state"] == "locked"
        lock.unlink()
        gateway.wait_for(**{"shop.state_advice": f"{lock} is gone: send SIGHUP"})
        hang_up(gateway)
        stats = gateway.wait_for(**{"shop.messages_sent": 1})
        assert stats["shop.state"] == "ready"
        assert "shop: unlocked" in gateway.log
    finally:
        google.stop()


def test_a_corrected_password_signs_in_again(make_gateway):
    """After signing in was given up; another change does not."""

    def answer(sent: Sent) -> Answer:
        if sent.path == "/login":
            if sent.form["Passwd"] == "wrong":
                return Answer(b"Error=CaptchaRequired\nCaptchaUrl=x\n", 403)
            return Answer(b"Auth=token\n")
        return Answer()

    google = Upstream(answer).start()
    try:
        gateway = make_gateway(section("shop", google, "wrong") + section("news", google)).start()
        gateway.push(b"shop|phone:key:1", b"news|phone:key:2")
        gateway.wait_for(**{"news.messages_sent": 1, "shop.state": "locked"})
        assert [line.partition(":")[0] for line in health(gateway)] == ["ready", *ROUTES, "notice"]
        assert health(gateway)[-1] == (
            "notice: shop: locked (CaptchaRequired, to be solved at https://www.google.com/accounts/x):"
            " correct the credentials and send SIGHUP; if they are right, restart"
        )
        gateway.node2dm = "max_age = 600"
        hang_up(gateway)
        wait_until(lambda: "reloaded: [node2dm] max_age" in gateway.log, "it is reloaded")
        assert gateway.stats()["shop.state"] == "locked"
        gateway.config = section("shop", google) + section("news", google)
        hang_up(gateway)
        gateway.wait_for(**{"shop.messages_sent": 1, "shop.state": "ready"})
        assert "reloaded: [c2dm:shop] password" in gateway.log
        assert health(gateway) == ["ready", *(f"{route}: ready" for route in ROUTES)]
    finally:
        google.stop()


def test_a_token_that_cannot_be_renewed_is_told_while_it_still_serves(make_gateway):
    """The health says why and for how long; the gateway stays ready, and sends."""

    def answer(sent: Sent) -> Answer:
        if sent.path == "/login":
            if sent.form["Passwd"] == "wrong":
                return Answer(b"Error=BadAuthentication\n", 403)
            return Answer(b"Auth=token\n")
        return Answer()

    google = Upstream(answer).start()
    web = free_port()
    try:
        gateway = make_gateway(
            section("shop", google), node2dm=f"web = tcp:{web}:interface=127.0.0.1"
        ).start()
        gateway.wait_for(**{"shop.state": "ready"})
        gateway.config = section("shop", google, "wrong")
        hang_up(gateway)
        ready, words, notice = wait_until(lambda: len(h := health(gateway)) == 3 and h, "a notice")
        assert (ready, words) == ("ready", "shop: ready")
        assert re.fullmatch(
            r"notice: shop: the token cannot be renewed \(BadAuthentication\);"
            r" the present one is good for (14 d|13 d 23 h) more: check the account",
            notice,
        )
        url = f"http://127.0.0.1:{web}/readyz?route=shop"
        with urllib.request.urlopen(url, timeout=60) as response:
            assert response.status == 200
        gateway.push(b"phone:key:x")
        gateway.wait_for(messages_sent=1)
        gateway.config = section("shop", google)
        hang_up(gateway)
        wait_until(lambda: health(gateway) == ["ready", "shop: ready"], "the notice is gone")
    finally:
        google.stop()
