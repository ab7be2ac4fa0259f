"""Addresses of IPv6 wherever the configuration takes a host, with a real gateway."""

import json
import socket
import threading
from contextlib import closing
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from tests.support.waiting import wait_until


class IPv6Server(HTTPServer):
    address_family = socket.AF_INET6


@pytest.fixture
def webhook():
    """A webhook at ::1; what is posted to it is kept in `posted`."""
    posted = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"]))
            posted.append((self.headers["Host"], body))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_):
            """Say nothing."""

    with IPv6Server(("::1", 0), Handler) as server:
        server.posted = posted
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("client", ["curl", "treq"])
def test_everything_is_reached_at_an_ipv6_address(make_gateway, webhook, client):
    """Sign-ins, sends of both services, a callback, and statsd."""
    with closing(socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)) as statsd:
        statsd.bind(("::1", 0))
        statsd.settimeout(10)
        gateway = make_gateway(
            "[c2dm]\n[fcm]\n"
            f"[callback]\nprotocol = http\nhost = ::1\nport = {webhook.server_port}\n"
            f"[statsd]\nhost = [::1]\nport = {statsd.getsockname()[1]}\ninterval = 1\n",
            node2dm=f"http_client = {client}",
        )
        listen = rf"tcp6:{gateway.emulator_port}:interface=\:\:1"
        gateway.config += f"[emulator] \nlisten = {listen}\n"  # a blank: it has a `listen` already
        gateway.start()
        gateway.push(b"demo-phone:key:1", b"g|demo-phone:key:{}", b"nobody:key:1")
        gateway.wait_for(messages_sent=2, messages_bad_device=1)
        wait_until(lambda: webhook.posted, "a callback")
        assert webhook.posted[0][0] == f"[::1]:{webhook.server_port}"
        wait_until(lambda: b"messages_sent:2|c" in statsd.recv(65_536), "a report")
        key = gateway.folder / "state/emulator/service-account.json"
        assert json.loads(key.read_bytes())["token_uri"].startswith("https://[::1]:")
        assert "InvalidCodepoint" not in gateway.log
