"""Callbacks: webhooks that tell an application which pushes ended badly, on their own queue."""

import heapq
import uuid
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path

import attrs
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.python.failure import Failure

from node2dm_tw.backoff import exponential, retry_after
from node2dm_tw.callback_target import Callback, CallbackTarget, from_record, to_record
from node2dm_tw.http.interface import HTTPClient, RequestFailed, Response, post
from node2dm_tw.logs import Throttle, logger
from node2dm_tw.push import Push
from node2dm_tw.queues.spool import Spool, SpoolReader
from node2dm_tw.stats import RouteStats

log = logger()

HOLD_INTERVAL = 10.0
"""
Delay in seconds before a callback is sent while the alarm may still hold it, and the interval
between checks.
"""

MAX_WAITING_BYTES = 64 << 20
"""Memory of the callbacks that wait, whatever their sizes and routes."""

IN_FLIGHT = 4
"""Callbacks posted at once."""

MAX_CALLBACKS_PER_TURN = 500
"""Callbacks sent or held before the reactor gets its turn."""

GONE = 410
"""The status with which an application says that it wants no such callback."""


@attrs.define(eq=False)
class CallbackSender:
    """Posts each callback until it is answered with a 2xx or 410, or its retries are used up.

    Args:
        target: where to.
        http: moves the requests.
        stats: by route: each callback ends in a counter of its route.
        spool: where callbacks are kept from a stop to the next start.
        clock: monotonic seconds.
        wall: seconds since the epoch.
        random: numbers in [0, 1), for the jitter.
        should_hold: whether callbacks of this route and reason must wait, perhaps for ever.
        max_bytes: memory of the callbacks that wait; a further one is dropped.
    """

    target: CallbackTarget
    http: HTTPClient
    stats: dict[str, RouteStats]
    spool: Spool
    clock: IReactorTime
    wall: Callable[[], float]
    random: Callable[[], float]
    should_hold: Callable[[str, str], bool] = attrs.field(default=lambda route, reason: False)
    max_bytes: int = MAX_WAITING_BYTES
    _heap: list[tuple[float, int, Callback]] = attrs.field(factory=list, init=False)
    _sequence: int = attrs.field(default=0, init=False)
    _bytes: int = attrs.field(default=0, init=False)
    _in_flight: dict[Callback, Deferred[None] | None] = attrs.field(factory=dict, init=False)
    _timer: IDelayedCall | None = attrs.field(default=None, init=False)
    _is_sending: bool = attrs.field(default=False, init=False)
    _is_stopped: bool = attrs.field(default=False, init=False)
    _restoring: Iterator[bool] = attrs.field(factory=lambda: iter(()), init=False)
    _reader: SpoolReader[Callback] | None = attrs.field(default=None, init=False)
    _next_slice: IDelayedCall | None = attrs.field(default=None, init=False)
    _throttle: Throttle = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self._throttle = Throttle(log, self.clock)

    def __len__(self) -> int:
        return len(self._heap) + len(self._in_flight)

    def enqueue(self, route: str, push: Push, reason: str, delay: float = 0.0) -> None:
        """Tell the application, in `delay` seconds, that the device of `push` is gone."""
        message = push.message_body.encode("utf-8", "replace")
        callback_id = b"msg_" + uuid.uuid4().hex.encode()
        reason_bytes = reason.encode("utf-8", "replace")
        self._add(Callback(route, push.device, message, reason_bytes, callback_id), delay)

    def _add(self, callback: Callback, delay: float) -> None:
        if self._is_stopped or self._bytes + callback.size > self.max_bytes:
            self._stats(callback).callbacks_dropped += 1
            most = f"{self.max_bytes >> 20} MiB"
            self._throttle.warn("callback queue is full ({most}): callback dropped", most=most)
            return
        self._bytes += callback.size
        self._push(callback, delay)
        self._send_due()

    def _push(self, callback: Callback, delay: float) -> None:
        self._sequence += 1
        heapq.heappush(self._heap, (self.clock.seconds() + delay, self._sequence, callback))

    def _stats(self, callback: Callback) -> RouteStats:
        """The counters of its route; those of another where the route is no longer configured."""
        return self.stats.get(callback.route) or next(iter(self.stats.values()))

    def _send_due(self) -> None:
        """Post what is due, as far as there is room in flight."""
        if self._is_sending:
            return  # a request ended at once: the loop below goes on
        self._is_sending = True
        try:
            wake_at = self._send_some()
        finally:
            self._is_sending = False
        if wake_at is not None:
            self._wake_at(wake_at)

    def _send_some(self) -> float | None:
        """Post or hold a turn of callbacks; return when the next one is due, None to wait."""
        now = self.clock.seconds()
        for _ in range(MAX_CALLBACKS_PER_TURN):
            if not self._heap or len(self._in_flight) >= IN_FLIGHT:
                return None
            due, _, callback = self._heap[0]
            if due > now:
                return due
            heapq.heappop(self._heap)
            if self.should_hold(callback.route, callback.reason.decode()):
                self._push(callback, HOLD_INTERVAL)
            else:
                self._post(callback)
        return now

    def _wake_at(self, moment: float) -> None:
        if self._timer is not None and self._timer.getTime() <= moment:
            return
        if self._timer is not None:
            self._timer.cancel()
        delay = max(0.0, moment - self.clock.seconds())
        self._timer = self.clock.callLater(delay, self._timer_fired)

    def _timer_fired(self) -> None:
        self._timer = None
        self._send_due()

    def _post(self, callback: Callback) -> None:
        self._in_flight[callback] = None
        request: Deferred[None] = (
            maybeDeferred(self._request, callback)
            .addCallback(self._on_answer, callback)
            .addErrback(self._on_failure, callback)
            .addErrback(self._log_fault)
        )
        if callback in self._in_flight:
            self._in_flight[callback] = request

    def _request(self, callback: Callback) -> Deferred[Response]:
        body = self.target.body(callback)
        headers = self.target.headers(callback, int(self.wall()), body)
        return post(self.http, self.target.url, headers, body)

    def _on_answer(self, response: Response, callback: Callback) -> None:
        status = response.status
        if self._is_stopped:
            return  # it is kept for the next process
        if status // 100 == 2:
            self._stats(callback).callbacks_sent += 1
            self._end(callback)
        elif status == GONE:
            self._abandon(callback, f"status {status}")
        else:
            after = retry_after(response.headers.get(b"retry-after"), self.wall())
            self._retry_later(callback, f"status {status}", after or 0.0)

    def _on_failure(self, failure: Failure, callback: Callback) -> None:
        if self._is_stopped:
            return  # it is kept for the next process
        if failure.check(RequestFailed) is None:
            self._log_fault(failure)
        if callback in self._in_flight:
            self._retry_later(callback, str(failure.value), 0.0)

    def _log_fault(self, failure: Failure) -> None:
        self._throttle.failure("a callback could not be handled", failure)

    def _retry_later(self, callback: Callback, reason: str, after: float) -> None:
        """Send a callback again after its back-off, and not before `after` seconds."""
        callback.attempts += 1
        if callback.attempts > self.target.retries:
            self._abandon(callback, reason)
            return
        del self._in_flight[callback]
        self._push(callback, max(after, exponential(callback.attempts, self.random)))
        self._throttle.warn("callback failed, will retry: {reason}", key=reason, reason=reason)
        self._send_due()

    def _abandon(self, callback: Callback, reason: str) -> None:
        self._stats(callback).callbacks_failed += 1
        self._throttle.warn("callback abandoned: {reason}", key=reason, reason=reason)
        self._end(callback)

    def _end(self, callback: Callback) -> None:
        del self._in_flight[callback]
        self._bytes -= callback.size
        self._send_due()

    def start(self) -> None:
        """Restore what earlier processes left, a slice at a time."""
        self._restoring = self._restore()
        self._restore_slice()

    def _restore_slice(self) -> None:
        self._next_slice = None
        if next(self._restoring, None) is not None:
            self._next_slice = self.clock.callLater(0, self._restore_slice)

    def _restore(self) -> Iterator[bool]:
        """Queue the callbacks of every file; a file that cannot be read is left as it is."""
        try:
            files = self.spool.files()
        except OSError as error:
            files = []
            _log_unreadable(self.spool.path, error)
        for path in files:
            try:
                yield from self._restore_file(SpoolReader(path, from_record))
            except OSError as error:
                _log_unreadable(path, error)
            self._reader = None

    def _restore_file(self, reader: SpoolReader[Callback]) -> Iterator[bool]:
        self._reader = reader
        with closing(reader):
            while not reader.is_at_end:
                for callback in reader.read(MAX_CALLBACKS_PER_TURN):
                    self._add(callback, 0.0)
                yield True
        path = str(reader.path)
        try:
            reader.remove()
        except OSError as error:
            log.error(
                "cannot remove {path} ({error}): its callbacks are sent again at the next start",
                path=path,
                error=error.strerror or str(error),
            )
        if reader.damaged:
            log.error(
                "{path} was damaged: {count} callbacks could not be read; they are kept in {aside}",
                path=path,
                count=reader.damaged,
                aside=str(reader.aside),
            )

    def stop(self) -> None:
        """Post nothing more; keep what is left, that in flight included, for the next process."""
        requests, self._in_flight = self._in_flight, {}
        heap, self._heap = self._heap, []
        self._is_stopped = True
        for timer in (self._timer, self._next_slice):
            if timer is not None and timer.active():
                timer.cancel()
        left = [*requests, *(callback for _, _, callback in sorted(heap))]
        try:
            self._save(left)
        except OSError as error:
            for callback in left:
                self._stats(callback).callbacks_dropped += 1
            reason = error.strerror or str(error)
            log.critical("{count} callbacks are lost: {error}", count=len(left), error=reason)
        for request in requests.values():
            if request is not None:
                maybeDeferred(request.cancel).addErrback(self._log_fault)

    def _save(self, left: list[Callback]) -> None:
        """Write what is left to a file, and behind it what was not restored yet."""
        reader, self._reader = self._reader, None
        if reader is not None:
            with closing(reader), suppress(OSError):
                reader.replace(map(to_record, left))
                return
        if left:
            self.spool.add(map(to_record, left))


def _log_unreadable(path: Path, error: OSError) -> None:
    log.error(
        "cannot read {path} ({error}): it is left as it is, and read again at the next start",
        path=str(path),
        error=error.strerror or str(error),
    )
