"""Sends callbacks, which inform an application about pushes that ended badly."""

import heapq
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, suppress
from pathlib import Path

import attrs
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.python.failure import Failure

from node2dm_tw.callback_target import (
    OVERHEAD_BYTES,
    Callback,
    CallbackTarget,
    from_record,
    to_record,
)
from node2dm_tw.core.backoff import exponential, retry_after
from node2dm_tw.core.logs import Throttle, logger
from node2dm_tw.core.outcome import Ended, rfc3339
from node2dm_tw.core.stats import RouteStats
from node2dm_tw.http.interface import HTTPClient, RequestFailed, Response, post
from node2dm_tw.state.spool import Spool, SpoolReader

log = logger()

HOLD_INTERVAL = 10.0
"""
Delay in seconds before a callback that the alarm may hold is sent, and the interval between checks.
"""

MAX_WAITING_BYTES = 64 << 20
"""Maximum memory of the callbacks that wait, for all routes and webhooks."""

IN_FLIGHT = 4
"""Maximum number of callbacks in flight to one webhook."""

MAX_CALLBACKS_PER_TURN = 500
"""Maximum number of callbacks sent or held in one turn of the reactor."""

GONE = 410
"""The status with which an application declines a callback for good."""


@attrs.define(eq=False)
class CallbackBudget:
    """Limits the memory of the callbacks of all senders together.

    Attributes:
        used: bytes of the callbacks that wait.
    """

    maximum: int = MAX_WAITING_BYTES
    used: int = attrs.field(default=0, init=False)

    def fits(self, size: int) -> bool:
        """Whether another callback of `size` bytes may wait."""
        return self.used + size <= self.maximum


@attrs.define(eq=False)
class CallbackSender:
    """Posts each callback until it is answered with a 2xx or 410, or its retries are used up.

    Args:
        target: the webhook.
        http: sends the requests.
        stats: by route; each callback ends in a counter of its route.
        budget: limits the memory of callbacks that wait; callbacks above it are dropped.
        clock: monotonic seconds.
        wall: seconds since the epoch.
        random: numbers in [0, 1), for the jitter.
        should_hold: returns whether a callback must wait, perhaps for ever.
    """

    target: CallbackTarget
    http: HTTPClient
    stats: Mapping[str, RouteStats]
    budget: CallbackBudget
    clock: IReactorTime
    wall: Callable[[], float]
    random: Callable[[], float]
    should_hold: Callable[[Callback], bool] = attrs.field(default=lambda callback: False)
    _heap: list[tuple[float, int, Callback]] = attrs.field(factory=list, init=False)
    _sequence: int = attrs.field(default=0, init=False)
    _in_flight: dict[Callback, Deferred[None] | None] = attrs.field(factory=dict, init=False)
    _timer: IDelayedCall | None = attrs.field(default=None, init=False)
    _is_sending: bool = attrs.field(default=False, init=False)
    _is_stopped: bool = attrs.field(default=False, init=False)
    _throttle: Throttle = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self._throttle = Throttle(log, self.clock)

    def __len__(self) -> int:
        return len(self._heap) + len(self._in_flight)

    def reconfigure(self, target: CallbackTarget) -> None:
        """Send to another target from now on."""
        self.target = target

    def can_accept(self, route: str, size: int) -> bool:
        """Whether a callback of `size` bytes may wait; if not, the drop is counted and logged."""
        if self.budget.fits(size) and not self._is_stopped:
            return True
        _stats_of(self.stats, route).callbacks_dropped += 1
        most = f"{self.budget.maximum >> 20} MiB"
        self._throttle.warn("callback queue is full ({most}): callback dropped", most=most)
        return False

    def add(self, callback: Callback, delay: float = 0.0) -> None:
        """Post a callback in `delay` seconds, or drop it if the budget is used up."""
        if self.can_accept(callback.route, callback.size):
            self.budget.used += callback.size
            self._push(callback, delay)
            self._send_due()

    def _push(self, callback: Callback, delay: float) -> None:
        self._sequence += 1
        heapq.heappush(self._heap, (self.clock.seconds() + delay, self._sequence, callback))

    def _send_due(self) -> None:
        """Post callbacks that are due, up to `IN_FLIGHT` at once."""
        if self._is_sending:
            return  # a request ended at once: the outer call continues
        self._is_sending = True
        try:
            wake_at = self._send_batch()
        finally:
            self._is_sending = False
        if wake_at is not None:
            self._wake_at(wake_at)

    def _send_batch(self) -> float | None:
        """Post or hold due callbacks; return when the next one is due, None if nothing is to do."""
        now = self.clock.seconds()
        for _ in range(MAX_CALLBACKS_PER_TURN):
            if not self._heap or len(self._in_flight) >= IN_FLIGHT:
                return None
            due, _, callback = self._heap[0]
            if due > now:
                return due
            heapq.heappop(self._heap)
            if self.should_hold(callback):
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
            return  # it is saved for the next process
        if status // 100 == 2:
            _stats_of(self.stats, callback.route).callbacks_sent += 1
            self._end(callback)
        elif status == GONE:
            self._abandon(callback, f"status {status}")
        else:
            after = retry_after(response.headers.get(b"retry-after"), self.wall())
            self._retry_later(callback, f"status {status}", after or 0.0)

    def _on_failure(self, failure: Failure, callback: Callback) -> None:
        if self._is_stopped:
            return  # it is saved for the next process
        if failure.check(RequestFailed) is None:
            self._log_fault(failure)
        if callback in self._in_flight:
            self._retry_later(callback, str(failure.value), 0.0)

    def _log_fault(self, failure: Failure) -> None:
        self._throttle.failure("a callback could not be handled", failure)

    def _retry_later(self, callback: Callback, reason: str, after: float) -> None:
        """Send a callback again after its back-off, but not before `after` seconds."""
        callback.attempts += 1
        if callback.attempts > self.target.retries:
            self._abandon(callback, reason)
            return
        del self._in_flight[callback]
        self._push(callback, max(after, exponential(callback.attempts, self.random)))
        self._throttle.warn("callback failed, will retry: {reason}", key=reason, reason=reason)
        self._send_due()

    def _abandon(self, callback: Callback, reason: str) -> None:
        _stats_of(self.stats, callback.route).callbacks_failed += 1
        self._throttle.warn("callback abandoned: {reason}", key=reason, reason=reason)
        self._end(callback)

    def _end(self, callback: Callback) -> None:
        del self._in_flight[callback]
        self.budget.used -= callback.size
        self._send_due()

    def stop(self) -> list[Callback]:
        """Stop posting; return the remaining callbacks, including those in flight."""
        self._is_stopped = True
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        heap, self._heap = self._heap, []
        return [*self._in_flight, *(callback for _, _, callback in sorted(heap))]

    def cancel_requests(self) -> None:
        """Cancel the requests in flight, after their callbacks were saved."""
        requests, self._in_flight = self._in_flight, {}
        for request in requests.values():
            if request is not None:
                maybeDeferred(request.cancel).addErrback(self._log_fault)


@attrs.define(eq=False)
class Callbacks:
    """Creates callbacks, passes each to the sender of its route, and saves them at a stop.

    Args:
        senders: by route; the sender of None is for all routes without their own.
        stats: by route.
        spool: keeps callbacks from a stop to the next start.
        clock: monotonic seconds.
        wall: seconds since the epoch.
    """

    senders: Mapping[str | None, CallbackSender]
    stats: Mapping[str, RouteStats]
    spool: Spool
    clock: IReactorTime
    wall: Callable[[], float]
    _restoring: Iterator[bool] = attrs.field(factory=lambda: iter(()), init=False)
    _reader: SpoolReader[Callback] | None = attrs.field(default=None, init=False)
    _next_slice: IDelayedCall | None = attrs.field(default=None, init=False)
    _throttle: Throttle = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self._throttle = Throttle(log, self.clock)

    def __len__(self) -> int:
        return sum(map(len, self.senders.values()))

    def enqueue(self, ended: Ended, delay: float = 0.0) -> None:
        """Send a callback in `delay` seconds, if the webhook of the push's route asks for it."""
        route, push = ended.route, ended.push
        sender = self._sender(route)
        if sender is None or ended.outcome not in sender.target.outcomes:
            return
        # Checked first, because of millions that overflow nearly all are dropped here.
        if not sender.can_accept(route, OVERHEAD_BYTES + len(push.line)):
            return
        received = self.wall() - (self.clock.seconds() - push.received)
        callback = Callback(
            route,
            push.device,
            push.message_body.encode("utf-8", "replace"),
            ended.reason.encode("utf-8", "replace"),
            b"msg_" + uuid.uuid4().hex.encode(),
            outcome=ended.outcome,
            received=rfc3339(received).encode(),
            push_id=(push.id or "").encode(),
        )
        sender.add(callback, delay)

    def reconfigure(self, targets: Mapping[str | None, CallbackTarget]) -> None:
        """Send to other targets from now on, by the names of their routes as in `senders`."""
        for route, target in targets.items():
            self.senders[route].reconfigure(target)

    def _sender(self, route: str) -> CallbackSender | None:
        return self.senders.get(route, self.senders.get(None))

    def start(self) -> None:
        """Restore the callbacks that earlier processes saved, a slice at a time."""
        self._restoring = self._restore()
        self._restore_slice()

    def _restore_slice(self) -> None:
        self._next_slice = None
        if next(self._restoring, None) is not None:
            self._next_slice = self.clock.callLater(0, self._restore_slice)

    def _restore(self) -> Iterator[bool]:
        """Queue the callbacks of every file; a file that cannot be read stays unchanged."""
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
                    self._restore_callback(callback)
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

    def _restore_callback(self, callback: Callback) -> None:
        sender = self._sender(callback.route)
        if sender is not None:
            sender.add(callback)
            return
        _stats_of(self.stats, callback.route).callbacks_dropped += 1
        self._throttle.warn(
            "no section for callbacks of {route}: callback dropped",
            key=callback.route,
            route=callback.route,
        )

    def stop(self) -> None:
        """Stop posting; save the remaining callbacks, including those in flight."""
        if self._next_slice is not None and self._next_slice.active():
            self._next_slice.cancel()
        left = [callback for sender in self.senders.values() for callback in sender.stop()]
        try:
            self._save(left)
        except OSError as error:
            for callback in left:
                _stats_of(self.stats, callback.route).callbacks_dropped += 1
            reason = error.strerror or str(error)
            log.critical("{count} callbacks are lost: {error}", count=len(left), error=reason)
        for sender in self.senders.values():
            sender.cancel_requests()

    def _save(self, left: list[Callback]) -> None:
        """Write the callbacks to a file, followed by those that were not restored yet."""
        reader, self._reader = self._reader, None
        if reader is not None:
            with closing(reader), suppress(OSError):
                reader.replace(map(to_record, left))
                return
        if left:
            self.spool.add(map(to_record, left))


def _stats_of(stats: Mapping[str, RouteStats], route: str) -> RouteStats:
    """Return the counters of a route, or of another route if it is no longer configured."""
    return stats.get(route) or next(iter(stats.values()))


def _log_unreadable(path: Path, error: OSError) -> None:
    log.error(
        "cannot read {path} ({error}): it is left as it is, and read again at the next start",
        path=str(path),
        error=error.strerror or str(error),
    )
