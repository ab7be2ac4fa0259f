"""The programs and the configuration of docs/http-intake.md."""

import json
import re
import ssl
import subprocess
import sys
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest
import trustme

from tests.docs.demo import Demo
from tests.docs.pages import ROOT, Page
from tests.support.gateway import GatewayProcess
from tests.support.nginx import run_nginx
from tests.support.tools import find, tool

PAGE = Page("http-intake.md", (ROOT / "docs/http-intake.md").read_text(encoding="utf-8"))


FAULT = {"endpoint": "send", "delay": 2}


def block(test: str) -> str:
    """The block of the page that this test runs."""
    (text,) = (each.text for each in PAGE.blocks if each.note.endswith(f"::{test}"))
    return text


def installed(program: str) -> str:
    return find(program) or pytest.skip(f"{program} is not installed")


def test_node(make_gateway: Callable[..., GatewayProcess]) -> None:
    """The program needs nothing but Node."""
    demo = Demo(make_gateway())
    demo.run([installed("node"), "--input-type=module", "--eval"], block("test_node"))
    demo.gateway.wait_for(messages_sent=1)


def test_go(make_gateway: Callable[..., GatewayProcess]) -> None:
    """The program needs Go's standard library alone."""
    demo = Demo(make_gateway())
    demo.start()
    (demo.gateway.folder / "push.go").write_text(demo.translate(block("test_go")))
    command = ["env", "GOTOOLCHAIN=local", installed("go"), "run", "push.go"]
    subprocess.run(command, cwd=demo.gateway.folder, check=True, timeout=300)
    demo.gateway.wait_for(messages_sent=1)


def test_a_sender_that_tries_again(make_gateway: Callable[..., GatewayProcess]) -> None:
    """While the queue is full it is turned away; then its push is accepted, once."""
    demo = Demo(make_gateway(), "max_queued = 1\n")
    demo.start()
    gateway = demo.gateway
    trust = ssl.create_default_context(cafile=gateway.folder / "run/emulator/ca.pem")
    url = f"https://localhost:{gateway.emulator_port}/faults"
    urllib.request.urlopen(url, json.dumps(FAULT).encode(), timeout=60, context=trust).close()
    gateway.push(b"demo-phone:first:x")
    gateway.wait_for(messages_in_flight=1)
    demo.run([sys.executable, "-c"], block("test_a_sender_that_tries_again"))
    assert "pushes by HTTP turned away" in gateway.log
    assert gateway.wait_for(messages_sent=2)["messages_received"] == 2


def test_nginx(make_gateway: Callable[..., GatewayProcess], tmp_path: Path) -> None:
    """A push arrives through TLS, in chunks and under the name; the status page does not."""
    demo = Demo(make_gateway(), "web_hosts = push.example.com\n")
    demo.start()
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    certificate = authority.issue_cert("push.example.com")
    certificate.private_key_pem.write_to_path(tmp_path / "push.key")
    certificate.cert_chain_pems[0].write_to_path(tmp_path / "push.pem")
    text = demo.translate(block("test_nginx")).replace("/etc/nginx/", f"{tmp_path}/")

    def http(port: int) -> str:
        return f"access_log off; {re.sub('443', f'127.0.0.1:{port}', text)}"

    with run_nginx(tmp_path, http) as (port,):
        url = f"https://push.example.com:{port}"
        ask = [tool("curl"), "--silent", "--cacert", str(tmp_path / "ca.pem")]
        ask += ["--resolve", f"push.example.com:{port}:127.0.0.1", "--write-out", "%{http_code}"]
        push = ["--oauth2-bearer", "demo-push-token", "--header", "Transfer-Encoding: chunked"]
        push += ["--json", '{"token": "demo-phone", "collapse_key": "k"}', f"{url}/v1/push"]
        assert call(*ask, *push).endswith("202")
        assert call(*ask, "--output", "/dev/null", url) == "404"
    demo.gateway.wait_for(messages_sent=1)


def call(*command: str) -> str:
    """Run a program; return what it prints."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    return done.stdout
