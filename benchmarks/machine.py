"""The machine: what it is, what is installed, and which process has which core."""

import os
import platform
import re
import subprocess
import sys
from collections.abc import Collection
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

from benchmarks.upstream import ECHO_MODULE
from tests.support.tools import find

CORES = sorted(os.sched_getaffinity(0))

MEASURED = ("setsid", "taskset", "-c", str(CORES[-1]))
"""Puts what is measured on the last core, and in a session, to which the kernel is fair."""


def missing_requirements(parts: Collection[str]) -> list[str]:
    """List what is not there though `parts` need it, and how to install it."""
    always, compared = set(parts), {"cpu", "instructions"}
    found = [
        (find("nginx"), always, "nginx: apt-get install nginx-light"),
        (find_spec("pycurl"), always, "pycurl: pip install '.[curl]'"),
        (find_spec("jwt"), compared, "PyJWT: pip install '.[fcm]'"),
        (find("h2load"), compared, "h2load: apt-get install nghttp2-client"),
        (ECHO_MODULE.exists(), {"latency"}, "echo: apt-get install libnginx-mod-http-echo"),
        (find("valgrind"), {"instructions", "depth", "steps"}, "apt-get install valgrind"),
        (len(CORES) > 1, always, "a machine with two processor cores"),
    ]
    return [remedy for is_there, needing, remedy in found if needing & set(parts) and not is_there]


def description() -> dict[str, str]:
    """Say what was measured on, and with what."""
    cpu = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text(encoding="utf-8"))
    return {
        "CPU": f"{cpu[1] if cpu else platform.machine()}, {len(CORES)} cores",
        "kernel": platform.release(),
        "Python": sys.version.partition("\n")[0],
        "packages": ", ".join(f"{name} {version(name)}" for name in ("Twisted", "pycurl", "treq")),
        "libcurl": _first_line(sys.executable, "-c", "import pycurl; print(pycurl.version)"),
        "nginx": _first_line(find("nginx"), "-v"),
        "h2load": _first_line(find("h2load"), "--version"),
    }


def _first_line(program: str | None, *arguments: str) -> str:
    command = [program or "true", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return (done.stdout or done.stderr).partition("\n")[0]
