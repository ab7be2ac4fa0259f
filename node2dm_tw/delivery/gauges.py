"""What a lane shows of itself, whenever somebody looks."""

from collections.abc import Callable, Sized

from twisted.internet.interfaces import IReactorTime

from node2dm_tw.core.stats import Gauge
from node2dm_tw.delivery.admission import Admission
from node2dm_tw.delivery.session import Session
from node2dm_tw.delivery.window import Window
from node2dm_tw.queues.interface import PushQueue


def gauges(
    queue: PushQueue,
    admission: Admission,
    window: Window,
    session: Session,
    in_flight: Sized,
    clock: IReactorTime,
    wall: Callable[[], float],
) -> dict[str, Gauge]:
    """Make the gauges of a lane out of its parts; docs/stats.md says what each one is.

    Args:
        in_flight: the requests under way.
        clock: monotonic seconds.
        wall: seconds since the epoch.
    """
    signin, breaker = session.signin, session.breaker

    def token_age() -> int | None:
        credential = signin.credential
        return None if credential is None else int(max(0.0, wall() - credential.obtained_at))

    def token_left() -> int | None:
        credential = signin.credential
        return None if credential is None else int(max(0.0, credential.expires_at - wall()))

    def renewal_error() -> str | None:
        return None if signin.credential is None else signin.last_error or None

    def oldest_age() -> float:
        received = queue.next_received
        return 0.0 if received is None else round(clock.seconds() - received, 1)

    return {
        "messages_in_queue": lambda: queue.depth,
        "messages_in_flight": lambda: len(in_flight),
        "messages_waiting": lambda: len(admission.retry_queue),
        "window": lambda: window.size,
        "backing_off": lambda: breaker.pause_left > 0,
        "rate_limited_tokens": lambda: len(admission.blocked),
        "signed_in": lambda: signin.credential is not None,
        "token_age": token_age,
        "token_left": token_left,
        "renewal_error": renewal_error,
        "state": lambda: session.state.value,
        "state_reason": lambda: session.reason_text,
        "pause_left": lambda: round(breaker.pause_left, 1),
        "oldest_age": oldest_age,
    }
