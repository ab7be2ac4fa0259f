"""docs/what-happened.md follows pushes through log and callback as they are."""

import json
import re

from tests.docs.blocks import run_shell
from tests.docs.demo import Demo
from tests.docs.pages import PAGES
from tests.support.upstream import Answer, Upstream
from tests.support.waiting import wait_until

(PAGE,) = (page for page in PAGES if page.name == "docs/what-happened.md")


def blocks(language: str) -> list[str]:
    return [block.text for block in PAGE.blocks if block.language == language]


def test_log_and_callback_are_as_the_page_shows_them(make_gateway):
    """In this order; Google's name for the message and the time are other ones."""
    webhook = Upstream(lambda sent: Answer()).start()
    debug, callback = blocks("ini")
    callback = callback.replace("www.example.com", f"127.0.0.1\nport = {webhook.port}")
    options = f"{debug.removeprefix('[node2dm]')}{callback}protocol = http\n"
    try:
        demo = Demo(make_gateway(), options)
        for command, shown in zip(blocks("sh"), blocks("log"), strict=True):
            run_shell(command, demo)
            pattern = ".*".join(re.escape(line) for line in shown.splitlines())
            pattern = re.sub(r"sent:\\ 0:\d+%0", r"sent:\\ 0:\\d+%0", pattern)
            wait_until(lambda: re.search(pattern, demo.gateway.log, re.DOTALL), pattern)  # noqa: B023
        demo.gateway.wait_for(callbacks_sent=1)
    finally:
        webhook.stop()
    (sent,) = webhook.requests
    (shown,) = blocks("json")
    came, said = json.loads(sent.body), json.loads(shown)
    assert len(came.pop("received")) == len(said.pop("received"))
    assert came == said
