"""Makes the snapshot of a route out of the parts of its lane."""

from node2dm_tw.core.snapshot import RouteSnapshot
from node2dm_tw.delivery.lane import Lane


def take_snapshot(
    lane: Lane, *, max_queued: int, queued_bytes: int, is_c2dm: bool, advice: str | None
) -> RouteSnapshot:
    """Take a snapshot of a lane; docs/stats.md says what each value is.

    Args:
        max_queued: pushes that its queue can hold.
        queued_bytes: what the pushes in its queue take.
        is_c2dm: whether it signs in to C2DM.
        advice: what a person must do before it sends again; None: nobody must act.
    """
    stats, queue, admission, session = lane.stats, lane.queue, lane.admission, lane.session
    signin, breaker = session.signin, session.breaker
    credential, received = signin.credential, queue.next_received
    is_signed_in, wall = credential is not None, lane.wall()
    return RouteSnapshot(
        **stats.counters(),
        refused_reasons=dict(stats.refused_reasons),
        messages_in_queue=queue.depth,
        messages_in_flight=lane.in_flight,
        messages_waiting=len(admission.retry_queue) + queue.asleep,
        window=lane.window.size,
        backing_off=breaker.pause_left > 0,
        rate_limited_tokens=len(admission.blocked),
        signed_in=is_signed_in,
        token_age=None if credential is None else int(max(0.0, wall - credential.obtained_at)),
        token_left=None if credential is None else int(max(0.0, credential.expires_at - wall)),
        renewal_error=(signin.last_error or None) if is_signed_in else None,
        state=session.state,
        state_reason=session.reason_text,
        pause_left=round(breaker.pause_left, 1),
        oldest_age=0.0 if received is None else round(lane.clock.seconds() - received, 1),
        max_queued=max_queued,
        queued_bytes=queued_bytes,
        logged_in_to_c2dm=is_signed_in if is_c2dm else None,
        bad_device_alarm=None if lane.alarm is None else lane.alarm.is_on,
        project_rate_used=None if lane.project_rate is None else round(lane.project_rate.used, 4),
        state_advice=advice,
        http_client=lane.http.name,
        handshakes=lane.http.handshakes,
        reconnects=lane.http.reconnects,
        queue_writable=queue.is_writable,
        upstream_latency=stats.upstream_latency.snapshot(),
        queue_age=stats.queue_age.snapshot(),
        errors=lane.recent_errors.latest(),
        blocked=admission.blocked.latest(),
    )
