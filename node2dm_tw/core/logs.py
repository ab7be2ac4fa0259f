"""Loggers with a level for each part, throttling, and helpers to shorten and escape values."""

import re
import sys
from collections.abc import Hashable
from typing import Any

import attrs
from twisted.internet.interfaces import IReactorTime
from twisted.logger import (
    FilteringLogObserver,
    Logger,
    LogLevel,
    LogLevelFilterPredicate,
    globalLogPublisher,
)
from twisted.python.failure import Failure

LEVELS = ("debug", "info", "warn", "error", "critical")
FORMATS = ("text", "json")
PARTS = (
    "admin",
    "app",
    "callbacks",
    "delivery",
    "http",
    "intake",
    "outcomes",
    "providers",
    "queues",
    "state",
)
"""Parts of the gateway that can have their own level."""

_FORMER_PARTS = {"routes": "app", "service": "app"}
"""Old names of parts in configuration files, and their present names."""

_PACKAGE = "node2dm_tw"

_levels = LogLevelFilterPredicate(defaultLogLevel=LogLevel.info)
_filtered = FilteringLogObserver(globalLogPublisher, [_levels])


def logger() -> Logger:
    """Make the logger of the calling module. `set_level` filters its lines."""
    namespace = sys._getframe(1).f_globals["__name__"]
    return Logger(namespace, observer=_filtered)


def parse_levels(text: str) -> tuple[str, dict[str, str]]:
    """Parse ``info, delivery=debug``: the general level, and the levels of parts.

    Raises:
        ValueError: says what is expected.
    """
    general, *others = (word.strip() for word in text.split(","))
    pairs = [(part, level) for part, _, level in (word.partition("=") for word in others)]
    parts = dict(pairs)
    known = {*PARTS, *_FORMER_PARTS}
    if not {general, *parts.values()} <= set(LEVELS) or not parts.keys() <= known:
        raise ValueError(
            f"one of {', '.join(LEVELS)}; then PART=LEVEL for parts that differ,"
            f" of {', '.join(PARTS)}"
        )
    if len(parts) != len(pairs):
        raise ValueError("each part once")
    return general, parts


def set_level(text: str) -> None:
    """Set the levels that `parse_levels` reads from `text`."""
    general, parts = parse_levels(text)
    _levels.clearLogLevels()
    _levels.setLogLevelForNamespace(_PACKAGE, LogLevel.levelWithName(general))
    for part, level in parts.items():
        namespace = f"{_PACKAGE}.{_FORMER_PARTS.get(part, part)}"
        _levels.setLogLevelForNamespace(namespace, LogLevel.levelWithName(level))


def is_traced(part: str) -> bool:
    """Whether lines of level debug of this part are logged.

    Code that logs each push calls this when the level is set, not for each push.
    """
    return _levels.logLevelForNamespace(f"{_PACKAGE}.{part}") is LogLevel.debug


def shorten(device: bytes) -> str:
    """Shorten a registration ID for a log, so that it can be recognised but not used."""
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
    r"""Escape control and format characters: ESC becomes ``\x1b``, and so on.

    The text is then one line, and is displayed in the order in which it is stored.
    """
    return text if text.isprintable() else _INVISIBLE.sub(_as_escape, text)


def _as_escape(found: re.Match[str]) -> str:
    number = ord(found[0])
    if number < 0x100:
        return f"\\x{number:02x}"
    return f"\\u{number:04x}" if number < 0x10000 else f"\\U{number:08x}"


MAX_KEYS = 100
"""Maximum number of keys of a `Throttle`; further keys share one line a second."""

OTHERS = object()
"""The key that further keys share."""

KEY_SECONDS = 60.0
"""Seconds after its last line after which a key may be replaced by another one."""


@attrs.define(eq=False)
class _Repeated:
    """Lines of one format and key: when the next may be logged, and how many were omitted."""

    next: float
    omitted: int = 0


@attrs.define(eq=False)
class Throttle:
    """Logs at most one line a second for each format and key, with the number of omitted lines.

    Args:
        log: receives the lines.
        clock: monotonic seconds.
    """

    log: Logger
    clock: IReactorTime
    _repeated: dict[int, _Repeated] = attrs.field(factory=dict, init=False)
    """By the hash of format and key, because keys from outside may be long."""
    _forgot_at: float = attrs.field(default=float("-inf"), init=False)

    def warn(self, format: str, *, key: Hashable = "", **values: Any) -> None:  # noqa: A002
        """Log a warning, unless one with this format and `key` was logged less than a second ago.

        Args:
            format: as for `Logger.warn`.
            key: distinguishes lines of one format, such as a reason or a route.
            values: the values in the format.
        """
        more = self._admit(format, key)
        if more is not None:
            self.log.warn(format + more, log_event=format, **values)

    def failure(self, format: str, failure: Failure | None = None, **values: Any) -> None:  # noqa: A002
        """Log a failure with its traceback at most once a second, as `warn` does."""
        more = self._admit(format, "")
        if more is not None:
            self.log.failure(format + more, failure, log_event=format, **values)

    def _admit(self, line: str, key: Hashable) -> str | None:
        """Return a suffix for a line that may be logged; None for one to omit."""
        now = self.clock.seconds()
        repeated = self._find(line, key, now)
        if now < repeated.next:
            repeated.omitted += 1
            return None
        omitted, repeated.omitted = repeated.omitted, 0
        repeated.next = now + 1.0
        return f" ({omitted} more like it were not logged)" if omitted else ""

    def _find(self, line: str, key: Hashable, now: float) -> _Repeated:
        number = hash((line, key))
        repeated = self._repeated.get(number)
        if repeated is None:
            if key is not OTHERS and len(self._repeated) >= MAX_KEYS and not self._forget(now):
                return self._find(line, OTHERS, now)
            repeated = self._repeated[number] = _Repeated(now)
        return repeated

    def _forget(self, now: float) -> bool:
        """Remove keys without a recent line; return whether there were any."""
        if now < self._forgot_at + 1.0:
            return False
        self._forgot_at = now
        old = [key for key, each in self._repeated.items() if each.next + KEY_SECONDS <= now]
        for key in old:
            del self._repeated[key]
        return bool(old)
