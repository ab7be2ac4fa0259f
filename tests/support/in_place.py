"""A database's pool that works in the calling thread, for tests that have a clock of their own."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
from twisted.enterprise.adbapi import ConnectionPool
from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure

from node2dm_tw.queues.sqlite_file import FILE_NAME
from node2dm_tw.queues.sqlite_writer import SqliteWriter, make_pool


class InPlaceReactor:
    """What the pool asks of a reactor."""

    def callFromThread(self, call: Callable[..., object], *args: Any) -> None:
        call(*args)

    def callWhenRunning(self, call: Callable[..., object]) -> None:
        """Ignore the pool's own start, which comes before it has these threads."""

    def addSystemEventTrigger(self, *args: Any) -> int:
        return 1

    def removeSystemEventTrigger(self, trigger: int) -> None:
        pass


@attrs.define(eq=False)
class InPlaceThreads:
    """Has the interface of a `ThreadPool`, and no thread."""

    def start(self) -> None:
        pass

    def stop(self) -> None:
        pass

    def callInThreadWithCallback(
        self, on_result: Callable[[bool, Any], None], call: Callable[..., Any], *args: Any
    ) -> None:
        try:
            result = call(*args)
        except Exception:  # noqa: BLE001 - as a thread does
            on_result(False, Failure())
        else:
            on_result(True, result)


def make_in_place_pool(path: Path, reactor: InPlaceReactor) -> ConnectionPool:
    """Make a pool whose every call is done when it returns."""
    pool = make_pool(path, reactor)
    pool.threadpool = InPlaceThreads()
    pool.start()
    return pool


def make_in_place_writer(folder: Path, clock: IReactorTime) -> SqliteWriter:
    """Make a writer of the database in `folder`; only its timers take time."""
    return SqliteWriter(folder / FILE_NAME, clock, InPlaceReactor(), make_in_place_pool)
