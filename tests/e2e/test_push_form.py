"""The form of the status page that sends a test push, in a real browser."""

import re
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.browser import Browser
from tests.e2e.test_accessibility import read_axe, violations
from tests.support.gateway import GatewayProcess
from tests.support.ports import free_port

TOKEN = "a-token-that-only-the-person-at-the-page-knows"
TAB, ENTER = "\ue004", "\ue007"


@pytest.fixture
def page(make_gateway, chromium: Browser) -> tuple[GatewayProcess, int]:
    """A gateway that takes pushes by HTTP, and its page with the form unfolded."""
    web = free_port()
    options = f"web = tcp:{web}:interface=127.0.0.1\npush_token = {TOKEN}"
    config = "[c2dm]\n[fcm]\n[emulator]\nphones = demo-phone, demo-fcm-phone\n"
    gateway = make_gateway(config, node2dm=options).start()
    open_form(chromium, web)
    return gateway, web


def open_form(chromium: Browser, web: int) -> None:
    """Open the page, and unfold the form once it knows the routes."""
    chromium.look_like(1280, 900)
    chromium.open(f"http://127.0.0.1:{web}/")
    chromium.wait("return document.getElementById('push-route').options.length", "the routes")
    chromium.run("document.getElementById('push').open = true")
    chromium.log()


def fill(chromium: Browser, **values: str) -> None:
    """Fill in the form and send it."""
    for name, value in values.items():
        chromium.run(f"document.getElementById('push-{name}').value = arguments[0]", value)
    chromium.run("document.querySelector('#push-form button').click()")


def result(chromium: Browser, part: str) -> str:
    """Wait until the form shows a result with this part."""
    script = "const t = document.getElementById('push-result').textContent;"
    return str(chromium.wait(f"{script} return t.includes({part!r}) && t", f"it says {part}"))


def invalid(chromium: Browser) -> list[Any]:
    """The inputs that are marked as invalid, and the one that has the focus."""
    return list(
        chromium.run(
            "return [...document.querySelectorAll('[aria-invalid]')].map(each => each.id)"
            ".concat(document.activeElement.id)"
        )
    )


def test_a_push_is_sent_and_followed(page, chromium: Browser, artefacts: Path):
    """Its id and then its outcome are shown; the token is nowhere but in its input."""
    gateway, web = page
    fill(chromium, token=TOKEN, target="demo-phone", key="greeting", data='{"hello": "world"}')
    assert re.fullmatch(r"[\w-]+-1: sent \(0:\w+%\w+\)", result(chromium, ": sent"))
    assert 'received collapse_key=greeting data={"hello": "world"}' in gateway.log
    chromium.screenshot(artefacts / "push-form.png")
    fill(chromium, route="fcm", target="demo-fcm-phone", key="", data="{not JSON")
    gateway.wait_for(messages_sent=2)
    assert 'received collapse_key= data={"data": "{not JSON"}' in gateway.log
    assert chromium.log() == []
    kept = "return [location.href, document.cookie, localStorage.length, sessionStorage.length]"
    assert chromium.run(kept) == [f"http://127.0.0.1:{web}/", "", 0, 0]
    assert TOKEN not in chromium.run("return document.documentElement.outerHTML")
    assert TOKEN not in gateway.log
    secret = "const t = document.getElementById('push-token'); return [t.type, t.autocomplete]"
    assert chromium.run(secret) == ["password", "off"]


def test_how_a_push_ended_badly(page, chromium: Browser):
    """With the upstream's reason."""
    fill(chromium, token=TOKEN, target="nobody", key="k")
    assert "InvalidRegistration" in result(chromium, ": bad device")


def test_what_is_wrong_is_said_at_the_field(page, chromium: Browser):
    """401 at the token, 400 at the fields that are invalid; right values clear the marks."""
    fill(chromium, token="guessed", target="demo-phone", key="k")
    result(chromium, "not the gateway")
    assert invalid(chromium) == ["push-token", "push-token"]
    fill(chromium, token=TOKEN, key="")
    assert "collapse_key: the collapse key is empty" in result(chromium, "invalid")
    assert invalid(chromium) == ["push-key", "push-key"]
    fill(chromium, key="k", target="two words")
    result(chromium, "token: ")
    assert invalid(chromium) == ["push-target", "push-target"]
    assert violations(chromium, read_axe()) == []
    fill(chromium, target="demo-phone")
    result(chromium, ": sent")
    assert chromium.run("return document.querySelectorAll('[aria-invalid]').length") == 0
    chromium.log()


def test_without_a_push_token_and_without_a_gateway(make_gateway, chromium: Browser):
    """It says which option is missing, and later that nobody answers."""
    web = free_port()
    gateway = make_gateway(node2dm=f"web = tcp:{web}:interface=127.0.0.1").start()
    open_form(chromium, web)
    fill(chromium, token="x", target="demo-phone", key="k")
    assert "push_token in the section [node2dm]" in result(chromium, "403")
    gateway.stop()
    fill(chromium)
    result(chromium, "Not answered")
    chromium.log()


def test_by_keyboard_on_a_phone(page, chromium: Browser):
    """From the folded form to the outcome with the keyboard alone; nothing is too wide."""
    chromium.look_like(360, 740, dark=True)
    chromium.run("document.querySelector('#push').open = false")
    chromium.run("document.querySelector('#push summary').focus()")
    chromium.press(ENTER, TAB, *TOKEN, TAB, TAB, TAB, *"demo-phone", TAB, "k", ENTER)
    result(chromium, ": sent")
    assert chromium.run("return document.documentElement.scrollWidth") <= 360
    chromium.look_like(1280, 900)
