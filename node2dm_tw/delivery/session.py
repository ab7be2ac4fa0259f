"""Whether a lane may send, and with which credential."""

import enum
from collections.abc import Callable

import attrs

from node2dm_tw.delivery.circuit_breaker import BreakerState, CircuitBreaker
from node2dm_tw.delivery.signin import SignIn
from node2dm_tw.providers.interface import Credential


class LockReason(enum.Enum):
    """Why a lane sends nothing until a person has acted."""

    OVER_QUOTA = "over its quota"
    SIGN_IN_GIVEN_UP = "signing in was given up"


class LaneState(enum.Enum):
    """The states of a lane, as every view names them."""

    SIGNED_OUT = "signed out"
    SIGNING_IN = "signing in"
    READY = "ready"
    PAUSED = "paused"
    LOCKED = "locked"


@attrs.define(eq=False)
class Session:
    """Joins what stops a lane: no credential, an open circuit breaker, a lock.

    Args:
        make_signin: makes what gets the credentials, given its `on_credential` and `on_given_up`.
        make_breaker: makes the circuit breaker, given its `on_open` and `on_change`.
        on_ready: called when sending may begin or go on.
        on_open: called each time the circuit breaker opens.
        on_given_up: called with the reason when there will be no credential.

    Attributes:
        signin: gets the credentials.
        breaker: pauses for the upstream's sake.
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
    credential: Credential | None = attrs.field(default=None, init=False)
    lock_reason: LockReason | None = attrs.field(default=None, init=False)
    _lock_text: str = attrs.field(default="", init=False)
    _is_started: bool = attrs.field(default=False, init=False)

    def __attrs_post_init__(self) -> None:
        self.signin = self.make_signin(self._update, self.on_given_up)
        self.breaker = self.make_breaker(self.on_open, self._update)

    def start(self) -> None:
        """Sign in, and be ready."""
        self.lock_reason = None
        self._is_started = True
        self.breaker.start()
        self.signin.start()

    def stop(self) -> None:
        """Be signed out, with no call or request of ours pending."""
        self._is_started = False
        self.signin.stop()
        self.breaker.stop()
        self._update()

    def lock(self, reason: LockReason, text: str) -> None:
        """Stop sending until a person has acted; `text` says more than the reason."""
        self.stop()
        self.lock_reason, self._lock_text = reason, text

    @property
    def state(self) -> LaneState:
        """What the lane is doing, as far as a person wants to know."""
        if self.lock_reason:
            return LaneState.LOCKED
        if not self._is_started:
            return LaneState.SIGNED_OUT
        if self.signin.credential is None:
            return LaneState.SIGNING_IN
        is_open = self.breaker.state is BreakerState.OPEN
        return LaneState.PAUSED if is_open else LaneState.READY

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

    def _update(self) -> None:
        """Take over the credential, or take it away, after any change."""
        may_send = self._is_started and self.breaker.state is not BreakerState.OPEN
        self.credential = self.signin.credential if may_send else None
        if self.credential is not None:
            self.on_ready()
