"""One sign-in at a time: first, again after a refusal, and early, before the credential is old."""

import enum
from collections.abc import Callable

import attrs
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.internet.task import deferLater
from twisted.python.failure import Failure

from node2dm_tw.core.backoff import exponential
from node2dm_tw.core.logs import Throttle, logger
from node2dm_tw.providers.interface import Credential, Credentials, SignInFailed, SignInRefused

log = logger()

MAX_REFUSALS = 10
"""Refusals in a row after which signing in is given up."""

LONGEST_WAIT = 600.0
"""Seconds between tries that are known to need a person's help first."""

PUSH_INTERVAL = 60.0
"""Seconds between two sign-ins that refused pushes cause, where others were accepted."""

KEEP_INTERVAL = 1.0
"""Seconds between two writings of the credential to disk."""


class Refusal(enum.Enum):
    """What a lane does with a push that was answered 401."""

    SEND_AGAIN = "with the next credential"
    SLEEP = "others have not shown yet whose fault it is"
    REJECT = "others are accepted with this credential, and it is the second that refuses this push"


@attrs.define(eq=False)
class SignIn:
    """Keeps a credential that is good, as far as anyone knows.

    Args:
        route: for the log.
        credentials: where they come from.
        clock: monotonic seconds.
        wall: seconds since the epoch.
        random: numbers in [0, 1), for the jitter.
        on_credential: called when there is a new credential, or none any more.
        on_given_up: called with the reason when there will be none.

    Attributes:
        last_error: why the last try failed; empty once one has not.
        accepted: the latest generation with which the upstream accepted a push; 0: none.
    """

    route: str
    credentials: Credentials
    clock: IReactorTime
    wall: Callable[[], float]
    random: Callable[[], float]
    on_credential: Callable[[], None]
    on_given_up: Callable[[str], None]
    credential: Credential | None = attrs.field(default=None, init=False)
    last_error: str = attrs.field(default="", init=False)
    accepted: int = attrs.field(default=0, init=False)
    _stored: int = attrs.field(default=0, init=False)
    _refusals: int = attrs.field(default=0, init=False)
    _failures: int = attrs.field(default=0, init=False)
    _caused_at: float = attrs.field(default=float("-inf"), init=False)
    _replacement: str = attrs.field(default="", init=False, repr=False)
    _kept_at: float = attrs.field(default=float("-inf"), init=False)
    _keeping: IDelayedCall | None = attrs.field(default=None, init=False)
    _fetching: Deferred[None] | None = attrs.field(default=None, init=False)
    _next: Deferred[None] | None = attrs.field(default=None, init=False)
    _is_stopped: bool = attrs.field(default=True, init=False)
    _throttle: Throttle = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self._throttle = Throttle(log, self.clock)

    def start(self) -> None:
        """Use the credential of an earlier process, or sign in; also after a stop."""
        self._is_stopped = False
        self._refusals = self._failures = 0
        stored = self.credentials.stored()
        if stored is None:
            self._fetch()
        else:
            log.info("{route}: using the stored token", route=self.route)
            self._stored = stored.generation
            self._adopt(stored)

    def stop(self) -> None:
        """Forget the credential and whatever is under way; sign in no more.

        A locked route may still get answers, with a new token or without: they change nothing.
        """
        self._is_stopped = True
        if self._keeping is not None:
            self._keeping.cancel()
            self._keep()
        self.credential = None
        self._cancel_next()
        if self._fetching is not None:
            self._fetching.cancel()

    def on_accepted(self, generation: int) -> None:
        """A push was accepted with the credential of this generation."""
        self.accepted = max(self.accepted, generation)
        self._refusals = 0

    def on_unauthorized(self, generation: int, first_refused: int) -> Refusal:
        """A push was answered 401: sign in, unless it is this push that is at fault.

        Args:
            generation: of the credential it was sent with.
            first_refused: generation with which the same push was refused first; 0: never before.
        """
        if not self._is_current(generation):
            return Refusal.SEND_AGAIN  # a late answer says nothing about the present credential
        if generation in (self.accepted, self._stored):
            if first_refused:
                return Refusal.REJECT
            if not self._may_cause_sign_in():
                return Refusal.SLEEP
            self._discard()
            self._fetch_in(0)
        else:
            if 0 < first_refused <= self.accepted:
                return Refusal.SLEEP
            self._discard()
            self._refuse("a new token is refused (401)", final=False)
        return Refusal.SEND_AGAIN

    @property
    def is_proven(self) -> bool:
        """Whether a push was accepted with the present credential."""
        return self.credential is not None and self.credential.generation <= self.accepted

    def on_still_refused(self, generation: int) -> Refusal:
        """A push that was refused with the present credential has slept its back-off."""
        if self.accepted == generation:
            return Refusal.REJECT
        if not self._may_cause_sign_in():
            return Refusal.SLEEP
        self._discard()
        self._fetch_in(0)
        return Refusal.SEND_AGAIN

    def replace(self, token: str) -> None:
        """An answer brought a new token (Update-Client-Auth): use it from now on."""
        if token == self._replacement or self._is_stopped:
            return
        self._replacement = token
        try:
            credential = self.credentials.replace(token)
        except SignInFailed as error:
            self._throttle.warn(
                "{route}: Update-Client-Auth brought {error}", route=self.route, error=str(error)
            )
            return
        self._adopt(credential)
        self._keep_soon()

    def renew(self) -> None:
        """The account has changed: sign in, while the present credential goes on serving."""
        self._fetch_in(0)

    def _is_current(self, generation: int) -> bool:
        return self.credential is not None and self.credential.generation == generation

    def _may_cause_sign_in(self) -> bool:
        """Whether a push may cause a sign-in now; if so, the next one must wait."""
        now = self.clock.seconds()
        if now - self._caused_at < PUSH_INTERVAL:
            return False
        self._caused_at = now
        return True

    def _discard(self) -> None:
        """Use the present credential no more, neither here nor in the next process."""
        log.info("{route}: the upstream refused the auth token", route=self.route)
        self.credential = None
        if self._keeping is not None:
            self._keeping.cancel()
            self._keeping = None
        self.on_credential()
        self.credentials.discard_stored()

    def _adopt(self, credential: Credential) -> None:
        if self._is_stopped:
            return
        self.credential = credential
        self.last_error = ""
        left = max(0.0, credential.expires_at - self.wall())
        self._fetch_in(max(1.0, left - min(300.0, left / 10)))
        self.on_credential()

    def _keep_soon(self) -> None:
        """Keep the credential for the next process, once a second at the most."""
        if self._keeping is None and not self._is_stopped:
            delay = max(0.0, self._kept_at + KEEP_INTERVAL - self.clock.seconds())
            self._keeping = self.clock.callLater(delay, self._keep)

    def _keep(self) -> None:
        self._keeping = None
        self._kept_at = self.clock.seconds()
        if self._replacement:
            log.info("{route}: the upstream replaced the auth token", route=self.route)
        self.credentials.keep()

    def _fetch_in(self, delay: float) -> None:
        if self._is_stopped:
            return
        self._cancel_next()
        self._next = deferLater(self.clock, delay, self._fetch).addErrback(_unless_cancelled)

    def _cancel_next(self) -> None:
        if self._next is not None:
            self._next.cancel()
            self._next = None

    def _fetch(self) -> None:
        self._cancel_next()
        if self._fetching is None:
            fetching = self.credentials.fetch().addCallbacks(self._fetched, self._failed)
            if not fetching.called:
                self._fetching = fetching

    def _fetched(self, credential: Credential) -> None:
        self._fetching = None
        self._failures = 0
        self._replacement = ""
        log.info("{route}: signed in", route=self.route)
        self._adopt(credential)
        self._keep_soon()

    def _failed(self, failure: Failure) -> None:
        self._fetching = None
        if self._is_stopped:
            return
        self._failures += 1
        error = failure.value
        if isinstance(error, SignInRefused):
            self._refuse(str(error), final=error.final)
        else:
            named = error.after if isinstance(error, SignInFailed) else None
            reason = str(error) or type(error).__name__
            self._retry(reason, named or exponential(self._failures, self.random))

    def _refuse(self, reason: str, *, final: bool) -> None:
        """Count a refusal. While an older credential still serves, sending need not stop for it."""
        if self.credential is not None:
            self._retry(reason, LONGEST_WAIT if final else exponential(self._failures, self.random))
            return
        self._refusals += 1
        if final or self._refusals >= MAX_REFUSALS:
            log.error("{route}: signing in is given up: {reason}", route=self.route, reason=reason)
            self.on_given_up(reason)
        else:
            self._retry(reason, exponential(self._refusals, self.random))

    def _retry(self, reason: str, delay: float) -> None:
        self.last_error = reason
        log.warn(
            "{route}: sign-in failed: {reason}; next try in {delay:.1f} s",
            route=self.route,
            reason=reason,
            delay=delay,
        )
        self._fetch_in(delay)


def _unless_cancelled(failure: Failure) -> None:
    failure.trap(CancelledError)
