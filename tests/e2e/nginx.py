"""nginx in front of an emulator: HTTP/2 towards the gateway, HTTP/1.1 behind."""

import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import attrs

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
    log_format requests '$server_protocol $status $request_uri';
    access_log {folder}/access.log requests;
    upstream emulator {{ server {address}; keepalive 8; }}
    server {{
        listen 127.0.0.1:{port} ssl http2;
        ssl_certificate {identity};
        ssl_certificate_key {identity};
        location / {{
            proxy_pass https://emulator;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_ssl_verify on;
            proxy_ssl_name localhost;
            proxy_ssl_trusted_certificate {ca_file};
        }}
    }}
}}
"""


@attrs.frozen
class Front:
    """A running nginx."""

    url: str
    folder: Path

    def protocols(self) -> set[str]:
        """What requests came by."""
        lines = (self.folder / "access.log").read_text().splitlines()
        return {line.split()[0] for line in lines}


@contextmanager
def in_front_of(base_url: str, ca_file: Path, folder: Path) -> Iterator[Front]:
    """Run nginx until the context ends; its certificate is the emulator's own.

    The listening socket is ours and handed over, so its port cannot be taken by another.
    """
    with socket.create_server(("127.0.0.1", 0), backlog=511) as listening:
        port = listening.getsockname()[1]
        text = CONFIGURATION.format(
            folder=folder,
            port=port,
            address=base_url.removeprefix("https://"),
            ca_file=ca_file,
            identity=ca_file.with_name("server.pem"),
        )
        (folder / "nginx.conf").write_text(text)
        descriptor = listening.fileno()
        process = subprocess.Popen(
            [shutil.which("nginx") or "/usr/sbin/nginx", "-p", folder, "-c", folder / "nginx.conf"],
            pass_fds=[descriptor],
            env={**os.environ, "NGINX": f"{descriptor};"},
            stderr=subprocess.PIPE,
        )
    try:
        yield Front(f"https://127.0.0.1:{port}", folder)
    finally:
        process.terminate()
        _, errors = process.communicate(timeout=10)
    unexpected = [line for line in errors.splitlines() if b"inherited sockets" not in line]
    assert unexpected == []
