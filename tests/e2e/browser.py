"""Headless Chromium, driven by chromedriver's WebDriver interface: HTTP and JSON, nothing else."""

import base64
import json
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import attrs

from tests.support import processes
from tests.support.ports import free_port
from tests.support.tools import tool
from tests.support.waiting import wait_until

FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--hide-scrollbars",
    "--force-color-profile=srgb",
]


@attrs.define(eq=False)
class Browser:
    """One window."""

    session: str

    def call(self, path: str, method: str = "POST", **values: Any) -> Any:
        """Call one of WebDriver's commands."""
        request = urllib.request.Request(
            f"{self.session}/{path}".rstrip("/"),
            json.dumps(values).encode() if method == "POST" else None,
            {"Content-Type": "application/json"},
            method=method,
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.load(answer)["value"]

    def open(self, url: str) -> None:
        self.call("url", url=url)

    def run(self, script: str, *arguments: Any) -> Any:
        """Run JavaScript in the page; give what it returns."""
        return self.call("execute/sync", script=script, args=arguments)

    def devtools(self, command: str, **parameters: Any) -> Any:
        """Call a command of the DevTools protocol."""
        return self.call("goog/cdp/execute", cmd=command, params=parameters)

    def look_like(self, width: int, height: int, *, dark: bool = False) -> None:
        """Be a screen of this size, in CSS pixels."""
        self.devtools(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=width < 600,
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.devtools("Emulation.setEmulatedMedia", features=[scheme])

    def press(self, *keys: str) -> None:
        """Press keys, one after the other."""
        actions = [{"type": kind, "value": key} for key in keys for kind in ("keyDown", "keyUp")]
        self.call("actions", actions=[{"type": "key", "id": "keyboard", "actions": actions}])

    def log(self) -> list[str]:
        """What the page complained of since the last call, resources that it may not load too."""
        return [f"{e['level']} {e['message']}" for e in self.call("se/log", type="browser")]

    def screenshot(self, file: Path) -> None:
        """Take a picture of the whole page."""
        height = self.run("return document.documentElement.scrollHeight")
        width = self.run("return innerWidth")
        picture = self.devtools(
            "Page.captureScreenshot",
            captureBeyondViewport=True,
            clip={"x": 0, "y": 0, "width": width, "height": height, "scale": 1},
        )
        file.write_bytes(base64.b64decode(picture["data"]))

    def wait(self, script: str, what: str) -> Any:
        """Wait until JavaScript returns something true."""
        return wait_until(lambda: self.run(script), what)


@contextmanager
def browser(folder: Path) -> Iterator[Browser]:
    """A browser with a profile of its own below `folder`; gone afterwards."""
    port, chromium, chromedriver = free_port(), tool("chromium"), tool("chromedriver")
    driver = processes.start(
        [chromedriver, f"--port={port}"], folder / "chromedriver.log", cwd=folder
    )
    made = Browser(f"http://127.0.0.1:{port}")
    try:
        wait_until(lambda: _is_ready(made), "chromedriver answers")
        options = {
            "binary": chromium,
            "args": [*FLAGS, f"--user-data-dir={folder / 'profile'}"],
        }
        wanted = {
            "browserName": "chrome",
            "goog:chromeOptions": options,
            "goog:loggingPrefs": {"browser": "ALL"},
        }
        session = made.call("session", capabilities={"alwaysMatch": wanted})["sessionId"]
        made.session = f"{made.session}/session/{session}"
        yield made
        made.call("", "DELETE")
    finally:
        processes.stop(driver)


def _is_ready(driver: Browser) -> bool:
    try:
        return bool(driver.call("status", "GET")["ready"])
    except OSError:
        return False
