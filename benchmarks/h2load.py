"""h2load, the C client that marks the limit."""

import os
import re
import subprocess
from urllib.parse import quote, urlencode

import attrs

from benchmarks.machine import spawn, tool
from benchmarks.pushes import datagram
from benchmarks.upstream import PATHS, Upstream

CONNECTIONS = 64
HEADERS = {
    "Authorization": "GoogleLogin auth=a-token-for-benchmarks-alone",
    "Content-Type": "application/x-www-form-urlencoded;charset=UTF-8",
}
_RATE = re.compile(r"finished in .*?, ([\d.]+) req/s")
_SUCCEEDED = re.compile(r"(\d+) succeeded")


@attrs.frozen
class Run:
    """CPU seconds of a run, user and system, and requests a second."""

    cpu: float
    rate: float


def command(upstream: Upstream, count: int, *, http2: bool) -> list[str]:
    """Give the command that sends `count` requests as the gateway sends them."""
    device, key, payload = datagram(1).split(b":", 2)
    form = {"registration_id": device, "collapse_key": key, "data.data": payload}
    body = upstream.folder / "body.txt"
    body.write_text(urlencode(form, quote_via=quote), encoding="ascii")
    shape = (
        ["--clients=1", f"--max-concurrent-streams={CONNECTIONS}"]
        if http2
        else ["--h1", f"--clients={CONNECTIONS}"]
    )
    url = upstream.url(PATHS[""], http2=http2)
    return [
        *(tool("h2load"), f"--requests={count}", f"--data={body}", *shape),
        *(f"--header={name}: {value}" for name, value in HEADERS.items()),
        url,
    ]


def run(upstream: Upstream, count: int, *, http2: bool) -> Run:
    """Send `count` requests.

    Raises:
        RuntimeError: not all were answered.
    """
    process = spawn(
        "measured",
        command(upstream, count, http2=http2),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        assert process.stdout is not None
        output = process.stdout.read()
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    finally:
        if process.returncode is None:
            process.kill()
            process.wait()
    rate, succeeded = read_output(output)
    if succeeded != count:
        raise RuntimeError(f"h2load: {succeeded} of {count} requests succeeded:\n{output}")
    return Run(used.ru_utime + used.ru_stime, rate)


def read_output(output: str) -> tuple[float, int]:
    """Find requests a second, and how many succeeded; 0 where it is not said."""
    rate, succeeded = _RATE.search(output), _SUCCEEDED.search(output)
    return float(rate[1]) if rate else 0.0, int(succeeded[1]) if succeeded else 0


def cost(upstream: Upstream, count: int, *, http2: bool) -> Run:
    """Measure CPU seconds a request, start and handshakes taken off, and the rate."""
    few = run(upstream, CONNECTIONS, http2=http2)
    many = run(upstream, count, http2=http2)
    return Run((many.cpu - few.cpu) / (count - CONNECTIONS), many.rate)
