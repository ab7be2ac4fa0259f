"""One sign-in at a time: first, again after a refusal, and early, before the credential is old."""

from collections.abc import Callable

import attrs
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.python.failure import Failure

from node2dm_tw.backoff import exponential
from node2dm_tw.logs import logger
from node2dm_tw.providers.interface import Credential, Credentials, SignInFailed, SignInRefused

log = logger()

MOST_REFUSALS = 10
"""Refusals in a row after which signing in is given up."""

LONGEST_WAIT = 600.0
"""Seconds between tries that are known to need a person's help first."""

SHORT_LIFE = 60.0
"""Seconds; credentials that are refused younger than this are fetched ever more slowly."""


@attrs.define(eq=False)
class SignIn:
    """Keeps a credential that is good, as far as anyone knows.

    Args:
        route: for the log.
        credentials: where they come from.
        clock: monotonic seconds.
        wall: seconds since the epoch.
        random: numbers in [0, 1), for the jitter.
        on_credential: there is a new credential.
        on_given_up: there will be none; told why.

    Attributes:
        trouble: why the last try failed; empty once one has not.
        is_accepted: the upstream has taken a request with the present credential.
    """

    route: str
    credentials: Credentials
    clock: IReactorTime
    wall: Callable[[], float]
    random: Callable[[], float]
    on_credential: Callable[[], None] = attrs.field(default=lambda: None)
    on_given_up: Callable[[str], None] = attrs.field(default=lambda reason: None)
    credential: Credential | None = attrs.field(default=None, init=False)
    trouble: str = attrs.field(default="", init=False)
    is_accepted: bool = attrs.field(default=False, init=False)
    _after_refusal: bool = attrs.field(default=False, init=False)
    _since: float = attrs.field(default=0.0, init=False)
    _refusals: int = attrs.field(default=0, init=False)
    _failures: int = attrs.field(default=0, init=False)
    _short_lives: int = attrs.field(default=0, init=False)
    _replacement: str = attrs.field(default="", init=False, repr=False)
    _fetching: Deferred[None] | None = attrs.field(default=None, init=False)
    _next: Deferred[None] | None = attrs.field(default=None, init=False)
    _is_stopped: bool = attrs.field(default=False, init=False)

    def start(self) -> None:
        """Use the credential of an earlier process, or sign in."""
        stored = self.credentials.stored()
        if stored is None:
            self._fetch()
        else:
            log.info("{route}: using the stored token", route=self.route)
            self._adopt(stored, accepted=True)

    def stop(self) -> None:
        """Forget the credential and whatever is under way; sign in no more.

        A locked route may still get answers, with a new token or without: they change nothing.
        """
        self._is_stopped = True
        self.credential = None
        self._cancel_next()
        if self._fetching is not None:
            self._fetching.cancel()

    def accepted(self, generation: int) -> None:
        """A request with this credential was answered by other than 401."""
        if self._is_present(generation):
            self.is_accepted = True
            self._after_refusal = False
            self._refusals = 0

    def is_in_vain(self, generation: int) -> bool:
        """Whether this credential was fetched because one was refused, and never accepted.

        If it is refused in its turn, a third would hardly fare better.
        """
        return self._after_refusal and not self.is_accepted and self._is_present(generation)

    def refused(self, generation: int) -> bool:
        """A request with this credential was answered by 401.

        Returns:
            Whether it was the present credential, so that there is none now and one is fetched.
            A late refusal of an older one changes nothing.
        """
        if not self._is_present(generation):
            return False
        self.credential = None
        self._after_refusal = True
        self.credentials.discard_stored()
        log.info("{route}: the upstream refused the auth token", route=self.route)
        if not self.is_accepted:
            self._refuse("a new token is refused (401)", final=False)
            return True
        young = self.clock.seconds() - self._since < SHORT_LIFE
        self._short_lives = self._short_lives + 1 if young else 0
        self._fetch_in(
            exponential(self._short_lives - 1, self.random) if self._short_lives > 1 else 0
        )
        return True

    def replace(self, token: str) -> None:
        """An answer brought a new token (Update-Client-Auth): use it from now on."""
        if token == self._replacement:
            return
        self._replacement = token
        try:
            credential = self.credentials.replace(token)
        except SignInFailed as error:
            log.warn(
                "{route}: Update-Client-Auth brought {error}", route=self.route, error=str(error)
            )
            return
        log.info("{route}: the upstream replaced the auth token", route=self.route)
        self._adopt(credential, accepted=False)

    def renew(self) -> None:
        """The account has changed: sign in, while the present credential goes on serving."""
        self._fetch_in(0)

    def _is_present(self, generation: int) -> bool:
        return self.credential is not None and self.credential.generation == generation

    def _adopt(self, credential: Credential, *, accepted: bool) -> None:
        if self._is_stopped:
            return
        self.credential = credential
        self.is_accepted = accepted
        self._since = self.clock.seconds()
        left = max(0.0, credential.expires_at - self.wall())
        self._fetch_in(max(1.0, left - min(300.0, left / 10)))
        self.on_credential()

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
        self.trouble = ""
        log.info("{route}: signed in", route=self.route)
        self._adopt(credential, accepted=False)

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
        if final or self._refusals >= MOST_REFUSALS:
            log.error("{route}: signing in is given up: {reason}", route=self.route, reason=reason)
            self.on_given_up(reason)
        else:
            self._retry(reason, exponential(self._refusals, self.random))

    def _retry(self, reason: str, delay: float) -> None:
        self.trouble = reason
        log.warn(
            "{route}: sign-in failed: {reason}; next try in {delay:.1f} s",
            route=self.route,
            reason=reason,
            delay=delay,
        )
        self._fetch_in(delay)


def _unless_cancelled(failure: Failure) -> None:
    failure.trap(CancelledError)
