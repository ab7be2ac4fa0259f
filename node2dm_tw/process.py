"""What the environment may change, how the start fails, how the process ends with a status."""

import atexit
import os
import sys
from collections.abc import Callable, MutableMapping
from typing import Any, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.error import CannotListenError
from twisted.python.failure import Failure

T = TypeVar("T")

FAILED = 1
"""Exit status: the configuration is wrong, or the start failed."""


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
