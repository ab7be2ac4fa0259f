"""Logging: text or JSON lines, levels by part, repetition held back, nothing secret."""

import json
import os
import re
import signal
import sys
from collections import Counter
from collections.abc import Callable, Hashable, Mapping
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
from twisted.python.logfile import LogFile

LEVELS = ("debug", "info", "warn", "error", "critical")
FORMATS = ("text", "json")
PARTS = (
    "admin",
    "delivery",
    "feedback",
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


_INVISIBLE = re.compile(
    "[\x00-\x1f\x7f-\x9f\xad\u0600-\u0605\u061c\u06dd\u070f\u0890\u0891\u08e2\u180e"
    "\u200b-\u200f\u2028-\u202e\u2060-\u206f\ud800-\udfff\ufeff\ufff9-\ufffb"
    "\U000110bd\U000110cd\U00013430-\U0001343f\U0001bca0-\U0001bca3\U0001d173-\U0001d17a"
    "\U000e0001\U000e0020-\U000e007f]"
)
"""Control and format characters, line and paragraph separators (Cc, Cf, Zl, Zp), and surrogates."""


def escape_controls(text: str) -> str:
    r"""Make characters visible that act on a terminal or hide: ESC becomes ``\x1b``, and so on.

    The text then fits on one line, and shows in the order in which it is stored.
    """
    return text if text.isprintable() else _INVISIBLE.sub(_as_escape, text)


def _as_escape(found: re.Match[str]) -> str:
    number = ord(found[0])
    if number < 0x100:
        return f"\\x{number:02x}"
    return f"\\u{number:04x}" if number < 0x10000 else f"\\U{number:08x}"


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


@attrs.define(eq=False)
class Throttle:
    """Lets one line of a kind through each second and says how many it held back.

    Args:
        log: where the lines go.
        clock: monotonic seconds.
    """

    log: Logger
    clock: IReactorTime
    _next: dict[Hashable, float] = attrs.field(factory=dict, init=False)
    _held_back: Counter[Hashable] = attrs.field(factory=Counter, init=False)

    def warn(self, format: str, *, key: Hashable = None, **values: Any) -> None:  # noqa: A002
        """Log a warning, or hold it back where one of this format and key was just logged."""
        now = self.clock.seconds()
        kind = (format, key)
        if now < self._next.get(kind, 0.0):
            self._held_back[kind] += 1
            return
        held_back = self._held_back.pop(kind, 0)
        more = f" ({held_back} more like it were not logged)" if held_back else ""
        self._next[kind] = now + 1.0
        self.log.warn(format + more, log_event=format, **values)
