"""The programs of docs/signed-datagrams.md, each against a real gateway that wants signatures."""

import hmac
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import attrs
import pytest

from tests.support.gateway import GatewayProcess
from tests.support.tools import find, tool

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/signed-datagrams.md").read_text(encoding="utf-8")
_BLOCK = re.compile(r"^<!-- run by: \S+::(\w+) -->\n```\w+\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@attrs.frozen
class SignedDemo:
    """A running gateway with a key, beside the key's file."""

    gateway: GatewayProcess

    def program(self, test: str) -> str:
        """The block of the page that a test runs, with the gateway's port."""
        (text,) = (text for name, text in _BLOCK.findall(PAGE) if name == test)
        return text.replace("8120", str(self.gateway.udp))

    def save(self, test: str, name: str) -> str:
        (self.gateway.folder / name).write_text(self.program(test), encoding="utf-8")
        return name

    def sends(self, *command: str) -> bool:
        """Run a program; return whether the phone got its push."""
        subprocess.run(command, cwd=self.gateway.folder, check=True, timeout=300)
        stats = self.gateway.wait_for(messages_sent=1)
        return stats["messages_invalid"] == 0 and "collapse_key=greeting" in self.gateway.log


@pytest.fixture
def demo(make_gateway: Callable[..., GatewayProcess]) -> SignedDemo:
    gateway = make_gateway(node2dm="datagram_key_file = datagram-key")
    make_key = re.search(r"^ *(openssl rand .*)$", PAGE, re.MULTILINE)
    assert make_key is not None
    subprocess.run(["sh", "-c", f"umask 077; {make_key[1]}"], cwd=gateway.folder, check=True)
    return SignedDemo(gateway.start())


def program_or_skip(name: str) -> str:
    found = find(name)
    if found is None:
        pytest.skip(f"{name} is not installed")
    return found


def test_push_client(demo: SignedDemo) -> None:
    """With the key of the file."""
    assert demo.sends(sys.executable, "-c", demo.program("test_push_client"))


def test_node2dm_push(demo: SignedDemo) -> None:
    """The command that the page shows."""
    port = f"--port {demo.gateway.udp}"
    command = Path(sys.executable).with_name("node2dm-push")
    text = demo.program("test_node2dm_push").replace("node2dm-push", f"{command} {port}")
    assert demo.sends("sh", "-ec", text)


def test_python(demo: SignedDemo) -> None:
    """The standard library alone."""
    assert demo.sends(sys.executable, "-I", "-c", demo.program("test_python"))


def test_node(demo: SignedDemo) -> None:
    """Node's own modules alone."""
    node = program_or_skip("node")
    assert demo.sends(node, demo.save("test_node", "push.cjs"))


def test_go(demo: SignedDemo) -> None:
    """Go's own packages alone."""
    go = program_or_skip("go")
    assert demo.sends("env", "GOTOOLCHAIN=local", go, "run", demo.save("test_go", "push.go"))


def test_php(demo: SignedDemo) -> None:
    """PHP's own functions alone."""
    php = program_or_skip("php")
    assert demo.sends(php, demo.save("test_php", "push.php"))


def test_shell(demo: SignedDemo) -> None:
    """With openssl and nc."""
    tool("nc")
    program_or_skip("openssl")
    assert demo.sends("sh", "-ec", demo.program("test_shell"))


def test_the_example_is_signed() -> None:
    """With the key that the page names."""
    found = re.search(r"^#v1 (\d+) (\w+)\n(.*)$", PAGE, re.MULTILINE)
    assert found is not None
    seconds, signature, push = found.groups()
    assert "an example key of 27 bytes." in PAGE
    signed = f"{seconds}\n{push}".encode()
    assert signature == hmac.new(b"an example key of 27 bytes.", signed, "sha256").hexdigest()
