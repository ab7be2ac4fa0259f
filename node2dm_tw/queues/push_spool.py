"""Saves the pushes of a queue at a stop, and restores them at the next start."""

from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.python.failure import Failure

from node2dm_tw.core.logs import logger
from node2dm_tw.core.push import Push
from node2dm_tw.core.stats import RouteStats
from node2dm_tw.queues.interface import QueueFull
from node2dm_tw.state.spool import Spool, SpoolReader, from_record, to_record

log = logger()

MAX_LINES_PER_SLICE = 500
"""Maximum number of lines of a spool that are read in one turn of the reactor."""

FULL_QUEUE_INTERVAL = 1.0
"""Seconds between checks of a full queue."""


@attrs.define(eq=False)
class PushSpool:
    """Restores pushes from the spool to a queue, a slice at a time, and saves unsent pushes.

    Args:
        spool: the files.
        stats: counts restored pushes.
        clock: monotonic seconds; also schedules the slices.
        wall: seconds since the epoch, for the age of a push over a restart.
        capacity: returns how many pushes the queue can take now.
        put: queues pushes. If it returns a Deferred, a file is removed only after that has fired;
            where it fails with `QueueFull`, the same pushes are queued again later.
    """

    spool: Spool
    stats: RouteStats
    clock: IReactorTime
    wall: Callable[[], float]
    capacity: Callable[[], int]
    put: Callable[[list[Push]], Deferred[None] | None]
    _files: deque[Path] = attrs.field(factory=deque, init=False)
    _reader: SpoolReader[Push] | None = attrs.field(default=None, init=False)
    _count: int = attrs.field(default=0, init=False)
    _next_slice: IDelayedCall | None = attrs.field(default=None, init=False)
    _offsets: dict[Path, int] = attrs.field(factory=dict, init=False)
    """The position up to which a file was restored that could not be finished or removed."""
    _unstored_from: int | None = attrs.field(default=None, init=False)
    """The position of the pushes that `put` has not stored yet."""
    _is_paused: bool = attrs.field(default=False, init=False)

    def restore(self) -> None:
        """Queue the pushes of all files, and retry files that could not be read before."""
        if self._next_slice is not None or self._unstored_from is not None or self._is_paused:
            return
        try:
            self._files = deque(self.spool.files())
        except OSError as error:
            _log_unreadable(self.spool.path.parent, error)
        self._restore_slice()

    def pause(self) -> None:
        """Restore nothing more: a stop begins."""
        self._is_paused = True
        if self._next_slice is not None:
            self._next_slice.cancel()
            self._next_slice = None

    def save(self, pushes: list[Push]) -> None:
        """Write `pushes` to a file, followed by the pushes that were not restored yet.

        Raises:
            OSError: `pushes` are not saved. The others are still in their files.
        """
        self.pause()
        reader, self._reader = self._reader, None
        if reader is not None and self._unstored_from is not None:
            reader.offset = self._unstored_from
        if reader is not None and self._replace(reader, pushes):
            path = reader.path
        elif pushes:
            path = self.spool.add(self._records(pushes))
        if pushes:
            log.info("saved {count} unsent pushes to {path}", count=len(pushes), path=str(path))

    def _replace(self, reader: SpoolReader[Push], pushes: list[Push]) -> bool:
        try:
            reader.replace(self._records(pushes))
        except OSError as error:
            _log_not_removed(reader.path, error)
            return False
        finally:
            reader.close()
            self._report_damage(reader)
        return True

    def _restore_slice(self) -> None:
        """Queue the next slice, as far as the queue has capacity."""
        self._next_slice = None
        lines = min(MAX_LINES_PER_SLICE, self.capacity())
        if lines > 0:
            reader = self._reader or self._open_next()
            if reader is not None:
                self._read(reader, lines)
        self._continue_in(0.0 if lines > 0 else FULL_QUEUE_INTERVAL)

    def _continue_in(self, delay: float) -> None:
        """Restore the next slice, if there is one, unless pushes are being stored."""
        is_waiting = self._next_slice is not None or self._unstored_from is not None
        if (self._reader is not None or self._files) and not is_waiting and not self._is_paused:
            self._next_slice = self.clock.callLater(delay, self._restore_slice)

    def _open_next(self) -> SpoolReader[Push] | None:
        while self._files:
            path = self._files.popleft()
            try:
                self._reader = SpoolReader(path, self._parse, self._offsets.get(path, 0))
            except OSError as error:
                _log_unreadable(path, error)
            else:
                self._count = 0
                return self._reader
        return None

    def _read(self, reader: SpoolReader[Push], lines: int) -> None:
        before = reader.offset
        try:
            pushes = reader.read(lines)
        except OSError as error:
            _log_unreadable(reader.path, error)
            self._leave(reader)
            self._report_damage(reader)
            return
        self._unstored_from = before
        self._put(reader, pushes)

    def _put(self, reader: SpoolReader[Push], pushes: list[Push]) -> None:
        self._next_slice = None
        stored = self.put(pushes)
        if stored is None:
            self._on_stored(None, reader, pushes)
        else:
            arguments = (reader, pushes)
            stored.addCallbacks(
                self._on_stored, self._on_refused, callbackArgs=arguments, errbackArgs=arguments
            )
            stored.addCallback(lambda _: self._continue_in(0.0))
            stored.addErrback(lambda failure: log.failure("a spool cannot be restored", failure))

    def _on_stored(self, _: None, reader: SpoolReader[Push], pushes: list[Push]) -> None:
        self._unstored_from = None
        self._count += len(pushes)
        self.stats.messages_taken_over += len(pushes)
        if self._reader is reader and reader.is_at_end:
            self._finish(reader)

    def _on_refused(self, failure: Failure, reader: SpoolReader[Push], pushes: list[Push]) -> None:
        failure.trap(QueueFull)
        if not self._is_paused:
            self._next_slice = self.clock.callLater(FULL_QUEUE_INTERVAL, self._put, reader, pushes)

    def _leave(self, reader: SpoolReader[Push]) -> None:
        """Close the file, and store the position up to which it was restored."""
        self._reader = None
        self._offsets[reader.path] = reader.offset
        reader.close()

    def _finish(self, reader: SpoolReader[Push]) -> None:
        """Remove a file after all of it was queued."""
        self._leave(reader)
        if self._count:
            log.info(
                "restored {count} pushes from {path}", count=self._count, path=str(reader.path)
            )
        try:
            reader.remove()
        except OSError as error:
            _log_not_removed(reader.path, error)
        else:
            del self._offsets[reader.path]
        self._report_damage(reader)

    def _report_damage(self, reader: SpoolReader[Push]) -> None:
        if reader.damaged:
            self.stats.spool_damaged += reader.damaged
            log.error(
                "{path} was damaged: {count} records could not be read; they are kept in {aside}",
                path=str(reader.path),
                count=reader.damaged,
                aside=str(reader.aside),
            )

    @property
    def _offset(self) -> float:
        """Seconds since the epoch minus seconds of the monotonic clock."""
        return self.wall() - self.clock.seconds()

    def _parse(self, record: bytes) -> Push | None:
        return from_record(record, self.clock.seconds(), self._offset)

    def _records(self, pushes: list[Push]) -> Iterator[bytes]:
        offset = self._offset
        for push in pushes:
            try:
                yield to_record(push, offset)
            except Exception:  # noqa: BLE001 - an error in one push must not lose the others
                log.failure("a push could not be saved")


def _log_unreadable(path: Path, error: OSError) -> None:
    log.error(
        "cannot read {path} ({error}): it is left as it is, and read again at SIGHUP and at the"
        " next start",
        path=str(path),
        error=error.strerror or str(error),
    )


def _log_not_removed(path: Path, error: OSError) -> None:
    log.critical(
        "cannot remove {path} ({error}): its pushes will be sent again at the next start",
        path=str(path),
        error=error.strerror or str(error),
    )
