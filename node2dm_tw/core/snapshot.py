"""What every view renders: the whole process at one moment, as typed values that never change."""

import enum

import attrs

from node2dm_tw.core.stats import HistogramSnapshot, LatestInvalid, RouteCounters


class LaneState(enum.Enum):
    """The states of a lane, as every view names them."""

    SIGNED_OUT = "signed out"
    SIGNING_IN = "signing in"
    READY = "ready"
    PAUSED = "paused"
    LOCKED = "locked"


@attrs.frozen
class RecentError:
    """Errors of one kind and reason, counted together.

    Args:
        kind: what became of the pushes or requests, in a word or two.
        reason: in the upstream's words, without a whole device.
        count: how many there were.
        when: seconds since the epoch of the last one.
        device: the last one concerned, shortened; empty where none is.
    """

    kind: str
    reason: str
    count: int
    when: float
    device: str


@attrs.frozen
class BlockedDevice:
    """A device over its quota: shortened, and the seconds until pushes to it are sent again."""

    device: str
    left: int


@attrs.frozen(kw_only=True)
class RouteSnapshot(RouteCounters):
    """One route at one moment; docs/stats.md says what each value is.

    None: the value does not exist, and no view shows it.

    Args:
        refused_reasons: `messages_refused`, by reason.
        queue_writable: whether the engine can keep pushes; None: it cannot fail.
        errors: the most recent ones, the latest first.
        blocked: the devices blocked last.
    """

    refused_reasons: dict[str, int]
    messages_in_queue: int
    messages_in_flight: int
    messages_waiting: int
    window: int
    backing_off: bool
    rate_limited_tokens: int
    signed_in: bool
    token_age: int | None
    token_left: int | None
    renewal_error: str | None
    state: LaneState
    state_reason: str | None
    pause_left: float
    oldest_age: float
    max_queued: int
    queued_bytes: int
    logged_in_to_c2dm: bool | None
    bad_device_alarm: bool | None
    project_rate_used: float | None
    state_advice: str | None
    http_client: str
    handshakes: int
    reconnects: int
    queue_writable: bool | None
    upstream_latency: HistogramSnapshot
    queue_age: HistogramSnapshot
    errors: tuple[RecentError, ...]
    blocked: tuple[BlockedDevice, ...]

    @property
    def total_errors(self) -> int:
        """Rejected pushes, bad devices, quota answers and requests without an answer."""
        return (
            self.messages_refused
            + self.messages_bad_device
            + self.quota_answers
            + self.network_failures
        )


@attrs.frozen
class MemoryUse:
    """Bytes: resident, and of the C heap what is held and what is in use."""

    rss: int
    heap_total: int
    heap_used: int


@attrs.frozen(kw_only=True)
class ProcessSnapshot:
    """The process and its routes at one moment.

    Args:
        uptime: whole seconds.
        invalid: `messages_invalid`, by reason.
        latest_invalid: for each reason the latest bytes that were not a push.
        rcvbuf: bytes of all receive buffers together.
    """

    version: str
    uptime: int
    memory: MemoryUse
    routes: dict[str, RouteSnapshot]
    invalid: dict[str, int]
    latest_invalid: tuple[LatestInvalid, ...]
    callbacks_waiting: int
    outcomes_dropped: int
    udp_dropped: int
    rcvbuf: int
    max_queued_bytes: int
