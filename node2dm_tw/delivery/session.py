"""When a lane may send: the machine of its life.

signed out -> signing in -> ready <-> paused, and locked
"""

from collections.abc import Callable
from typing import Protocol

import attrs
from automat import TypeMachineBuilder
from twisted.internet.interfaces import IDelayedCall, IReactorTime

from node2dm_tw.backoff import exponential
from node2dm_tw.delivery.signin import SignIn
from node2dm_tw.logs import logger
from node2dm_tw.providers.interface import Credential

log = logger()

SHORTEST_PAUSE = 1.0
"""Seconds; an upstream that says "retry after 0" is not hammered all the same."""


class _Inputs(Protocol):
    """What happens to a session."""

    def start(self) -> None: ...
    def signed_in(self) -> None: ...
    def signed_out(self) -> None: ...
    def pause(self) -> None: ...
    def resume(self) -> None: ...
    def lock(self) -> None: ...
    def stop(self) -> None: ...


@attrs.define(eq=False)
class Session:
    """Says whether, and with which credential, a lane may send.

    Args:
        route: for the log.
        signin: gets the credentials.
        clock: monotonic seconds.
        random: numbers in [0, 1), for the jitter.
        on_ready: sending may begin or go on; told whether it does so after a pause.

    Attributes:
        credential: to send with; None while nothing may be sent.
        state: the name of the machine's state.
        epoch: stretches of sending so far; a request belongs to the one it was sent in.
        paused_until: seconds of the clock; nothing is sent before it.
        reason: why the lane was paused last, or why it is locked.
    """

    route: str
    signin: SignIn
    clock: IReactorTime
    random: Callable[[], float]
    on_ready: Callable[[bool], None] = attrs.field(default=lambda after_pause: None)
    credential: Credential | None = attrs.field(default=None, init=False)
    state: str = attrs.field(default="signed out", init=False)
    epoch: int = attrs.field(default=0, init=False)
    paused_until: float = attrs.field(default=0.0, init=False)
    reason: str = attrs.field(default="", init=False)
    _pauses: int = attrs.field(default=0, init=False)
    _bad_epoch: int = attrs.field(default=-1, init=False)
    _machine: _Inputs = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self._machine = _new_machine(self)
        self.signin.on_credential = self._machine.signed_in

    def start(self) -> None:
        """Sign in, and be ready."""
        self._machine.start()

    def stop(self) -> None:
        """Be signed out, with no call or request of ours pending."""
        self._machine.stop()

    def lock(self, reason: str) -> None:
        """Stop sending until a person has looked."""
        self.reason = reason
        self.credential = None
        self._machine.lock()

    @property
    def pause_left(self) -> float:
        """Seconds before which nothing is sent for the upstream's sake."""
        return max(0.0, self.paused_until - self.clock.seconds())

    @property
    def why(self) -> str | None:
        """Why nothing is sent, where a reason is known."""
        if self.state in ("signing in", "signed out"):
            return self.signin.trouble or None
        return self.reason if self.state in ("paused", "locked") else None

    def answered(self, epoch: int, generation: int) -> None:
        """The upstream answered a request of this epoch and credential, and could work."""
        if self._pauses and epoch == self.epoch:
            self._pauses = 0
        if not self.signin.is_accepted:
            self.signin.accepted(generation)

    def refused(self, generation: int) -> None:
        """The upstream answered 401 to a request with this credential."""
        if self.signin.refused(generation):
            self.credential = None
            self._machine.signed_out()

    def unavailable(self, epoch: int, after: float | None, reason: str, first: float = 1.0) -> None:
        """The upstream cannot work now: pause, once for all the requests of an epoch.

        Args:
            epoch: of the request that was answered so.
            after: seconds the answer named. Of several answers the latest moment named wins.
            reason: for the log and the status page.
            first: seconds of the first of several pauses in a row that nobody named; see
                `node2dm_tw.backoff.exponential`.
        """
        is_news = epoch == self.epoch != self._bad_epoch
        if is_news:
            self._pauses += 1
        elif after is None:
            return
        delay = exponential(self._pauses, self.random, first=first) if after is None else after
        until = self.clock.seconds() + max(SHORTEST_PAUSE, delay)
        if until <= self.paused_until:
            return
        self.paused_until = until
        self.reason = reason
        self.credential = None
        self._bad_epoch = self.epoch
        if is_news:
            log.warn(
                "{route}: paused for {delay:.1f} s: {reason}",
                route=self.route,
                delay=self.pause_left,
                reason=reason,
            )
        self._machine.pause()

    def _go_on(self) -> None:
        """There is a credential and no pause is on, as far as the machine knows."""
        self.state = "ready"
        if self.pause_left > 0:
            self._machine.pause()
            return
        after_pause = self._bad_epoch == self.epoch
        self.epoch += after_pause
        self.credential = self.signin.credential
        self.on_ready(after_pause)


def _build() -> Callable[[Session], _Inputs]:  # noqa: C901 - a table, not a path
    """Put the machine together. A pause that is still on when a sign-in ends is taken up again."""
    builder = TypeMachineBuilder(_Inputs, Session)

    def set_timer(inputs: _Inputs, session: Session) -> IDelayedCall:
        return session.clock.callLater(session.pause_left, inputs.resume)

    signed_out = builder.state("signed out")
    signing_in = builder.state("signing in")
    ready = builder.state("ready")
    paused = builder.state("paused", set_timer)
    locked = builder.state("locked")

    def begin(inputs: _Inputs, session: Session) -> None:
        session.state = "signing in"
        session.signin.start()

    def sign_in_again(inputs: _Inputs, session: Session) -> None:
        session.state = "signing in"

    def go_on(inputs: _Inputs, session: Session) -> None:
        session._go_on()

    def pause(inputs: _Inputs, session: Session) -> None:
        session.state = "paused"

    def stop(inputs: _Inputs, session: Session) -> None:
        session.state = "signed out"
        session.credential = None
        session.signin.stop()

    def lock(inputs: _Inputs, session: Session) -> None:
        stop(inputs, session)
        session.state = "locked"

    def ignore(inputs: _Inputs, session: Session) -> None:
        pass

    signed_out.upon(_Inputs.start).to(signing_in)(begin)
    signing_in.upon(_Inputs.signed_in).to(ready)(go_on)
    ready.upon(_Inputs.signed_in).loop()(go_on)
    ready.upon(_Inputs.signed_out).to(signing_in)(sign_in_again)
    ready.upon(_Inputs.pause).to(paused)(pause)
    for state in (signed_out, signing_in, ready):
        state.upon(_Inputs.lock).to(locked)(lock)
        state.upon(_Inputs.stop).to(signed_out)(stop)

    @paused.upon(_Inputs.pause).loop()
    def extend(inputs: _Inputs, session: Session, timer: IDelayedCall) -> None:
        timer.reset(session.pause_left)

    @paused.upon(_Inputs.resume).to(ready)
    def resume(inputs: _Inputs, session: Session, timer: IDelayedCall) -> None:
        session._go_on()

    @paused.upon(_Inputs.signed_in).loop()
    def renewed(inputs: _Inputs, session: Session, timer: IDelayedCall) -> None:
        pass

    @paused.upon(_Inputs.signed_out).to(signing_in)
    def refused(inputs: _Inputs, session: Session, timer: IDelayedCall) -> None:
        timer.cancel()
        session.state = "signing in"

    @paused.upon(_Inputs.lock).to(locked)
    def lock_paused(inputs: _Inputs, session: Session, timer: IDelayedCall) -> None:
        timer.cancel()
        lock(inputs, session)

    @paused.upon(_Inputs.stop).to(signed_out)
    def stop_paused(inputs: _Inputs, session: Session, timer: IDelayedCall) -> None:
        timer.cancel()
        stop(inputs, session)

    # A late answer may tell what is known already, or no longer matters.
    for state, known in (
        (signed_out, (_Inputs.signed_out, _Inputs.pause, _Inputs.signed_in)),
        (signing_in, (_Inputs.signed_out, _Inputs.pause)),
        (
            locked,
            (
                _Inputs.start,
                _Inputs.signed_out,
                _Inputs.pause,
                _Inputs.signed_in,
                _Inputs.lock,
                _Inputs.stop,
            ),
        ),
    ):
        for happening in known:
            state.upon(happening).loop()(ignore)

    return builder.build()


_new_machine = _build()
