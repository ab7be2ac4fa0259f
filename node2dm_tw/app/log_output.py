"""How log lines look, text or JSON, and where they go: a file, standard output or syslog."""

import json
import os
import signal
import stat
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import attrs
from twisted.logger import (
    ILogObserver,
    LogEvent,
    LogLevel,
    eventAsText,
    formatEvent,
    formatTime,
)
from twisted.python.components import Componentized
from twisted.python.syslog import SyslogObserver
from zope.interface import implementer

from node2dm_tw.core.logs import escape_controls, logger

log = logger()

MAX_TEXT = 4_000
"""Characters of a message or of a value in it; what others sent may be far longer."""

CHECK_SECONDS = 1.0
"""Seconds between two looks at whether the log file still has its name."""

OPEN_FLAGS = os.O_WRONLY | os.O_APPEND | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC

Soon = Callable[[Callable[[], Any]], Any]
"""Has the reactor call something; may itself be called in a signal handler."""


def as_text_line(event: LogEvent) -> str:
    """Render an event as twistd does, as one line, followed by a traceback's own lines."""
    message, traceback = _message(event), _traceback(event)
    if not message and not traceback:
        return ""
    lines = [f"{formatTime(event.get('log_time'))} [{_system(event)}] {message}", *traceback]
    return "\n\t".join(lines) + "\n"


def as_json_line(event: LogEvent) -> str:
    """Render an event as a JSON object on one line.

    It has the time, the level, the part, the message and, as `event`, the message before its
    values were put in; then those values by name.
    """
    level = event.get("log_level") or LogLevel.info
    line: dict[str, Any] = {
        "time": datetime.fromtimestamp(event["log_time"], UTC).isoformat(timespec="milliseconds"),
        "level": level.name,
        "logger": event.get("log_namespace", ""),
        "message": _message(event),
        "event": event.get("log_event") or event.get("log_format") or "",
    }
    for name, value in event.items():
        if not name.startswith("log_") and isinstance(value, str | int | float):
            line.setdefault(name, _safe(value) if isinstance(value, str) else value)
    traceback = _traceback(event)
    if traceback:
        line["traceback"] = "\n".join(traceback)
    return json.dumps(line, ensure_ascii=False) + "\n"


def _message(event: LogEvent) -> str:
    return _safe(formatEvent(event))


def _safe(text: str) -> str:
    """Cut a text that others may have chosen, and make its control characters visible."""
    more = len(text) - MAX_TEXT
    return escape_controls(text if more <= 0 else f"{text[:MAX_TEXT]}... ({more} more characters)")


def _system(event: LogEvent) -> str:
    system = event.get("log_system")
    if system is None:
        level = event.get("log_level")
        system = f"{event.get('log_namespace', '-')}#{'-' if level is None else level.name}"
    return escape_controls(str(system))


def _traceback(event: LogEvent) -> list[str]:
    """Return the lines of a failure's traceback; only the feeds between them are kept."""
    failure = event.get("log_failure")
    if failure is None:
        return []
    text = eventAsText({"log_failure": failure}, includeTimestamp=False, includeSystem=False)
    return [escape_controls(line) for line in text.strip("\n").split("\n")]


@attrs.define(eq=False)
class LogFile:
    """A file that grows at its end, whatever others do to it.

    Where it was truncated, it goes on at its new end. Where its name is gone or belongs to another
    file, as after a rotation, that name is opened again.

    Args:
        path: its name; None where it is standard output, which has none.
    """

    path: str | None
    _descriptor: int = attrs.field(init=False)
    _is_watched: bool = attrs.field(default=False, init=False)
    _checked_at: float = attrs.field(default=float("-inf"), init=False)
    _is_detached: bool = attrs.field(default=False, init=False)

    def __attrs_post_init__(self) -> None:
        if self.path is None:
            self._descriptor = sys.stdout.fileno()
        else:
            self._descriptor = os.open(self.path, OPEN_FLAGS | os.O_CREAT, 0o666)
            self._is_watched = stat.S_ISREG(os.fstat(self._descriptor).st_mode)

    def write(self, line: str, now: float) -> None:
        """Append a line; one that cannot be written, as on a full disk, is lost.

        Args:
            now: seconds since the epoch.
        """
        if self._is_watched and abs(now - self._checked_at) >= CHECK_SECONDS:
            self._checked_at = now
            if self._has_lost_name():
                self.reopen()
        with suppress(OSError):
            os.write(self._descriptor, line.encode("utf-8", "backslashreplace"))

    def reopen(self) -> None:
        """Write to the file that has the name now; to the old one where that cannot be opened."""
        if self.path is None:
            return
        try:
            descriptor = _open_like(self.path, self._descriptor)
        except OSError as error:
            if not self._is_detached:
                self._is_detached = True
                log.error("cannot reopen {path}: {error}", path=self.path, error=error.strerror)
            return
        os.close(self._descriptor)
        self._descriptor, self._is_detached = descriptor, False

    def close(self) -> None:
        """Close the file; nothing may be written afterwards."""
        os.close(self._descriptor)

    def _has_lost_name(self) -> bool:
        try:
            return not os.path.samestat(Path(self.path or "").stat(), os.fstat(self._descriptor))
        except OSError:
            return True


def _open_like(path: str, other: int) -> int:
    """Open a file to append to; one that is created gets the mode of `other`, not the umask's."""
    mode = stat.S_IMODE(os.fstat(other).st_mode)
    umask = os.umask(0)
    try:
        return os.open(path, OPEN_FLAGS | os.O_CREAT, mode)
    finally:
        os.umask(umask)


@implementer(ILogObserver)
@attrs.frozen(eq=False)
class LineObserver:
    """Writes each event to a file as `render` renders it."""

    file: LogFile
    render: Callable[[LogEvent], str]

    def __call__(self, event: LogEvent) -> None:
        line = self.render(event)
        if line:
            self.file.write(line, event.get("log_time") or 0.0)


@implementer(ILogObserver)
@attrs.frozen(eq=False)
class SyslogLineObserver:
    """Hands each event to syslog as twistd does, but rendered here."""

    syslog: SyslogObserver

    def __call__(self, event: LogEvent) -> None:
        message, traceback = _message(event), _traceback(event)
        if message or traceback:
            text = "\n".join([message, *traceback])
            is_error = bool(traceback)
            self.syslog.emit({"message": (text,), "isError": is_error, "system": _system(event)})


def make_observer(options: Mapping[str, Any], log_format: str, soon: Soon) -> ILogObserver | None:
    """Make what writes the log to where twistd was told to write it.

    Args:
        options: twistd's own.
        log_format: `text` or `json`; syslog always gets text.
        soon: reopens the file on SIGUSR1.

    Returns:
        None where twistd is left to make its own.

    Raises:
        OSError: the file cannot be opened.
    """
    in_foreground = options.get("nodaemon")
    name = options.get("logfile") or ("-" if in_foreground else "twistd.log")
    if options.get("syslog"):
        return SyslogLineObserver(SyslogObserver(options["prefix"]))
    if name == "-" and not in_foreground:
        return None  # twistd refuses to start
    file = LogFile(None if name == "-" else os.path.abspath(name))  # noqa: PTH100 - no symlinks
    if signal.getsignal(signal.SIGUSR1) in (signal.SIG_DFL, None):
        signal.signal(signal.SIGUSR1, lambda *_: soon(file.reopen))
    return LineObserver(file, as_json_line if log_format == "json" else as_text_line)


def set_observer(
    application: Componentized, options: Mapping[str, Any] | None, log_format: str, soon: Soon
) -> None:
    """Have twistd, which asks the application how to log, log by `make_observer`.

    Args:
        options: twistd's own; None where there is no twistd.

    Raises:
        OSError: the file cannot be opened.
    """
    observer = None if options is None else make_observer(options, log_format, soon)
    if observer is not None:
        application.setComponent(ILogObserver, observer)
