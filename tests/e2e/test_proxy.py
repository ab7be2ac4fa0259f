"""A proxy that asks for a password, with a real gateway."""

import socket
import threading
from base64 import b64encode
from contextlib import suppress
from socketserver import StreamRequestHandler, ThreadingTCPServer

import pytest

from tests.support.gateway import telnet
from tests.support.waiting import wait_until

PASSWORD = "hush&:%/"
QUOTED = "hush&:%25%2F"


class Proxy(StreamRequestHandler):
    """Makes a tunnel for whoever knows the password."""

    def handle(self):
        line = self.rfile.readline()
        headers = {}
        while (header := self.rfile.readline()).strip():
            name, _, value = header.partition(b":")
            headers[name.lower()] = value.strip()
        credentials = b"Basic " + b64encode(f"user:{PASSWORD}".encode())
        if headers.get(b"proxy-authorization") != credentials:
            self.wfile.write(b"HTTP/1.1 407 No\r\nContent-Length: 0\r\n\r\n")
            return
        host, _, port = line.split()[1].decode().rpartition(":")
        with socket.create_connection((host.strip("[]"), int(port))) as far:
            self.wfile.write(b"HTTP/1.1 200 OK\r\n\r\n")
            self.server.tunnels += 1
            back = threading.Thread(target=copy, args=(far, self.connection))
            back.start()
            copy(self.connection, far)
            back.join()


def copy(source, target):
    """Copy bytes until one of the two is closed."""
    with suppress(OSError):
        while data := source.recv(65_536):
            target.sendall(data)
    with suppress(OSError):
        target.shutdown(socket.SHUT_WR)


class ProxyServer(ThreadingTCPServer):
    daemon_threads = True
    tunnels = 0


@pytest.fixture
def proxy():
    with ProxyServer(("127.0.0.1", 0), Proxy) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("where", ["option", "file"])
def test_sends_and_sign_ins_go_through_a_proxy_that_asks_for_a_password(make_gateway, proxy, where):
    """The password is in no log, at any level, and in no view."""
    url = f"http://user:{QUOTED}@127.0.0.1:{proxy.server_address[1]}"
    option = f"proxy = {url}" if where == "option" else "proxy_file = proxy"
    config = "[c2dm]\n[fcm]\n[emulator]\n"
    gateway = make_gateway(config, node2dm=f"http_client = curl\nlog_level = debug\n{option}")
    (gateway.folder / "proxy").write_text(url + "\n", encoding="utf-8")
    gateway.start()
    gateway.push(b"demo-phone:key:1", b"g|demo-phone:key:{}")
    gateway.wait_for(messages_sent=2)
    assert proxy.tunnels >= 4
    shown = telnet(gateway.stats_port, b"config\r\nstats\r\nhealth\r\nquit\r\n")
    assert "proxy = ***\n" in shown.replace("\r", "")
    assert "hush" not in shown + gateway.log
    gateway.stop()


def test_a_password_that_the_proxy_refuses(make_gateway, proxy):
    """The log says what it answered; the pushes wait."""
    url = f"http://user:hush-other@127.0.0.1:{proxy.server_address[1]}"
    gateway = make_gateway(node2dm=f"http_client = curl\nlog_level = debug\nproxy = {url}").start()
    gateway.push(b"demo-phone:key:1")
    wait_until(lambda: "407" in gateway.log, "the answer of the proxy is in the log")
    gateway.wait_for(messages_in_queue=1)
    assert "hush" not in gateway.log + telnet(gateway.stats_port, b"config\r\nstats\r\nquit\r\n")


def test_a_proxy_that_is_no_url_is_an_error_that_hides_it(make_gateway):
    """It may hold the password all the same."""
    config = "[node2dm]\nproxy = user:hush@127.0.0.1:3128\n[c2dm]\n[emulator]\n"
    done = make_gateway().run("-n", config=config)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith("[node2dm] proxy: expected a URL such as http://proxy:3128")
    assert "hush" not in line
