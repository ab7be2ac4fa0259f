"""What the benchmark needs, and how to get what is missing."""

import importlib.util
from pathlib import Path

import attrs

from benchmarks import perf_events
from benchmarks.machine import CORES, tool

ECHO_MODULE = Path("/usr/lib/nginx/modules/ngx_http_echo_module.so")


@attrs.frozen
class Need:
    """Something that must be there.

    Args:
        name: of it.
        parts: of the benchmark that need it; empty: all.
        remedy: what installs it.
        is_there: whether it is.
    """

    name: str
    parts: tuple[str, ...]
    remedy: str
    is_there: bool

    def wanted_by(self, parts: tuple[str, ...]) -> bool:
        """Tell whether one of `parts` needs it."""
        return not self.parts or any(part in self.parts for part in parts)


def needs(node2dm: Path | None) -> list[Need]:
    """Look what is there. `node2dm` is the checkout to measure as well, if any."""
    counted = perf_events.is_supported() or bool(tool("valgrind") and tool("callgrind_control"))
    found = [
        Need("nginx", (), "apt-get install nginx-light", bool(tool("nginx"))),
        Need("pycurl", (), "pip install '.[curl]'", _has_module("pycurl")),
        Need("PyJWT", ("cpu", "instructions"), "pip install '.[fcm]'", _has_module("jwt")),
        Need("h2load", ("cpu", "instructions"), "apt-get install nghttp2-client", _has("h2load")),
        Need(
            "nginx's echo module",
            ("latency",),
            "apt-get install libnginx-mod-http-echo",
            ECHO_MODULE.exists(),
        ),
        Need(
            "a counter of instructions (perf events, or valgrind)",
            ("instructions", "depth", "steps"),
            "apt-get install valgrind",
            counted,
        ),
        Need(
            "setpriv and taskset",
            (),
            "apt-get install util-linux",
            _has("setpriv") and _has("taskset"),
        ),
        Need("two processor cores", (), "a machine that has them", len(CORES) > 1),
    ]
    if node2dm is not None:
        found.append(Need("node", ("cpu",), "apt-get install nodejs", _has("node")))
    return found


def _has(command: str) -> bool:
    return bool(tool(command))


def _has_module(name: str) -> bool:
    return importlib.util.find_spec(name) is not None
