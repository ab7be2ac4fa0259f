"""Logging: text or JSON lines, levels by part, repetition held back, nothing secret."""

import json
import os
import signal
import sys
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, TextIO

import attrs
from twisted.internet.interfaces import IReactorTime
from twisted.logger import (
    FileLogObserver,
    FilteringLogObserver,
    ILogObserver,
    LogEvent,
    Logger,
    LogLevel,
    LogLevelFilterPredicate,
    formatEvent,
    globalLogPublisher,
)
from twisted.python.failure import Failure
from twisted.python.logfile import LogFile

LEVELS = ("debug", "info", "warn", "error", "critical")
FORMATS = ("text", "json")
PARTS = (
    "admin",
    "callbacks",
    "delivery",
    "http",
    "intake",
    "providers",
    "queues",
    "service",
)
"""Parts of the gateway that may have a level of their own."""

_PACKAGE = "node2dm_tw"

_levels = LogLevelFilterPredicate(defaultLogLevel=LogLevel.info)
_filtered = FilteringLogObserver(globalLogPublisher, [_levels])


def logger() -> Logger:
    """Make the logger of the calling module; its lines obey `set_level`."""
    namespace = sys._getframe(1).f_globals["__name__"]
    return Logger(namespace, observer=_filtered)


def parse_levels(text: str) -> tuple[str, dict[str, str]]:
    """Read ``info, delivery=debug``: the level of all, and those of parts that differ.

    Raises:
        ValueError: says what is wanted.
    """
    general, *others = (word.strip() for word in text.split(","))
    pairs = [(part, level) for part, _, level in (word.partition("=") for word in others)]
    parts = dict(pairs)
    if not {general, *parts.values()} <= set(LEVELS) or not parts.keys() <= set(PARTS):
        raise ValueError(
            f"one of {', '.join(LEVELS)}; then PART=LEVEL for parts that differ,"
            f" of {', '.join(PARTS)}"
        )
    if len(parts) != len(pairs):
        raise ValueError("each part once")
    return general, parts


def set_level(text: str) -> None:
    """Drop what is below the level that `parse_levels` reads of this, from now on."""
    general, parts = parse_levels(text)
    _levels.clearLogLevels()
    _levels.setLogLevelForNamespace(_PACKAGE, LogLevel.levelWithName(general))
    for part, level in parts.items():
        _levels.setLogLevelForNamespace(f"{_PACKAGE}.{part}", LogLevel.levelWithName(level))


def shorten(device: bytes) -> str:
    """A registration ID as a log may show it: enough to find it, too little to use it."""
    text = device.decode("utf-8", "replace")
    return text if len(text) <= 12 else f"{text[:10]}..."


def as_json_line(event: LogEvent) -> str:
    """Render an event as a JSON object on a line of its own.

    It has the time, the level, the part, the message and, as `event`, the message before its
    values were put in; then those values by name.
    """
    level = event.get("log_level") or LogLevel.info
    line: dict[str, Any] = {
        "time": datetime.fromtimestamp(event["log_time"], UTC).isoformat(timespec="milliseconds"),
        "level": level.name,
        "logger": event.get("log_namespace", ""),
        "message": formatEvent(event),
        "event": event.get("log_event") or event.get("log_format") or "",
    }
    for name, value in event.items():
        if not name.startswith("log_") and isinstance(value, str | int | float):
            line.setdefault(name, value)
    failure = event.get("log_failure")
    if failure is not None:
        line["traceback"] = failure.getTraceback()
    return json.dumps(line, ensure_ascii=False) + "\n"


Soon = Callable[[Callable[[], Any]], Any]
"""Has something called by the reactor; may be called from a signal handler."""


def json_observer(options: Mapping[str, Any], soon: Soon) -> ILogObserver:
    """Make an observer that writes JSON lines to where twistd would write its own.

    Args:
        options: twistd's own, which say where its log goes: a file that rotates, or stdout.
        soon: for the rotation on SIGUSR1.
    """
    name = options["logfile"] or ("-" if options["nodaemon"] else "twistd.log")
    return FileLogObserver(sys.stdout if name == "-" else _rotating(name, soon), as_json_line)


def _rotating(name: str, soon: Soon) -> TextIO:
    """Open a log file that rotates as twistd's does: by size, and on SIGUSR1."""
    file: Any = LogFile.fromFullPath(os.path.abspath(name))  # noqa: PTH100 - what LogFile takes
    if signal.getsignal(signal.SIGUSR1) in (signal.SIG_DFL, None):
        signal.signal(signal.SIGUSR1, lambda *_: soon(file.rotate))
    opened: TextIO = file
    return opened


MAX_KEYS = 100
"""Keys that a `Throttle` tells apart; further ones of a format share one line a second."""

KEY_SECONDS = 60.0
"""Seconds after its last line at which a key may be forgotten in favour of another one."""

MAX_KEY_LENGTH = 200
"""Characters of a key that are compared: others may choose it."""


@attrs.define(eq=False)
class _Repeated:
    """Lines of one format and key: when the next one may be logged, and how many were not."""

    next: float
    held_back: int = 0


@attrs.define(eq=False)
class Throttle:
    """Logs one line a second for each format and key, with the number of lines left out before.

    Args:
        log: where the lines go.
        clock: monotonic seconds.
    """

    log: Logger
    clock: IReactorTime
    _repeated: dict[tuple[str, str | None], _Repeated] = attrs.field(factory=dict, init=False)
    _forgot_at: float = attrs.field(default=float("-inf"), init=False)

    def warn(self, format: str, *, key: str = "", **values: Any) -> None:  # noqa: A002 - as Logger
        """Log a warning, unless one of this format and `key` was logged less than a second ago.

        Args:
            format: as `Logger.warn` takes it.
            key: tells lines of one format apart, so that none hides another: a reason, a route.
            values: what the format names.
        """
        more = self._admit(format, key)
        if more is not None:
            self.log.warn(format + more, log_event=format, **values)

    def failure(self, format: str, failure: Failure | None = None, **values: Any) -> None:  # noqa: A002
        """Log a failure with its traceback at most once a second, as `warn` does."""
        more = self._admit(format, "")
        if more is not None:
            self.log.failure(format + more, failure, log_event=format, **values)

    def _admit(self, line: str, key: str) -> str | None:
        """Return what to add to a line that may be logged, None for one that is left out."""
        now = self.clock.seconds()
        repeated = self._find(line, key[:MAX_KEY_LENGTH], now)
        if now < repeated.next:
            repeated.held_back += 1
            return None
        held_back, repeated.held_back = repeated.held_back, 0
        repeated.next = now + 1.0
        return f" ({held_back} more like it were not logged)" if held_back else ""

    def _find(self, line: str, key: str | None, now: float) -> _Repeated:
        repeated = self._repeated.get((line, key))
        if repeated is None:
            if key is not None and len(self._repeated) >= MAX_KEYS and not self._forget(now):
                return self._find(line, None, now)
            repeated = self._repeated[line, key] = _Repeated(now)
        return repeated

    def _forget(self, now: float) -> bool:
        """Forget the keys that have had no line for long; return whether there were any."""
        if now < self._forgot_at + 1.0:
            return False
        self._forgot_at = now
        old = [key for key, each in self._repeated.items() if each.next + KEY_SECONDS <= now]
        for key in old:
            del self._repeated[key]
        return bool(old)
