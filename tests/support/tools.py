"""The programs that tests call: `tool` finds one, and this file as a program installs them all.

It runs with the standard library alone: `make test` calls it before anything is installed.
"""

import fcntl
import importlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import NoReturn

PROGRAMS = {
    "chromedriver": "chromium-driver",
    "chromium": "chromium",
    "curl": "curl",
    "faketime": "faketime",
    "jq": "jq",
    "logrotate": "logrotate",
    "nc": "netcat-openbsd",
    "nginx": "nginx-light",
    "promtool": "prometheus",
    "rsyslogd": "rsyslog",
    "sqlite3": "sqlite3",
}
"""Each program, and the package of Debian that has it."""

FILES = {
    "/etc/ssl/certs/ca-certificates.crt": "ca-certificates",
    "/usr/share/fonts/truetype/dejavu/DejaVuSans.ttf": "fonts-dejavu-core",
}
"""Each file that a program needs, and the package of Debian that has it."""

IS_CI = os.environ.get("CI") == "true"


def find(name: str) -> str | None:
    """Find a program; an ordinary user of Debian has no /usr/sbin in PATH, where nginx is."""
    return shutil.which(name, path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin")


def tool(name: str) -> str:
    """Return the path of a program; without it the test is skipped, but fails under CI=true."""
    return find(name) or _cannot_test(f"{name} is not installed (Debian: {PROGRAMS[name]})")


def module(name: str) -> ModuleType:
    """Import an optional module; without it the test is skipped, but fails under CI=true."""
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError:
        _cannot_test(f"the module {name} is not installed")


def _cannot_test(reason: str) -> NoReturn:
    import pytest

    if IS_CI:
        pytest.fail(reason)
    pytest.skip(reason, allow_module_level=True)


def missing() -> dict[str, str]:
    """Return the programs and files that are not here, with their packages."""
    programs = {name: package for name, package in PROGRAMS.items() if find(name) is None}
    return programs | {name: package for name, package in FILES.items() if not Path(name).exists()}


def install(packages: list[str]) -> None:
    """Install packages of Debian."""
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    command = ["apt-get", "--yes", "--quiet", "--no-install-recommends"]
    subprocess.run([*command, "update"], check=True, env=environment)
    with services_off():
        subprocess.run([*command, "install", *packages], check=True, env=environment)


@contextmanager
def services_off() -> Iterator[None]:
    """Keep Debian from starting the servers it installs; a rule that is there already stays."""
    rule = Path("/usr/sbin/policy-rc.d")
    if rule.exists():
        yield
        return
    rule.write_text("#!/bin/sh\nexit 101\n", encoding="ascii")
    rule.chmod(0o755)
    try:
        yield
    finally:
        rule.unlink()


def main() -> int:
    """Install what is missing if this is Debian and we are root; otherwise name it."""
    debian = Path("/etc/debian_version")
    if missing() and debian.exists() and os.geteuid() == 0:
        with debian.open() as lock:
            # Two may run at once, and `apt-get update` does not wait for another.
            fcntl.flock(lock, fcntl.LOCK_EX)
            try:
                install(sorted(missing().values()))
            except (OSError, subprocess.CalledProcessError) as error:
                sys.stderr.write(f"{error}\n")
    if left := missing():
        sys.stderr.write(
            f"Not installed, so their tests are skipped: {', '.join(left)}\n"
            f"On Debian: apt-get install {' '.join(sorted(left.values()))}\n"
        )
    return 1 if left and IS_CI else 0


if __name__ == "__main__":
    sys.exit(main())
