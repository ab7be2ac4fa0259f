"""nginx as the push services: TLS, HTTP/1.1 and HTTP/2, answers at once or after 50 ms."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.request import urlopen

import attrs

from node2dm_tw.emulator.files import Endpoints, ensure_files
from node2dm_tw.emulator.settings import PROJECT, EmulatorSettings
from tests.support.nginx import run_nginx

ECHO_MODULE = Path("/usr/lib/nginx/modules/ngx_http_echo_module.so")
CONFIGURATION = Path(__file__).with_suffix(".conf")
FCM_SENT = f"""{{
  "name": "projects/{PROJECT}/messages/0:1795000000000000%31bd1c9631bd1c96"
}}
"""
"""What FCM answers to a push."""

_FCM_TOKEN = "ya29.c." + "x" * 1017
"""As long as Google's often are: it is written out for every push, over HTTP/2 too."""

_SLOW = 'echo_read_request_body; echo_sleep 0.05; echo -n "id=0:1234";'


@attrs.define(eq=False)
class Upstream:
    """A running nginx; `places` has what the clients trust, and with which key they sign in."""

    folder: Path
    places: Endpoints
    status: int
    http1: int
    http2: int
    _questions: int = 0

    def url(self, path: str, *, http2: bool) -> str:
        """Return the URL of a path."""
        return f"https://localhost:{self.http2 if http2 else self.http1}{path}"

    def begin_outage(self) -> None:
        """Answer 503 where outages happen."""
        (self.folder / "outage").touch()

    def end_outage(self) -> None:
        """Answer as before."""
        (self.folder / "outage").unlink(missing_ok=True)

    def requests(self) -> int:
        """Count the requests so far, these questions not included."""
        with urlopen(f"http://127.0.0.1:{self.status}/", timeout=10) as answer:
            numbers = re.findall(rb"\d+", answer.read())
        self._questions += 1
        return int(numbers[3]) - self._questions

    def arrivals(self, since: float) -> list[tuple[float, float]]:
        """List when each datagram was sent and its request arrived, in seconds of one clock.

        nginx logs when it has answered, and cuts to milliseconds: a whole one is added, so the
        arrival is an upper bound.
        """
        lines = (self.folder / "access.log").read_text(encoding="ascii").splitlines()
        entries = [map(float, parts) for line in lines if len(parts := line.split()) == 3]
        found = [(stamp / 1e9, logged - took + 0.001) for stamp, logged, took in entries]
        return [each for each in found if each[0] >= since]


@contextmanager
def run_upstream(folder: Path) -> Iterator[Upstream]:
    """Run nginx until the context ends; without the echo module there are no slow answers."""
    has_echo = ECHO_MODULE.exists()
    values = {"folder": folder, "token": _FCM_TOKEN, "project": PROJECT, "fcm_sent": FCM_SENT}
    values["slow"] = _SLOW if has_echo else "return 404;"
    places: Endpoints

    def configuration(status: int, http1: int, http2: int) -> str:
        nonlocal places
        places = ensure_files(EmulatorSettings(folder), http1)
        values.update(status=status, http1=http1, http2=http2)
        text = CONFIGURATION.read_text(encoding="utf-8")
        return re.sub(r"@(\w+)@", lambda name: str(values[name[1]]), text)

    modules = f"load_module {ECHO_MODULE};" if has_echo else ""
    with run_nginx(folder, configuration, ports=3, modules=modules) as ports:
        yield Upstream(folder, places, *ports)
