"""A real nginx on ports of its own."""

import os
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tests.support import processes
from tests.support.tools import tool

CONFIGURATION = """
daemon off;
{user}
{modules}
worker_processes 1;
worker_rlimit_nofile 8192;
pid nginx.pid;
error_log stderr crit;
events {{ worker_connections 4096; }}
http {{
    client_body_temp_path body;
    proxy_temp_path proxy;
    fastcgi_temp_path fastcgi;
    uwsgi_temp_path uwsgi;
    scgi_temp_path scgi;
{http}
}}
"""


@contextmanager
def run_nginx(
    folder: Path, http: Callable[..., str], *, ports: int = 1, modules: str = ""
) -> Iterator[list[int]]:
    """Run nginx in `folder` until the context ends; give its ports.

    The listening sockets are ours and handed over, so nobody else can take the ports.

    Args:
        http: makes the content of `http` for the ports; relative paths are below `folder`.
        ports: how many it listens on.
        modules: the statements that load modules.
    """
    program = tool("nginx")
    errors = folder / "nginx.errors"
    # A worker of another user could not read a folder of root's.
    user = "user root;" if os.geteuid() == 0 else ""
    with ExitStack() as stack:
        sockets = [
            stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=1024))
            for _ in range(ports)
        ]
        found = [each.getsockname()[1] for each in sockets]
        file = folder / "nginx.conf"
        file.write_text(CONFIGURATION.format(user=user, modules=modules, http=http(*found)))
        descriptors = [each.fileno() for each in sockets]
        process = processes.start(
            [program, "-p", folder, "-c", file],
            errors,
            pass_fds=descriptors,
            start_new_session=True,  # The kernel shares out the processors among sessions.
            env={**os.environ, "NGINX": "".join(f"{each};" for each in descriptors)},
        )
    try:
        yield found
    finally:
        processes.stop(process)
    lines = errors.read_text(encoding="utf-8").splitlines()
    assert [line for line in lines if "inherited sockets" not in line] == []
