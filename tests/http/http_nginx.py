"""nginx as an upstream: its own folder, a free port, TLS, HTTP/2 and HTTP/1.1."""

import os
import shutil
import socket
import subprocess
from contextlib import contextmanager

from http_certificates import authority, good
from twisted.internet import reactor
from twisted.internet.task import deferLater

CONFIGURATION = """
daemon off;
worker_processes 1;
pid {folder}/nginx.pid;
error_log stderr crit;
events {{ worker_connections 1024; }}
http {{
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    log_format requests '$connection $server_protocol $request_uri';
    access_log {folder}/access.log requests;
    keepalive_requests {keepalive_requests};
    server {{
        listen 127.0.0.1:{port} ssl{http2};
        server_name localhost;
        ssl_certificate {folder}/server.pem;
        ssl_certificate_key {folder}/server.pem;
        location / {{
            add_header Retry-After 3;
            return 200 "id=0:1234";
        }}
    }}
}}
"""


class Nginx:
    """A running nginx."""

    def __init__(self, folder, port, ca_file):
        self.folder = folder
        self.ca_file = ca_file
        self.url = f"https://localhost:{port}/send"

    async def requests(self, expected):
        """The requests it has logged, as (connection, protocol, path).

        It logs after it has answered, so this waits until `expected` are there.
        """
        while True:
            lines = (self.folder / "access.log").read_text().splitlines()
            if len(lines) >= expected:
                return [tuple(line.split()) for line in lines]
            await deferLater(reactor, 0.01)


@contextmanager
def nginx(folder, *, http2, keepalive_requests=100_000, identity=None):
    """Run nginx in `folder` until the context ends.

    The listening socket is ours and handed over, so its port cannot be taken by another.
    """
    identity = identity or good()
    ca_file = folder / "ca.pem"
    ca_file.write_bytes(authority().certificate_pem)
    (folder / "server.pem").write_bytes(identity.certificate_pem + identity.key_pem)
    with socket.create_server(("127.0.0.1", 0), backlog=511) as listening:
        port = listening.getsockname()[1]
        configuration = CONFIGURATION.format(
            folder=folder,
            port=port,
            http2=" http2" if http2 else "",
            keepalive_requests=keepalive_requests,
        )
        (folder / "nginx.conf").write_text(configuration)
        descriptor = listening.fileno()
        process = subprocess.Popen(
            [shutil.which("nginx") or "/usr/sbin/nginx", "-p", folder, "-c", folder / "nginx.conf"],
            pass_fds=[descriptor],
            env={**os.environ, "NGINX": f"{descriptor};"},
            stderr=subprocess.PIPE,
        )
    try:
        yield Nginx(folder, port, ca_file)
    finally:
        process.terminate()
        _, errors = process.communicate(timeout=10)
    unexpected = [line for line in errors.splitlines() if b"inherited sockets" not in line]
    assert unexpected == []
