"""Tells an application of devices that are gone: webhooks, on a queue of their own."""

import base64
import hashlib
import heapq
import hmac
import json
import uuid
from collections.abc import Callable
from urllib.parse import urlencode

import attrs
from twisted.internet.defer import Deferred
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
"""Seconds a report waits before it goes, where something may want it held, and between looks."""

CAPACITY = 10_000
"""Reports that may wait; a further one is dropped."""

IN_FLIGHT = 4
"""Reports posted at once."""


@attrs.frozen
class CallbackTarget:
    """Where reports go, and how.

    Args:
        url: of the application.
        shared_secret: sent along, node2dm's way of showing who sends.
        signing_key: signs the report as Standard Webhooks 1.0 says; None: unsigned.
        retries: how often a report is sent again.
    """

    url: str
    shared_secret: str = attrs.field(repr=False)
    signing_key: bytes | None = attrs.field(repr=False)
    retries: int

    def headers(self, report_id: str, moment: int, body: bytes) -> Headers:
        """Build the headers of one try.

        Args:
            report_id: the same for every try.
            moment: of this try, seconds since the epoch.
        """
        content = (b"Content-Type", b"application/x-www-form-urlencoded")
        if self.signing_key is None:
            return (content,)
        signed = b"%b.%d.%b" % (report_id.encode(), moment, body)
        signature = base64.b64encode(hmac.digest(self.signing_key, signed, hashlib.sha256))
        return (
            content,
            (b"Webhook-Id", report_id.encode()),
            (b"Webhook-Timestamp", b"%d" % moment),
            (b"Webhook-Signature", b"v1," + signature),
        )


@attrs.define(eq=False)
class Callback:
    """A device that is gone, the message that found it out, and why: as the webhook will say."""

    route: str
    device: str
    message: str
    reason: str
    report_id: str
    tries: int = 0


@attrs.define(eq=False)
class CallbackSender:
    """Posts reports, each until it is taken, refused, or has been tried often enough.

    Args:
        target: where to.
        http: moves the requests.
        stats: by route: each report ends in a counter of its route.
        spool: where reports are kept from a stop to the next start.
        clock: monotonic seconds.
        wall: seconds since the epoch.
        random: numbers in [0, 1), for the jitter.
        should_hold: whether reports of this route and reason must wait, perhaps for ever.
    """

    target: CallbackTarget
    http: HTTPClient
    stats: dict[str, RouteStats]
    spool: Spool
    clock: IReactorTime
    wall: Callable[[], float]
    random: Callable[[], float]
    should_hold: Callable[[str, str], bool] = attrs.field(default=lambda route, reason: False)
    _heap: list[tuple[float, int, Callback]] = attrs.field(factory=list, init=False)
    _sequence: int = attrs.field(default=0, init=False)
    _in_flight: dict[Callback, Deferred[None] | None] = attrs.field(factory=dict, init=False)
    _timer: IDelayedCall | None = attrs.field(default=None, init=False)
    _is_stopped: bool = attrs.field(default=False, init=False)
    _throttle: Throttle = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self._throttle = Throttle(log, self.clock)

    def __len__(self) -> int:
        return len(self._heap) + len(self._in_flight)

    def start(self) -> None:
        """Take up what an earlier process left."""
        try:
            records = list(self.spool.read())
            reports = [_from_record(record) for record in records]
            for report in reports:
                if report is not None:
                    self._wait(report, 0.0)
            if None in reports:
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
        posted, self._in_flight = self._in_flight, {}
        self._is_stopped = True
        if self._timer is not None:
            self._timer.cancel()
        for request in posted.values():
            if request is not None:
                request.cancel()
        left = [*posted, *(report for _, _, report in sorted(self._heap))]
        if not left:
            return
        try:
            self.spool.write(_to_record(report) for report in left)
        except OSError as error:
            log.critical("{n} callbacks are lost: {error}", n=len(left), error=error.strerror)

    def report(self, route: str, push: Push, reason: str, delay: float = 0.0) -> None:
        """Tell the application, in `delay` seconds, that the device of `push` is gone."""
        device = push.device.decode()
        report_id = f"msg_{uuid.uuid4().hex}"
        self._wait(Callback(route, device, push.message_body, reason, report_id), delay)

    def _wait(self, report: Callback, delay: float) -> None:
        """Put a report on the heap, if there is room."""
        if len(self) >= CAPACITY:
            self._stats(report).callbacks_dropped += 1
            self._throttle.warn("more than {most} callbacks wait: one was dropped", most=CAPACITY)
            return
        self._push(report, delay)
        self._send_due()

    def _push(self, report: Callback, delay: float) -> None:
        self._sequence += 1
        heapq.heappush(self._heap, (self.clock.seconds() + delay, self._sequence, report))

    def _stats(self, report: Callback) -> RouteStats:
        """The counters of its route; those of another where the route is no longer configured."""
        return self.stats.get(report.route) or next(iter(self.stats.values()))

    def _send_due(self) -> None:
        """Post what is due; be called again when the next one is."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        now = self.clock.seconds()
        while self._heap and len(self._in_flight) < IN_FLIGHT and not self._is_stopped:
            due, _, report = self._heap[0]
            if due > now:
                self._timer = self.clock.callLater(due - now, self._timer_fired)
                return
            heapq.heappop(self._heap)
            if self.should_hold(report.route, report.reason):
                self._push(report, HOLD_INTERVAL)
            else:
                self._post(report)

    def _timer_fired(self) -> None:
        self._timer = None
        self._send_due()

    def _post(self, report: Callback) -> None:
        form = {
            "device_token": report.device,
            "message_body": report.message,
            "shared_secret": self.target.shared_secret,
            "reason": report.reason,
        }
        body = urlencode(form).encode()
        headers = self.target.headers(report.report_id, int(self.wall()), body)
        self._in_flight[report] = None
        posted = self.http.post(self.target.url, headers, body)
        done = posted.addCallbacks(
            self._answered, self._failed, callbackArgs=(report,), errbackArgs=(report,)
        ).addErrback(lambda failure: log.failure("a callback could not be handled", failure))
        if report in self._in_flight:
            self._in_flight[report] = done

    def _answered(self, response: Response, report: Callback) -> None:
        status = response.status
        if status // 100 == 2:
            self._stats(report).callbacks_sent += 1
            self._end(report)
        elif status // 100 == 4 and status not in (408, 429):
            self._abandon(report, f"status {status}")
        else:
            after = retry_after(response.headers.get(b"retry-after"), self.wall())
            self._try_again(report, f"status {status}", after)

    def _failed(self, failure: Failure, report: Callback) -> None:
        if not self._is_stopped:
            failure.trap(RequestFailed)
            self._try_again(report, str(failure.value), None)

    def _try_again(self, report: Callback, reason: str, after: float | None) -> None:
        report.tries += 1
        if report.tries > self.target.retries:
            self._abandon(report, reason)
            return
        del self._in_flight[report]
        self._throttle.warn("a callback was not taken and waits: {reason}", reason=reason)
        self._wait(report, exponential(report.tries, self.random) if after is None else after)

    def _abandon(self, report: Callback, reason: str) -> None:
        self._stats(report).callbacks_failed += 1
        self._throttle.warn("a callback was given up: {reason}", reason=reason)
        self._end(report)

    def _end(self, report: Callback) -> None:
        del self._in_flight[report]
        self._send_due()


def _to_record(report: Callback) -> bytes:
    return json.dumps(attrs.astuple(report)).encode()


def _from_record(record: bytes | None) -> Callback | None:
    try:
        route, device, message, reason, report_id, tries = json.loads(record or b"")
        texts = (route, device, message, reason, report_id)
        if all(isinstance(text, str) for text in texts):
            return Callback(route, device, message, reason, report_id, int(tries))
    except (ValueError, TypeError):
        pass
    return None
