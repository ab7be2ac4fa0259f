"""What the environment may change, and how the process fails to start, stops, and ends."""

import atexit
import os
import sys
from collections.abc import Callable, Iterable, Mapping, MutableMapping
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from twisted.internet.defer import Deferred, inlineCallbacks, maybeDeferred
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure

from node2dm_tw.core.logs import logger
from node2dm_tw.delivery.session import LockReason

T = TypeVar("T")
log = logger()

FAILED = 1
"""Exit status: the configuration is wrong, or the start failed."""

STATUS = {LockReason.OVER_QUOTA: 3, LockReason.SIGN_IN_GIVEN_UP: 4}
"""Exit statuses of a process whose every route is locked."""


KEY_LOG = "SSLKEYLOGFILE"
"""The variable that has libcurl write the keys of each TLS connection into a file."""

TRUST = ("SSL_CERT_FILE", "SSL_CERT_DIR")
"""The variables that tell OpenSSL where the platform's certificates are; some need them."""


def drop_key_log(environment: MutableMapping[str, str]) -> list[str]:
    """Stop the keys of TLS from being written down; must be called before libcurl is imported.

    Returns:
        a warning where they would have been.
    """
    if not environment.pop(KEY_LOG, ""):
        return []
    return [f"{KEY_LOG} in the environment is ignored: whoever has those keys can read all tokens"]


class StartFailed(Exception):
    """The gateway cannot run; the text says why, in a line."""

    # Where a daemon was started, twistd prints the first 100 bytes of module, name and text.
    __module__ = "node2dm_tw"


def hide_traceback(kind: type[BaseException], error: BaseException, traceback: Any) -> None:
    """As `sys.excepthook`: say no more of a `StartFailed`, whose line is in the log already."""
    if not issubclass(kind, StartFailed):
        sys.__excepthook__(kind, error, traceback)


def find_unusable_options(options: Mapping[str, Any], user: int) -> list[str]:
    """Say which of twistd's options cannot work.

    twistd itself notices too late: the daemon's log gets a traceback, or it waits for ever.

    Args:
        options: twistd's own.
        user: the ID of this process's user.
    """
    faults = []
    pid_file, run_folder = options.get("pidfile"), Path(options.get("rundir") or ".")
    if options.get("chroot"):
        pid_file, run_folder = "", Path()  # they are looked up where we are not yet
    if pid_file:
        folder = Path(pid_file).absolute().parent
        if not folder.is_dir():
            faults.append(f"twistd --pidfile: {folder} is no folder")
        elif not os.access(folder, os.W_OK | os.X_OK):
            faults.append(f"twistd --pidfile: {folder} cannot be written")
    if not run_folder.is_dir():
        faults.append(f"twistd --rundir: {run_folder} is no folder")
    if user != 0 and (options.get("uid") is not None or options.get("gid") is not None):
        faults.append("twistd --uid, --gid: only root can become another user")
    return faults


def refuse(status: int, *lines: str) -> NoReturn:
    """End the process before it runs, and say why."""
    print(*lines, sep="\n", file=sys.stderr)  # noqa: T201 - no log is open yet
    raise SystemExit(status)


def open_or_fail(what: str, open_it: Callable[[], T | Deferred[T]]) -> T:
    """Open something whose failure ends the start.

    Args:
        what: what it is, for the message.
        open_it: gives the thing, or a Deferred that has fired already.

    Raises:
        StartFailed: it could not be opened.
    """
    try:
        return _result(open_it())
    except CannotListenError as error:
        where = f"{error.interface or '*'}:{error.port}"
        reason = getattr(error.socketError, "strerror", None) or error.socketError
        raise StartFailed(f"{what} cannot listen on {where}: {reason}") from error
    except OSError as error:
        reason = error.strerror or str(error)
        raise StartFailed(f"{what}: {error.filename or 'it'} cannot be used: {reason}") from error
    except ValueError as error:
        raise StartFailed(f"{what}: {error}") from error


def _result(value: T | Deferred[T]) -> T:
    if not isinstance(value, Deferred):
        return value
    results: list[T | Failure] = []
    value.addBoth(results.append)
    if not results:
        raise RuntimeError("what the start opens must be open at once")
    (result,) = results
    if isinstance(result, Failure):
        result.raiseException()
    return result


def set_exit_status(status: int) -> None:
    """End with `status` once everything else is over; twistd alone cannot. The last one counts."""

    def leave() -> None:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)

    atexit.register(leave)


ShutdownStep = tuple[str, Callable[[], object]]
"""What a step does, for the log, and the call that does it; it may return a Deferred."""


@inlineCallbacks
def run_shutdown_steps(steps: Iterable[ShutdownStep], clock: IReactorTime, timeout: float) -> Any:
    """Run every step, one after the other, whatever becomes of those before it.

    Args:
        timeout: seconds after which a step is given up.

    Returns:
        A Deferred of whether all went well. It never fails.
    """
    is_complete = True
    for name, step in steps:
        try:
            yield maybeDeferred(step).addTimeout(timeout, clock)
        except OSError as error:
            log.critical("stop: cannot {step}: {error}", step=name, error=str(error))
            is_complete = False
        except Exception:  # noqa: BLE001 - whatever it is, the other steps must run
            log.failure("stop: {step} failed", step=name)
            is_complete = False
    return is_complete
