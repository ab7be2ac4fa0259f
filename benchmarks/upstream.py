"""nginx as the push services: TLS, HTTP/1.1 and HTTP/2, answers at once or after 50 ms."""

import os
import re
import socket
import socketserver
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

import attrs

from benchmarks.machine import spawn, tool
from benchmarks.waiting import wait_until
from node2dm_tw.emulator.certificates import PROJECT, Places, prepare
from node2dm_tw.emulator.settings import EmulatorSettings

DELAY = 0.05
"""Seconds after which the slow variant answers."""

LOGIN = "/accounts/ClientLogin"
PATHS = {"": "/c2dm/send", "slow": "/slow/c2dm/send", "outage": "/outage/c2dm/send"}
"""What answers at once, after `DELAY`, and with 503 while there is an outage."""

_CONFIGURATION = """
daemon off;
{user}
worker_processes 1;
worker_rlimit_nofile 8192;
pid {folder}/nginx.pid;
error_log {folder}/error.log crit;
{modules}
events {{ worker_connections 4096; }}
http {{
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    client_body_buffer_size 16k;
    keepalive_requests 1000000000;
    keepalive_timeout 3600;
    ssl_certificate {folder}/emulator/server.pem;
    ssl_certificate_key {folder}/emulator/server.pem;
    map $request_body $stamp {{ default ""; "~stamp_(?<moment>[0-9]+)" $moment; }}
    log_format arrivals '$stamp $msec $request_time';
    access_log off;
    server {{
        listen unix:{folder}/status;
        location / {{ stub_status; }}
    }}
    server {{
        listen 127.0.0.1:{http1} ssl;
        listen 127.0.0.1:{http2} ssl http2;
        location = /accounts/ClientLogin {{
            proxy_pass http://127.0.0.1:{gate};
            proxy_read_timeout 1h;
        }}
        location = /c2dm/send {{ return 200 "id=0:1234"; }}
        location = /outage/c2dm/send {{
            if (-f {folder}/outage) {{
                add_header Retry-After 1 always;
                return 503;
            }}
            return 200 "id=0:1234";
        }}
        {slow}
        location = /token {{
            return 200 '{{"access_token":"{token}","expires_in":3599,"token_type":"Bearer"}}';
        }}
        location = /v1/projects/{project}/messages:send {{ return 200 '{fcm_sent}'; }}
    }}
}}
"""

_SLOW = """
        location = /slow/c2dm/send {{
            access_log {folder}/access.log arrivals buffer=64k flush=1s;
            echo_read_request_body;
            echo_sleep {delay};
            echo -n "id=0:1234";
        }}
"""

_ANSWER = b"HTTP/1.0 200 OK\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n\r\n%b" % (
    len(body := b"SID=none\nLSID=none\nAuth=a-token-for-benchmarks-alone\n"),
    body,
)
FCM_SENT = f"""{{
  "name": "projects/{PROJECT}/messages/0:1795000000000000%31bd1c9631bd1c96"
}}
"""
"""What FCM answers to a push."""

_FCM_TOKEN = "ya29.c." + "x" * 1017
"""As long as Google's often are: it is written out for every push, over HTTP/2 too."""

_REQUESTS = re.compile(rb"\n \d+ \d+ (\d+) \n")


class _Gate(socketserver.ThreadingTCPServer):
    """Answers sign-ins, once it is opened."""

    daemon_threads = True

    def __init__(self) -> None:
        self.opened = threading.Event()
        self.opened.set()
        super().__init__(("127.0.0.1", 0), _SignIn)


class _SignIn(socketserver.BaseRequestHandler):
    server: _Gate

    def handle(self) -> None:
        """Read the request, which is short; keep it waiting; answer."""
        self.request.recv(65_536)
        self.server.opened.wait()
        self.request.sendall(_ANSWER)


@attrs.define(eq=False)
class Upstream:
    """A running nginx, on a core of its own.

    Args:
        folder: where its files are.
        echo_module: nginx's echo module, without which there are no slow answers.

    Attributes:
        places: what the clients trust, and with which key they sign in to FCM.
    """

    folder: Path
    echo_module: Path | None
    http1: int = attrs.field(default=0, init=False)
    http2: int = attrs.field(default=0, init=False)
    places: Places = attrs.field(init=False)
    _questions: int = attrs.field(default=0, init=False)
    _gate: _Gate = attrs.field(init=False)
    _process: subprocess.Popen[bytes] = attrs.field(init=False)

    def __enter__(self) -> "Upstream":
        self._gate = _Gate()
        threading.Thread(target=self._gate.serve_forever, args=(0.1,), daemon=True).start()
        # The listening sockets are ours and handed over, so nobody else can take the ports.
        sockets = [socket.create_server(("127.0.0.1", 0), backlog=1024) for _ in range(2)]
        self.http1, self.http2 = (each.getsockname()[1] for each in sockets)
        self.places = prepare(EmulatorSettings(self.folder), self.http1)
        file = self.folder / "nginx.conf"
        file.write_text(self._configuration(), encoding="utf-8")
        descriptors = [each.fileno() for each in sockets]
        with (self.folder / "error.log").open("ab") as errors:
            self._process = spawn(
                "upstream",
                [tool("nginx"), "-p", self.folder, "-c", file],
                {"NGINX": "".join(f"{each};" for each in descriptors)},
                pass_fds=descriptors,
                stderr=errors,
            )
        for each in sockets:
            each.close()
        wait_until(self._is_up, "nginx is up", 10)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        where: TracebackType | None,
    ) -> None:
        self._gate.opened.set()
        self._gate.shutdown()
        self._gate.server_close()
        self._process.terminate()
        self._process.wait(10)

    @property
    def pid(self) -> int:
        """The process ID of nginx's master."""
        return self._process.pid

    @property
    def access_log(self) -> Path:
        """A line for each slow answer: stamp in the request, moment of the log, request time."""
        return self.folder / "access.log"

    def url(self, path: str, *, http2: bool) -> str:
        """Give the URL of a path."""
        return f"https://localhost:{self.http2 if http2 else self.http1}{path}"

    def begin_outage(self) -> None:
        """Answer 503 where outages happen."""
        (self.folder / "outage").touch()

    def end_outage(self) -> None:
        """Answer as ever."""
        (self.folder / "outage").unlink(missing_ok=True)

    def close_gate(self) -> None:
        """Leave sign-ins unanswered from now on."""
        self._gate.opened.clear()

    def open_gate(self) -> None:
        """Answer sign-ins."""
        self._gate.opened.set()

    def requests(self) -> int:
        """Count requests so far, this question and those before it not included."""
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(10)
            connection.connect(str(self.folder / "status"))
            connection.sendall(b"GET / HTTP/1.0\r\n\r\n")
            answer = b""
            while chunk := connection.recv(4096):
                answer += chunk
        found = _REQUESTS.search(answer)
        if found is None:
            raise RuntimeError(f"not the status of nginx: {answer!r}")
        self._questions += 1
        return int(found[1]) - self._questions

    def _is_up(self) -> bool:
        if self._process.poll() is not None:
            errors = (self.folder / "error.log").read_text(encoding="utf-8")
            raise RuntimeError(f"nginx has ended: {errors}")
        return (self.folder / "nginx.pid").exists() and _succeeds(self.requests)

    def _configuration(self) -> str:
        slow = _SLOW.format(folder=self.folder, delay=DELAY) if self.echo_module else ""
        modules = f"load_module {self.echo_module};" if self.echo_module else ""
        return _CONFIGURATION.format(
            folder=self.folder,
            # nginx that root starts would become another user, to whom our folder is closed.
            user="user root;" if os.geteuid() == 0 else "",
            modules=modules,
            slow=slow,
            http1=self.http1,
            http2=self.http2,
            project=PROJECT,
            token=_FCM_TOKEN,
            fcm_sent=FCM_SENT,
            gate=self._gate.server_address[1],
        )


def _succeeds(question: Callable[[], int]) -> bool:
    try:
        question()
    except OSError:
        return False
    return True
