"""Callbacks: webhooks that tell an application which pushes ended badly, on their own queue."""

import base64
import hashlib
import heapq
import hmac
import json
import re
import uuid
from collections.abc import Callable
from urllib.parse import urlencode

import attrs
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.python.failure import Failure

from node2dm_tw.backoff import exponential, retry_after
from node2dm_tw.http.interface import Headers, HTTPClient, RequestFailed, Response
from node2dm_tw.logs import Throttle, logger
from node2dm_tw.push import Push
from node2dm_tw.queues.spool import Spool
from node2dm_tw.stats import RouteStats

log = logger()

HOLD_INTERVAL = 10.0
"""
Delay in seconds before a callback is sent while the alarm may still hold it, and the interval
between checks.
"""

MAX_WAITING_BYTES = 64 << 20
"""Memory of the callbacks that wait, whatever their sizes and routes."""

OVERHEAD_BYTES = 500
"""What a callback takes beside its texts: its objects and its place in the heap. Measured: 420."""

IN_FLIGHT = 4
"""Callbacks posted at once."""

MAX_CALLBACKS_PER_TURN = 500
"""Callbacks sent or held before the reactor gets its turn."""

MAX_RECORD_BYTES = 500_000
"""The longest push of a datagram, each of its bytes escaped, is a shorter record."""

GONE = 410
"""The status with which an application says that it wants no such callback."""


@attrs.define(eq=False, weakref_slot=False)
class Callback:
    """A push that ended badly, as the application is told of it; in bytes, which take least memory.

    Args:
        route: of the push.
        device: its registration ID.
        message: what was not delivered.
        reason: why.
        callback_id: the same for every attempt.
        attempts: that have failed.
    """

    route: str
    device: bytes
    message: bytes
    reason: bytes
    callback_id: bytes
    attempts: int = 0

    @property
    def size(self) -> int:
        """Bytes of memory it takes, roughly."""
        return OVERHEAD_BYTES + len(self.device) + len(self.message) + len(self.reason)


@attrs.frozen
class CallbackTarget:
    """Where callbacks go, and how.

    Args:
        url: of the application.
        shared_secret: sent along, node2dm's way of showing who sends.
        signing_key: signs callbacks as Standard Webhooks 1.0 says; None: unsigned.
        retries: how often a callback is sent again.
    """

    url: str
    shared_secret: str = attrs.field(repr=False)
    signing_key: bytes | None = attrs.field(repr=False)
    retries: int

    def body(self, callback: Callback) -> bytes:
        """Build the form that is posted."""
        form = {
            "device_token": callback.device,
            "message_body": callback.message,
            "shared_secret": self.shared_secret,
            "reason": callback.reason,
        }
        return urlencode(form).encode()

    def headers(self, callback: Callback, moment: int, body: bytes) -> Headers:
        """Build the headers of one attempt.

        Args:
            moment: of this attempt, seconds since the epoch.
        """
        content = (b"Content-Type", b"application/x-www-form-urlencoded")
        if self.signing_key is None:
            return (content,)
        signed = b"%b.%d.%b" % (callback.callback_id, moment, body)
        signature = base64.b64encode(hmac.digest(self.signing_key, signed, hashlib.sha256))
        return (
            content,
            (b"Webhook-Id", callback.callback_id),
            (b"Webhook-Timestamp", b"%d" % moment),
            (b"Webhook-Signature", b"v1," + signature),
        )


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
        body = self.target.body(callback)
        headers = self.target.headers(callback, int(self.wall()), body)
        self._in_flight[callback] = None
        request: Deferred[None] = (
            maybeDeferred(self.http.post, self.target.url, headers, body)
            .addCallback(self._on_answer, callback)
            .addErrback(self._on_failure, callback)
            .addErrback(self._log_fault)
        )
        if callback in self._in_flight:
            self._in_flight[callback] = request

    def _on_answer(self, response: Response, callback: Callback) -> None:
        status = response.status
        if callback not in self._in_flight:
            return  # it was kept for the next process
        if status // 100 == 2:
            self._stats(callback).callbacks_sent += 1
            self._end(callback)
        elif status == GONE:
            self._abandon(callback, f"status {status}")
        else:
            after = retry_after(response.headers.get(b"retry-after"), self.wall())
            self._retry_later(callback, f"status {status}", after or 0.0)

    def _on_failure(self, failure: Failure, callback: Callback) -> None:
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
        """Queue what an earlier process left."""
        try:
            callbacks = [_from_record(record) for record in self.spool.read()]
        except OSError as error:
            log.error("{path}: {error}", path=str(self.spool.path), error=error.strerror)
            return
        for callback in callbacks:
            if callback is not None:
                self._add(callback, 0.0)
        try:
            if None in callbacks:
                log.error(
                    "a damaged file of callbacks is kept as {path}",
                    path=str(self.spool.set_aside()),
                )
            else:
                self.spool.remove()
        except OSError as error:
            log.error("{path}: {error}", path=str(self.spool.path), error=error.strerror)

    def stop(self) -> None:
        """Post nothing more; keep what is left, that in flight included, for the next process."""
        requests, self._in_flight = self._in_flight, {}
        heap, self._heap = self._heap, []
        self._is_stopped = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        left = [*requests, *(callback for _, _, callback in sorted(heap))]
        if left:
            try:
                self.spool.write(_to_record(callback) for callback in left)
            except OSError as error:
                log.critical("{n} callbacks are lost: {error}", n=len(left), error=error.strerror)
        for request in requests.values():
            if request is not None:
                request.cancel()


def _to_record(callback: Callback) -> bytes:
    fields = (callback.device, callback.message, callback.reason, callback.callback_id)
    texts = [field.decode() for field in fields]
    return json.dumps([callback.route, *texts, callback.attempts], ensure_ascii=False).encode()


_ID = re.compile(rb"[A-Za-z0-9_-]{1,64}")


def _from_record(record: bytes | None) -> Callback | None:
    """Read a record that anybody may have written; None where it is no callback."""
    if record is None or len(record) > MAX_RECORD_BYTES:
        return None
    try:
        route, *texts, attempts = json.loads(record)
        device, message, reason, callback_id = (text.encode() for text in texts)
    except (ValueError, TypeError, AttributeError, RecursionError):
        return None
    if not isinstance(route, str) or type(attempts) is not int or not 0 <= attempts <= 1_000:
        return None
    if _ID.fullmatch(callback_id) is None:
        return None
    return Callback(route, device, message, reason, callback_id, attempts)
