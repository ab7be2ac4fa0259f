"""The emulator as a process of its own: ``twistd c2dm-emulator``, or one for a test."""

import atexit
import json
import os
import resource
import sys
import time
from pathlib import Path
from typing import Any, NoReturn, cast

import attrs
from twisted.application.service import IService
from twisted.internet import stdio
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IReactorCore
from twisted.internet.protocol import Protocol, connectionDone
from twisted.logger import Logger, globalLogBeginner, textFileLogObserver
from twisted.python import usage
from twisted.python.failure import Failure

from node2dm_tw.config import ini
from node2dm_tw.config.ini import ConfigErrors
from node2dm_tw.emulator.files import ensure_files
from node2dm_tw.emulator.server.service import EmulatorService, IEmulatorReactor
from node2dm_tw.emulator.settings import EmulatorSettings, read_section

_log = Logger()


class Options(usage.Options):
    """The command line of ``twistd c2dm-emulator``."""

    synopsis = "[options]"
    longdesc = (
        "Emulates C2DM, ClientLogin, FCM HTTP v1 and phones over TLS. Reads [emulator], and "
        "state_dir of [node2dm], from the configuration; other sections are ignored, so the "
        "gateway's file can be used."
    )
    optParameters = [  # noqa: RUF012
        ["config", "c", None, "INI file; without one the defaults hold."]
    ]

    settings: EmulatorSettings

    def postOptions(self) -> None:
        """Read the configuration and make the files, before twistd changes the directory.

        Raises:
            UsageError: all errors of the file, one a line.
        """
        path = self["config"]
        self.settings = EmulatorSettings(Path.cwd()) if path is None else read(Path(path))
        try:
            ensure_files(self.settings)
        except OSError as error:
            raise usage.UsageError(f"[node2dm] state_dir: {error}") from error


def read(path: Path) -> EmulatorSettings:
    """Read a configuration file.

    Raises:
        UsageError: all errors of the file.
    """
    path = path.absolute()
    try:
        parser = ini.read(path)
    except ConfigErrors as error:
        raise usage.UsageError(str(error)) from error
    state = parser.get("node2dm", "state_dir", fallback="").strip()
    state_dir = path.parent / state if state else Path.cwd()
    section = dict(parser["emulator"]) if parser.has_section("emulator") else {}
    settings, errors = read_section(section, state_dir, path.parent)
    if settings is None:
        raise usage.UsageError("\n".join(errors))
    return settings


class _Foreground(EmulatorService):
    """Exits with a line and status 1; the parent of a daemon gets the exception instead."""

    _failed = False

    def listen(self) -> None:
        # It is called twice: as root, and after the privileges are dropped.
        if self._failed:
            return
        try:
            super().listen()
        except (CannotListenError, OSError) as error:
            _log.critical("the emulator cannot start: {error}", error=str(error))
            self._failed = True
            # An exception would print a traceback; exiting here would leave the PID file.
            atexit.register(_exit_with_failure)
            self.reactor.callWhenRunning(self.reactor.stop)


def _exit_with_failure() -> NoReturn:
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(1)


def makeService(options: Options) -> IService:
    """Make the service that twistd runs."""
    from twisted.internet import reactor

    foreground = options.parent is not None and options.parent["nodaemon"]
    kind = _Foreground if foreground else EmulatorService
    return kind(cast(IEmulatorReactor, reactor), options.settings, time.time)


class _Parent(Protocol):
    """Stops the reactor when standard input ends."""

    def __init__(self, reactor: IReactorCore) -> None:
        self._reactor = reactor

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if self._reactor.running:
            self._reactor.stop()


def run_until_input_ends(settings: EmulatorSettings) -> int:
    """Run without twistd; print the endpoints as a line of JSON; return the exit status."""
    globalLogBeginner.beginLoggingTo([textFileLogObserver(sys.stderr)], redirectStandardIO=False)
    # Each connected phone needs a descriptor.
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    from twisted.internet import reactor

    loop = cast(IEmulatorReactor, reactor)
    service = EmulatorService(loop, settings, time.time)
    try:
        service.startService()
        # A metadata server has no TLS.
        metadata: Any = cast(Any, reactor).listenTCP(0, service.factory, interface="127.0.0.1")
    except (CannotListenError, OSError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    loop.addSystemEventTrigger("before", "shutdown", service.stopService)
    shown = {name: str(value) for name, value in attrs.asdict(service.endpoints).items()}
    shown["metadata_host"] = f"127.0.0.1:{metadata.getHost().port}"
    sys.stdout.write(json.dumps(shown) + "\n")
    sys.stdout.flush()
    loop.callWhenRunning(stdio.StandardIO, _Parent(loop))
    loop.run()
    return 0
