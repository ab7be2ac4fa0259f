"""The programs of docs/frameworks.md, each against a real gateway and its phone."""

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import attrs
import pytest

from tests.support.gateway import GatewayProcess
from tests.support.ports import free_port
from tests.support.tools import find, module, tool

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/frameworks.md").read_text(encoding="utf-8")
_BLOCK = re.compile(r"^<!-- run by: \S+::(\w+) -->\n```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@attrs.frozen
class Demo:
    """A running gateway, and the programs of the page with its ports in place."""

    gateway: GatewayProcess
    web: int
    http: int

    def blocks(self, test: str, language: str) -> list[str]:
        ports = {"8120": self.gateway.udp, "8122": self.web, "5000": self.http}
        return [
            re.sub("8120|8122|5000", lambda match: str(ports[match[0]]), text)
            for name, kind, text in _BLOCK.findall(PAGE)
            if (name, kind) == (test, language)
        ]

    def run(self, *command: str) -> str:
        done = subprocess.run(
            command,
            cwd=self.gateway.folder,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def received(self, count: int) -> list[str]:
        """The collapse keys that the phone got, once there are so many."""
        self.gateway.wait_for(messages_sent=count)
        return sorted(
            line.split(" ")[0] for line in re.findall(r"collapse_key=(.*)", self.gateway.log)
        )


@pytest.fixture
def demo(make_gateway: Callable[..., GatewayProcess]) -> Demo:
    web = free_port()
    gateway = make_gateway(node2dm=f"web = tcp:{web}:interface=127.0.0.1")
    return Demo(gateway.start(), web, free_port())


def test_asyncio(demo: Demo) -> None:
    """One push from a coroutine, and several from a thread."""
    (program,) = demo.blocks("test_asyncio", "python")
    assert demo.run(sys.executable, "-c", program) == "3 of 3 taken\n"
    assert demo.received(4) == ["greeting", "news-0", "news-1", "news-2"]


def test_flask(demo: Demo) -> None:
    """A request to the application, by the command that the page shows."""
    module("flask")
    tool("curl")
    (program,) = demo.blocks("test_flask", "python")
    (command,) = demo.blocks("test_flask", "sh")
    (demo.gateway.folder / "app.py").write_text(program)
    server = subprocess.Popen(
        [sys.executable, "-m", "flask", "run", "--port", str(demo.http)],
        cwd=demo.gateway.folder,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        ask = ["curl", "-s", "--retry", "60", "--retry-delay", "1", "--retry-connrefused"]
        answer = demo.run(*ask, *command.split()[1:])
        assert answer == '{"taken":true}\n'
        assert demo.received(1) == ["order-7"]
    finally:
        server.terminate()
        server.wait()


DJANGO = """
import django
from django.conf import settings
from django.test import Client
from django.urls import path

settings.configure(
    ALLOWED_HOSTS=["testserver"],
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}},
    ROOT_URLCONF=__name__,
)
django.setup()
from shop.views import order_ready

urlpatterns = [path("orders/<int:order>/ready", order_ready)]
print(Client().post("/orders/7/ready", {"token": "demo-phone"}).status_code)
"""


def test_django(demo: Demo) -> None:
    """A request to the view pushes after its transaction."""
    module("django")
    push, views = demo.blocks("test_django", "python")
    shop = demo.gateway.folder / "shop"
    shop.mkdir()
    (shop / "push.py").write_text(push)
    (shop / "views.py").write_text(views)
    assert demo.run(sys.executable, "-c", DJANGO) == "202\n"
    assert demo.received(1) == ["order-7"]


def test_go(demo: Demo) -> None:
    """The program needs Go's standard library alone."""
    if find("go") is None:
        pytest.skip("go is not installed")
    (program,) = demo.blocks("test_go", "go")
    (command,) = demo.blocks("test_go", "sh")
    (demo.gateway.folder / "push.go").write_text(program)
    demo.run("env", "GOTOOLCHAIN=local", *command.split())
    assert demo.received(1) == ["greeting"]


def test_ready(demo: Demo) -> None:
    """While the gateway runs the program says so; afterwards it ends with what it met."""
    (program,) = demo.blocks("test_ready", "python")
    demo.gateway.push(b"demo-phone:k:x")
    demo.gateway.wait_for(messages_sent=1)
    assert demo.run(sys.executable, "-c", program) == "ready\n"
    demo.gateway.stop()
    ended = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False
    )
    assert ended.returncode == 1
    assert "the gateway does not answer: http://127.0.0.1:" in ended.stderr
