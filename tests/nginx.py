"""A real nginx on a port of its own, for a test."""

import os
import socket
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.tools import tool

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
{http}
    access_log {folder}/access.log requests;
}}
"""


@contextmanager
def running(folder: Path, http: Callable[[int], str]) -> Iterator[int]:
    """Run nginx in `folder` until the context ends; give its port.

    The listening socket is ours and handed over, so its port cannot be taken by another.

    Args:
        http: makes what stands in `http` for a port: a log_format `requests`, and the servers.
    """
    program = tool("nginx")
    with socket.create_server(("127.0.0.1", 0), backlog=511) as listening:
        port = listening.getsockname()[1]
        file = folder / "nginx.conf"
        file.write_text(CONFIGURATION.format(folder=folder, http=http(port)))
        descriptor = listening.fileno()
        process = subprocess.Popen(
            [program, "-p", folder, "-c", file],
            pass_fds=[descriptor],
            env={**os.environ, "NGINX": f"{descriptor};"},
            stderr=subprocess.PIPE,
        )
    try:
        yield port
    finally:
        process.terminate()
        _, errors = process.communicate(timeout=60)
    unexpected = [line for line in errors.splitlines() if b"inherited sockets" not in line]
    assert unexpected == []
