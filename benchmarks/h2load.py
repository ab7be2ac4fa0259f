"""h2load, the C client that marks the limit."""

import re
import subprocess
from resource import RUSAGE_CHILDREN, getrusage
from urllib.parse import quote, urlencode

from benchmarks.gateway import CURL1, CURL2, FCM2, TREQ
from benchmarks.machine import MEASURED
from benchmarks.pushes import datagram
from benchmarks.upstream import Upstream

H2LOAD1, H2LOAD2 = "h2load, HTTP/1.1", "h2load, HTTP/2"
LIMITS = {CURL1: H2LOAD1, CURL2: H2LOAD2, FCM2: H2LOAD2, TREQ: H2LOAD1}
"""To which of the two each subject is compared."""

CONNECTIONS = 64
HEADERS = (
    "--header=Authorization: GoogleLogin auth=a-token-for-benchmarks-alone",
    "--header=Content-Type: application/x-www-form-urlencoded;charset=UTF-8",
)


def command(upstream: Upstream, count: int, name: str) -> list[str]:
    """Give the command that sends `count` requests as the gateway sends them."""
    device, key, payload = datagram(1).split(b":", 2)
    form = {"registration_id": device, "collapse_key": key, "data.data": payload}
    body = upstream.folder / "body.txt"
    body.write_text(urlencode(form, quote_via=quote), encoding="ascii")
    http2 = name == H2LOAD2
    shape = ["-c1", f"-m{CONNECTIONS}"] if http2 else ["--h1", f"-c{CONNECTIONS}"]
    url = upstream.url("/c2dm/send", http2=http2)
    return ["h2load", f"--requests={count}", f"--data={body}", *shape, *HEADERS, url]


def cost(upstream: Upstream, count: int, name: str) -> tuple[float, float]:
    """Measure seconds of CPU a request, start and handshakes taken off, and requests a second."""
    few, _ = _run(upstream, CONNECTIONS, name)
    many, rate = _run(upstream, count, name)
    return (many - few) / (count - CONNECTIONS), rate


def _run(upstream: Upstream, count: int, name: str) -> tuple[float, float]:
    """Send `count` requests; give seconds of CPU in all, user and system, and the rate."""
    before = getrusage(RUSAGE_CHILDREN)
    done = subprocess.run(
        [*MEASURED, *command(upstream, count, name)], capture_output=True, text=True, check=True
    )
    after = getrusage(RUSAGE_CHILDREN)
    if f" {count} succeeded" not in done.stdout:
        raise RuntimeError(f"h2load: not all requests succeeded:\n{done.stdout}")
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return used, float(re.findall(r"finished in .*?, ([\d.]+) req/s", done.stdout)[0])
