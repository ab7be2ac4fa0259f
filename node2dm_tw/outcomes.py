"""Keeps a record of each push that ended: in a file, and for a while by its id."""

import os
import uuid
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress
from json.encoder import encode_basestring_ascii as quote
from pathlib import Path

import attrs
from twisted.internet.interfaces import IDelayedCall, IReactorTime

from node2dm_tw.core.logs import Throttle, logger, shorten
from node2dm_tw.core.outcome import Ended, OnEnded, rfc3339
from node2dm_tw.state.atomic import open_own_file

log = logger()

FLUSH_SECONDS = 1.0
"""Maximum time that a record waits in memory before it is written."""

FLUSH_BYTES = 64 << 10
"""Size of the waiting records at which they are written at once."""

MAX_TARGET_LENGTH = 4096
MAX_TEXT_LENGTH = 300
"""Maximum lengths in a record: of the target, and of each text that the upstream wrote."""

MAX_LINE_BYTES = 64 << 10
"""A record is shorter, even if every character of its texts is escaped."""

MAX_RECENT = 100_000
MAX_RECENT_BYTES = 64 << 20
"""Bounds of the records that can be found by id."""

RECENT_OVERHEAD_BYTES = 200
"""Bytes that such a record takes in addition to its texts. Measured: 172."""

_LINE_START = b'{"time":"'


@attrs.define(eq=False)
class LineFile:
    """Appends lines to a file, many at once, and never leaves a part of one.

    The file may be moved or removed at any time; the next lines go to a new one.

    Args:
        path: created, readable only by the owner, if it does not exist.
        clock: monotonic seconds.

    Attributes:
        dropped: number of lines that could not be written, and are lost.
    """

    path: Path
    clock: IReactorTime
    dropped: int = attrs.field(default=0, init=False)
    _waiting: list[bytes] = attrs.field(factory=list, init=False)
    _waiting_bytes: int = attrs.field(default=0, init=False)
    _timer: IDelayedCall | None = attrs.field(default=None, init=False)
    _descriptor: int | None = attrs.field(default=None, init=False)
    _lost: int = attrs.field(default=0, init=False)
    _throttle: Throttle = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self._throttle = Throttle(log, self.clock)

    def open(self) -> None:
        """Open the file. Raises OSError: it cannot be opened, or is not a file of this user."""
        descriptor = open_own_file(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND)
        try:
            _cut_unfinished_line(descriptor)
        except OSError:
            os.close(descriptor)
            raise
        self._descriptor = descriptor

    def add(self, line: bytes) -> None:
        """Append a line, which ends in a line feed, within `FLUSH_SECONDS`."""
        self._waiting.append(line)
        self._waiting_bytes += len(line)
        if self._waiting_bytes >= FLUSH_BYTES:
            self.flush()
        elif self._timer is None:
            self._timer = self.clock.callLater(FLUSH_SECONDS, self._timer_fired)

    def _timer_fired(self) -> None:
        self._timer = None
        self.flush()

    def flush(self) -> None:
        """Write the lines that wait. What cannot be written is dropped, and logged."""
        data = b"".join(self._waiting)
        self._waiting, self._waiting_bytes = [], 0
        if not data:
            return
        written = 0
        try:
            descriptor = self._current_descriptor()
            while written < len(data):
                written += os.write(descriptor, data[written:])
        except OSError as error:
            self._drop(data, written, error)
        else:
            self._log_recovery()

    def _current_descriptor(self) -> int:
        """Return the descriptor of the file that is at the path now."""
        if self._descriptor is not None and not _is_at(self._descriptor, self.path):
            self._close()
        if self._descriptor is None:
            self.open()
        assert self._descriptor is not None
        return self._descriptor

    def _drop(self, data: bytes, written: int, error: OSError) -> None:
        """Give up the lines of `data` that were not written as a whole."""
        lost = data.count(b"\n", data.rfind(b"\n", 0, written) + 1)
        self.dropped += lost
        self._lost += lost
        self._throttle.warn(
            "cannot write {path} ({error}): outcomes are lost until it can be written",
            path=str(self.path),
            error=error.strerror or str(error),
        )
        self._close()
        with suppress(OSError):
            self.open()  # at once, to cut off the part of a line, before somebody reads it

    def _log_recovery(self) -> None:
        if self._lost:
            self._throttle.warn(
                "{path} is written again: {count} outcomes were lost",
                path=str(self.path),
                count=self._lost,
            )
            self._lost = 0

    def reopen(self) -> None:
        """Write what waits, and open the file that is at the path now."""
        self.flush()
        self._close()
        try:
            self.open()
        except OSError as error:
            self._drop(b"", 0, error)

    def stop(self) -> None:
        """Write what waits, and close the file."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self.flush()
        self._close()

    def _close(self) -> None:
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            with suppress(OSError):
                os.close(descriptor)


def _is_at(descriptor: int, path: Path) -> bool:
    """Whether an open file is still at its path."""
    try:
        return os.path.samestat(os.fstat(descriptor), os.lstat(path))
    except OSError:
        return False


def _cut_unfinished_line(descriptor: int) -> None:
    """Remove the part of a record that a killed process or a full disk left at the end.

    Another line without a line feed is not ours; it gets one.
    """
    size = os.fstat(descriptor).st_size
    tail = os.pread(descriptor, MAX_LINE_BYTES, max(0, size - MAX_LINE_BYTES))
    unfinished = tail[tail.rfind(b"\n") + 1 :]
    if not unfinished.startswith(_LINE_START[: len(unfinished)]):
        os.write(descriptor, b"\n")
    elif unfinished:
        os.ftruncate(descriptor, size - len(unfinished))


@attrs.define(eq=False)
class RecentOutcomes:
    """The latest records by id: at most `MAX_RECENT`, and `MAX_RECENT_BYTES`."""

    _records: OrderedDict[str, bytes] = attrs.field(factory=OrderedDict, init=False)
    _size: int = attrs.field(default=0, init=False)

    def add(self, push_id: str, record: bytes) -> None:
        """Keep a record in place of an earlier one with the same id."""
        self._size -= _size(push_id, self._records.pop(push_id, None))
        self._records[push_id] = record
        self._size += _size(push_id, record)
        while len(self._records) > MAX_RECENT or self._size > MAX_RECENT_BYTES:
            self._size -= _size(*self._records.popitem(last=False))

    def find(self, push_id: str) -> bytes | None:
        """Return the latest record with an id; None if there is none, or none any more."""
        return self._records.get(push_id)


def _size(push_id: str, record: bytes | None) -> int:
    return 0 if record is None else len(push_id) + len(record) + RECENT_OVERHEAD_BYTES


@attrs.define(eq=False)
class OutcomeRecorder:
    """Makes the record of each push that ended.

    Args:
        file: gets the records; None: there is no file.
        sample: percent of the sent pushes that are in the file; of the others all are.
        targets: how a record names the push's target: `short`, `full`, or `none`.
        wall: seconds since the epoch.
        random: numbers in [0, 1), for the sample.
        recent: keeps the records of pushes that their sender gave an id; None: they are not kept.
    """

    file: LineFile | None
    sample: float
    targets: str
    wall: Callable[[], float]
    random: Callable[[], float]
    recent: RecentOutcomes | None = None
    _prefix: str = attrs.field(factory=lambda: uuid.uuid4().hex[:12], init=False)
    _number: int = attrs.field(default=0, init=False)
    _milliseconds: int = attrs.field(default=-1, init=False)
    _time: str = attrs.field(default="", init=False)
    _second: int = attrs.field(default=-1, init=False)
    _second_text: str = attrs.field(default="", init=False)

    def open(self) -> None:
        """Open the file. Raises OSError."""
        if self.file is not None:
            self.file.open()

    def reopen(self) -> None:
        """Open the file that is at the path now, after a rotation."""
        if self.file is not None:
            self.file.reopen()

    def stop(self) -> None:
        """Write what waits; nothing may end any more."""
        if self.file is not None:
            self.file.stop()

    @property
    def on_ended(self) -> OnEnded | None:
        """Takes the end of each push; None if nothing is recorded."""
        return None if self.file is None and self.recent is None else self.record

    @property
    def dropped(self) -> int:
        """Number of records that the file lost."""
        return 0 if self.file is None else self.file.dropped

    def find_outcome(self, push_id: str) -> bytes | None:
        """Return the JSON record of the latest push with an id that its sender gave it."""
        return None if self.recent is None else self.recent.find(push_id)

    def keep_recent(self, is_on: bool) -> None:
        """Keep records for `find_outcome` from now on, or forget them."""
        if is_on != (self.recent is not None):
            self.recent = RecentOutcomes() if is_on else None

    def record(self, ended: Ended) -> None:
        """Record the end of a push in the file, if it is in the sample, and by its id."""
        push, file, recent = ended.push, self.file, self.recent
        push_id = push.id if push.is_json else None
        if push_id is None:
            recent = None
        if self.sample < 100 and ended.outcome == "sent" and self.random() * 100 >= self.sample:
            file = None
        if file is None and recent is None:
            return
        if push_id is None:
            self._number += 1
            push_id = f"{self._prefix}-{self._number}"
        line = self._format(ended, push_id).encode()
        if file is not None:
            file.add(line)
        if recent is not None:
            recent.add(push_id, line[:-1])

    def _format(self, ended: Ended, push_id: str) -> str:
        """Build the line, at a third of the cost of `json.dumps`.

        Neither the name of a route nor an id has characters that JSON escapes.
        """
        route, push, outcome, reason, message_name, sends, waited, answered = ended
        milliseconds = int(self.wall() * 1000)
        if milliseconds != self._milliseconds:
            self._set_time(milliseconds)
        target = name = why = "null"
        if self.targets == "short":
            target = quote(shorten(push.line[: push.device_end]))  # the property costs more
        elif self.targets == "full":
            target = quote(push.device.decode()[:MAX_TARGET_LENGTH])
        if message_name is not None:
            name = quote(message_name[:MAX_TEXT_LENGTH].decode("utf-8", "replace"))
        if reason:
            why = quote(reason[:MAX_TEXT_LENGTH])
        answered_ms = "null" if answered is None else int(answered * 1000)
        return (
            f'{{"time":"{self._time}","id":"{push_id}","route":"{route}","target":{target}'
            f',"outcome":"{outcome}","reason":{why},"message_name":{name},"attempts":{sends}'
            f',"waited_ms":{int(waited * 1000)},"answered_ms":{answered_ms}}}\n'
        )

    def _set_time(self, milliseconds: int) -> None:
        """Format the time of the records; the part of it that lasts a second only once."""
        second, rest = divmod(milliseconds, 1000)
        if second != self._second:
            self._second, self._second_text = second, rfc3339(second)[:-4]
        self._milliseconds, self._time = milliseconds, f"{self._second_text}{rest:03d}Z"
