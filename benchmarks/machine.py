"""The machine: what it is, what runs on it, and which process has which core."""

import os
import platform
import re
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

CORES = sorted(os.sched_getaffinity(0))

# The one that is measured has the last core; all others share the first.
_PLACES = {"upstream": CORES[0], "load": CORES[0], "measured": CORES[-1]}


def tool(name: str) -> str:
    """Find a command; daemons are often beside the path of a user. Empty: it is not there."""
    return shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin") or ""


def spawn(
    place: str,
    command: Sequence[str | Path],
    environment: Mapping[str, str] | None = None,
    **options: Any,
) -> subprocess.Popen[Any]:
    """Start a command on the core of `place`.

    A signal of the terminal does not reach it; it ends when ours ends, however that ends.

    Args:
        environment: variables beside ours.
        options: of `subprocess.Popen`.
    """
    placed = ("setpriv", "--pdeathsig=TERM", "taskset", "-c", str(_PLACES[place]), *command)
    given = {**os.environ, **(environment or {})}
    return subprocess.Popen(placed, env=given, start_new_session=True, **options)


def description() -> dict[str, str]:
    """Say what was measured on, and with what."""
    options = str(sysconfig.get_config_var("CONFIG_ARGS"))
    optimised = "" if "--enable-optimizations" in options else ", built without PGO"
    return {
        "CPU": f"{_cpu()}, {len(CORES)} cores",
        "kernel": platform.release(),
        "Python": f"{platform.python_version()}{optimised}",
        "packages": ", ".join(_package(name) for name in ("Twisted", "pycurl", "treq")),
        "libcurl": _first_line([sys.executable, "-c", "import pycurl; print(pycurl.version)"]),
        "nginx": _first_line([tool("nginx"), "-v"]).removeprefix("nginx version: "),
        "h2load": _first_line([tool("h2load"), "--version"]).removeprefix("h2load "),
    }


def _cpu() -> str:
    found = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text(encoding="utf-8"))
    return found[1] if found else platform.machine()


def _package(name: str) -> str:
    try:
        return f"{name} {version(name)}"
    except PackageNotFoundError:
        return f"no {name}"


def _first_line(command: list[str]) -> str:
    if not command[0]:
        return "not installed"
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    return next(iter((done.stdout or done.stderr).splitlines()), "")
