"""Logging: levels that can be set while running, repetition held back, nothing secret."""

import sys
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

LEVELS = ("debug", "info", "warn", "error", "critical")

_levels = LogLevelFilterPredicate(defaultLogLevel=LogLevel.info)
_filtered = FilteringLogObserver(globalLogPublisher, [_levels])


def logger() -> Logger:
    """Make the logger of the calling module; its lines obey `set_level`."""
    namespace = sys._getframe(1).f_globals["__name__"]
    return Logger(namespace, observer=_filtered)


def set_level(name: str) -> None:
    """Drop what is below the level of this name, one of `LEVELS`, from now on."""
    _levels.setLogLevelForNamespace("node2dm_tw", LogLevel.levelWithName(name))


def shorten(device: bytes) -> str:
    """A registration ID as a log may show it: enough to find it, too little to use it."""
    text = device.decode("utf-8", "replace")
    return text if len(text) <= 12 else f"{text[:10]}..."


@attrs.define(eq=False)
class Throttle:
    """Lets one line through each second and says how many it held back.

    Args:
        log: where the lines go.
        clock: monotonic seconds.
    """

    log: Logger
    clock: IReactorTime
    _next: float = attrs.field(default=float("-inf"), init=False)
    _held_back: int = attrs.field(default=0, init=False)

    def warn(self, format: str, **values: Any) -> None:  # noqa: A002 - as Logger.warn calls it
        """Log a warning, or hold it back."""
        now = self.clock.seconds()
        if now < self._next:
            self._held_back += 1
            return
        more = f" ({self._held_back} more like it were not logged)" if self._held_back else ""
        self._next, self._held_back = now + 1.0, 0
        self.log.warn(format + more, **values)
