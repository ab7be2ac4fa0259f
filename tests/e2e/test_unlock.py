"""SIGHUP releases a route that was locked, once what locked it is gone."""

import signal
from collections.abc import Callable

from tests.e2e.gateway import Gateway, wait_until
from tests.upstream import Answer, Sent, Upstream


def section(name: str, google: Upstream, password: str = "secret-word") -> str:
    url = f"http://127.0.0.1:{google.port}"
    return (
        f"[c2dm:{name}]\nusername = {name}@example.com\npassword = {password}\n"
        f"login_url = {url}/login\nsend_url = {url}/{name}\n"
    )


def hang_up(gateway: Gateway) -> None:
    gateway.write_config()
    assert gateway.process is not None
    gateway.process.send_signal(signal.SIGHUP)


def run(make_gateway: Callable[..., Gateway], google: Upstream) -> Gateway:
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
        is_over = False
        hang_up(gateway)
        wait_until(lambda: "reloaded: nothing" in gateway.log, "it is reloaded")
        assert gateway.stats()["shop.state"] == "locked"
        lock.unlink()
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
        gateway.node2dm = "max_age = 600"
        hang_up(gateway)
        wait_until(lambda: "reloaded: [node2dm] max_age" in gateway.log, "it is reloaded")
        assert gateway.stats()["shop.state"] == "locked"
        gateway.config = section("shop", google) + section("news", google)
        hang_up(gateway)
        gateway.wait_for(**{"shop.messages_sent": 1, "shop.state": "ready"})
        assert "reloaded: [c2dm:shop] password" in gateway.log
    finally:
        google.stop()
