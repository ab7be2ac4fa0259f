"""axe finds no fault with the status page, in light and dark, whatever state the routes are in."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs

from tests.e2e.browser import Browser
from tests.support.gateway import GatewayProcess
from tests.support.ports import free_port
from tests.support.tools import module
from tests.support.upstream import Answer, Sent, Upstream, upstream

FOLDED = "document.querySelectorAll('details')"


def read_axe() -> str:
    """Read axe-core's script: the one of its Python package, or a newer one that AXE names."""
    found = os.environ.get("AXE")
    if found is None:
        found = str(Path(str(module("axe_core_python").__file__)).with_name("axe.min.js"))
    return Path(found).read_text(encoding="utf-8")


@attrs.define
class Google:
    """An upstream whose answers the test changes."""

    is_down: bool = False
    is_over_quota: bool = False

    def answer(self, sent: Sent) -> Answer:
        if sent.path == "/login":
            return Answer(b"Auth=token\n")
        if sent.path == "/bank" and self.is_over_quota:
            return Answer(b"Error=QuotaExceeded")
        if sent.path == "/news" and self.is_down:
            return Answer(b"", 503, ("Retry-After: 500",))
        refused = sent.form["registration_id"].startswith("big")
        return Answer(b"Error=MessageTooBig" if refused else b"id=1")


def sections(google: Upstream) -> str:
    url = f"http://127.0.0.1:{google.port}"
    c2dm = "".join(
        f"[c2dm:{name}]\nusername = {name}@example.com\npassword = x\n"
        f"login_url = {url}/login\nsend_url = {url}/{name}\n"
        for name in ("news", "bank")
    )
    return f"{c2dm}[fcm:shop]\n[emulator]\ndevice_quota = 1000000/s\n"


def is_badge(text: str) -> str:
    return f"return document.getElementById('ready').textContent == '{text}'"


def check(chromium: Browser, axe: str, picture: Callable[[str], Path]) -> None:
    """Look at the page in light and dark, folded on a desk and unfolded on a phone."""
    for scheme, dark in (("light", False), ("dark", True)):
        chromium.look_like(1280, 900, dark=dark)
        chromium.screenshot(picture(scheme))
        for width, is_open in ((1280, "false"), (360, "true")):
            chromium.look_like(width, 900, dark=dark)
            chromium.run(f"{FOLDED}.forEach(each => each.open = {is_open})")
            assert violations(chromium, axe) == []
        chromium.run(f"{FOLDED}.forEach(each => each.open = false)")
    chromium.look_like(1280, 900)


def violations(chromium: Browser, axe: str) -> list[Any]:
    """Each rule that is broken, with what breaks it."""
    chromium.run(f"if (!window.axe) {{ {axe} }}")
    return list(
        chromium.run(
            "return axe.run().then(found => found.violations.map("
            "rule => [rule.id, rule.help, rule.nodes.map(node => node.failureSummary)]))"
        )
    )


def test_axe_finds_no_violation(make_gateway, chromium, artefacts):
    """With routes ready, paused, held back and locked, and while the gateway is away."""
    axe, google, web = read_axe(), Google(), free_port()

    def show(state: str, badge: str, *lines: bytes) -> None:
        gateway.push(*lines)
        chromium.wait(is_badge(badge), f"the badge says {badge}")
        check(chromium, axe, lambda scheme: artefacts / f"{state}-{scheme}.png")

    with upstream(google.answer) as server:
        gateway: GatewayProcess = make_gateway(
            sections(server), node2dm=f"web = tcp:{web}:interface=127.0.0.1"
        ).start()
        gateway.push(*(b"news|phone%d:key:x" % n for n in range(40)), b"nonsense", b"bank|big:k:x")
        gateway.push(*(b"shop|demo-phone:k%d:{}" % n for n in range(20)))
        gateway.wait_for(messages_sent=60, messages_refused=1)
        chromium.open(f"http://127.0.0.1:{web}/")
        show("ready", "ready")
        google.is_down = True
        show("paused", "news: paused", *(b"news|phone%d:key:x" % n for n in range(9)))
        dead = [b"shop|nobody%d:k:{}" % n for n in range(30)]
        show("held-back", "shop: callbacks held back", *dead)
        google.is_over_quota = True
        show("locked", "bank: locked", *(b"bank|phone%d:key:x" % n for n in range(5)))
        gateway.stop()
        chromium.wait(is_badge("connection lost"), "the page says that the connection is lost")
        check(chromium, axe, lambda scheme: artefacts / f"disconnected-{scheme}.png")
        chromium.log()
