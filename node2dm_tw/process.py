"""How the process fails to start, and how it ends with a status of its own."""

import atexit
import os
import sys
from collections.abc import Callable
from typing import Any, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.error import CannotListenError
from twisted.python.failure import Failure

T = TypeVar("T")

FAILED = 1
"""Exit status: the configuration is wrong, or the start failed."""


class StartFailed(Exception):
    """The gateway cannot run; the text says why, in a line."""


def opened(what: str, open_it: Callable[[], T | Deferred[T]]) -> T:
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


def exit_with(status: int, reactor: Any) -> None:
    """Stop the reactor, its services in order, and end with `status`; twistd alone cannot."""

    def leave() -> None:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)

    atexit.register(leave)
    reactor.callWhenRunning(reactor.stop)
