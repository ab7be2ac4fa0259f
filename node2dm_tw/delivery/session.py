"""Whether a lane may send, and with which credential.

What stops a lane: no credential, an open circuit breaker, a lock. `TRANSITIONS` joins them.
"""

import enum
from collections.abc import Callable

import attrs

from node2dm_tw.core.snapshot import LaneState
from node2dm_tw.delivery.circuit_breaker import BreakerState, CircuitBreaker
from node2dm_tw.delivery.signin import SignIn
from node2dm_tw.providers.interface import Credential


class LockReason(enum.Enum):
    """Why a lane sends nothing until a person has acted."""

    OVER_QUOTA = "over its quota"
    SIGN_IN_GIVEN_UP = "signing in was given up"


class SessionEvent(enum.Enum):
    """What happens to a session."""

    START = "start"
    CREDENTIAL = "credential"
    CREDENTIAL_WHILE_OPEN = "credential while the breaker is open"
    NO_CREDENTIAL = "credential refused"
    BREAKER_OPEN = "breaker opens"
    BREAKER_PASSES = "breaker half-open, or closed"
    LOCK = "lock"
    STOP = "stop"


_OUT, _IN, _READY, _PAUSED, _LOCKED = LaneState

TRANSITIONS: dict[tuple[LaneState, SessionEvent], LaneState] = {
    (_OUT, SessionEvent.START): _IN,
    (_OUT, SessionEvent.LOCK): _LOCKED,
    (_IN, SessionEvent.CREDENTIAL): _READY,
    (_IN, SessionEvent.CREDENTIAL_WHILE_OPEN): _PAUSED,
    (_IN, SessionEvent.LOCK): _LOCKED,
    (_IN, SessionEvent.STOP): _OUT,
    (_READY, SessionEvent.CREDENTIAL): _READY,
    (_READY, SessionEvent.NO_CREDENTIAL): _IN,
    (_READY, SessionEvent.BREAKER_OPEN): _PAUSED,
    (_READY, SessionEvent.BREAKER_PASSES): _READY,
    (_READY, SessionEvent.LOCK): _LOCKED,
    (_READY, SessionEvent.STOP): _OUT,
    (_PAUSED, SessionEvent.NO_CREDENTIAL): _IN,
    (_PAUSED, SessionEvent.BREAKER_PASSES): _READY,
    (_PAUSED, SessionEvent.LOCK): _LOCKED,
    (_PAUSED, SessionEvent.STOP): _OUT,
    (_LOCKED, SessionEvent.START): _IN,
}
"""
The next state, by state and event; what is not here changes nothing. Whenever a session becomes
ready, also from ready, it takes the latest credential and calls `on_ready`. In every other state it
has no credential.
"""


@attrs.define(eq=False)
class Session:
    """Says when a lane may send.

    Args:
        make_signin: makes what gets the credentials, given its `on_credential` and `on_given_up`.
        make_breaker: makes the circuit breaker, given its `on_open` and `on_change`.
        on_ready: called when sending may begin or go on.
        on_open: called each time the circuit breaker opens.
        on_given_up: called with the reason when there will be no credential.

    Attributes:
        signin: gets the credentials.
        breaker: pauses for the upstream's sake.
        state: see `TRANSITIONS`.
        credential: to send with; None while nothing may be sent.
        lock_reason: why a person must act before anything is sent; None: nothing is locked.
    """

    make_signin: Callable[[Callable[[], None], Callable[[str], None]], SignIn]
    make_breaker: Callable[[Callable[[], None], Callable[[], None]], CircuitBreaker]
    on_ready: Callable[[], None]
    on_open: Callable[[], None]
    on_given_up: Callable[[str], None]
    signin: SignIn = attrs.field(init=False)
    breaker: CircuitBreaker = attrs.field(init=False)
    state: LaneState = attrs.field(default=LaneState.SIGNED_OUT, init=False)
    credential: Credential | None = attrs.field(default=None, init=False)
    lock_reason: LockReason | None = attrs.field(default=None, init=False)
    _lock_text: str = attrs.field(default="", init=False)

    def __attrs_post_init__(self) -> None:
        self.signin = self.make_signin(self._on_credential, self.on_given_up)
        self.breaker = self.make_breaker(self.on_open, self._on_breaker)

    def start(self) -> None:
        """Sign in, and be ready."""
        self.lock_reason = None
        self._handle(SessionEvent.START)
        self.breaker.start()
        self.signin.start()

    def stop(self) -> None:
        """Be signed out, with no call or request of ours pending."""
        self._handle(SessionEvent.STOP)
        self._stop_parts()

    def lock(self, reason: LockReason, text: str) -> None:
        """Stop sending until a person has acted; `text` says more than the reason."""
        self.lock_reason, self._lock_text = reason, text
        self._handle(SessionEvent.LOCK)
        self._stop_parts()

    @property
    def reason_text(self) -> str | None:
        """Why nothing is sent, where a reason is known."""
        match self.state:
            case LaneState.LOCKED:
                return self._lock_text
            case LaneState.SIGNED_OUT | LaneState.SIGNING_IN:
                return self.signin.last_error or None
            case LaneState.PAUSED:
                return self.breaker.reason
            case LaneState.READY:
                return None

    def _on_credential(self) -> None:
        if self.signin.credential is None:
            self._handle(SessionEvent.NO_CREDENTIAL)
        elif self.breaker.state is BreakerState.OPEN:
            self._handle(SessionEvent.CREDENTIAL_WHILE_OPEN)
        else:
            self._handle(SessionEvent.CREDENTIAL)

    def _on_breaker(self) -> None:
        is_open = self.breaker.state is BreakerState.OPEN
        self._handle(SessionEvent.BREAKER_OPEN if is_open else SessionEvent.BREAKER_PASSES)

    def _handle(self, event: SessionEvent) -> None:
        state = TRANSITIONS.get((self.state, event))
        if state is not None:
            self.state = state
            self.credential = self.signin.credential if state is LaneState.READY else None
            if state is LaneState.READY:
                self.on_ready()

    def _stop_parts(self) -> None:
        self.signin.stop()
        self.breaker.stop()
