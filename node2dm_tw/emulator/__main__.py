"""``python -m node2dm_tw.emulator``: an emulator for a test, gone when its standard input ends.

It writes one line of JSON with its URLs and files once it listens, and its log to standard error.
"""

import argparse
import json
import resource
import sys
import time
from pathlib import Path
from typing import Any

import attrs
from twisted.internet import stdio
from twisted.internet.error import CannotListenError
from twisted.internet.protocol import Protocol, connectionDone
from twisted.logger import globalLogBeginner, textFileLogObserver
from twisted.python.failure import Failure

from node2dm_tw.emulator.service import EmulatorService
from node2dm_tw.emulator.settings import EmulatorSettings, read_section


class _Parent(Protocol):
    """The other end of standard input."""

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if self._reactor.running:
            self._reactor.stop()


def main() -> int:
    """Run until standard input ends or a signal comes."""
    settings = _settings()
    globalLogBeginner.beginLoggingTo([textFileLogObserver(sys.stderr)], redirectStandardIO=False)
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    from twisted.internet import reactor

    loop: Any = reactor
    service = EmulatorService(loop, settings, time.time)
    try:
        service.startService()
    except (CannotListenError, OSError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    loop.addSystemEventTrigger("before", "shutdown", service.stopService)
    shown = {name: str(value) for name, value in attrs.asdict(service.places).items()}
    sys.stdout.write(json.dumps(shown) + "\n")
    sys.stdout.flush()
    loop.callWhenRunning(stdio.StandardIO, _Parent(loop))
    loop.run()
    return 0


def _settings() -> EmulatorSettings:
    parser = argparse.ArgumentParser(prog="python -m node2dm_tw.emulator", description=__doc__)
    parser.add_argument("--state-dir", type=Path, required=True)
    for option in ("listen", "phones", "accounts-file", "sender-quota", "device-quota"):
        parser.add_argument(f"--{option}", default="", help="as in the configuration file")
    given = vars(parser.parse_args())
    state_dir = given.pop("state_dir")
    section = {name: text for name, text in given.items() if text}
    settings, faults = read_section(section, state_dir, Path.cwd())
    if settings is None:
        parser.error("; ".join(f"{option}: {wanted}" for option, wanted in faults))
    return settings


if __name__ == "__main__":
    sys.exit(main())
