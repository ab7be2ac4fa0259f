"""The seam to a push service: what one must know of it, and the verdicts on its answers."""

import functools
from collections.abc import Callable
from typing import NamedTuple, Protocol

import attrs
from twisted.internet.defer import Deferred

from node2dm_tw.core.push import Push
from node2dm_tw.core.response import Headers, Response


@attrs.frozen
class Credential:
    """What signs a request.

    Args:
        header: value of the Authorization header.
        generation: 1 for the first credential of a process, one more for each that follows.
        obtained_at: seconds since the epoch.
        expires_at: seconds since the epoch.
    """

    header: bytes = attrs.field(repr=False)
    generation: int
    obtained_at: float
    expires_at: float


class Request(NamedTuple):
    """One request, a POST. `headers` is the same object for as long as the credential is."""

    url: str
    headers: Headers
    body: bytes

    def __repr__(self) -> str:
        return f"Request(url={self.url!r})"  # the rest holds secrets and content


@functools.lru_cache(maxsize=256)
def request_headers(header: bytes, content_type: bytes) -> Headers:
    """Make the headers of a request: the same object for as long as the credential is the same."""
    return ((b"Authorization", header), (b"Content-Type", content_type))


class Delivered(NamedTuple):
    """The service took the push, under this name. A tuple, since nearly every answer makes one."""

    message_id: bytes


delivered = functools.partial(tuple.__new__, Delivered)
"""Makes a `Delivered` out of a tuple, at a third of the cost."""


@attrs.frozen
class Retry:
    """Not now.

    Args:
        after: seconds that the service named, or None.
        whole_lane: every push is meant, not this one alone.
        reason: for the log and the status page.
        over_quota: the sender's quota is the reason, not the service.
    """

    after: float | None
    whole_lane: bool
    reason: str
    over_quota: bool = False


@attrs.frozen
class Unexplained:
    """An answer that names neither device, nor quota, nor cause.

    Whether the push is at fault or the service, only the answers to other pushes can tell.

    Args:
        reason: a word, under which the push is counted where it is rejected in the end.
        hint: for the log and the status page: what was answered, and what to look at.
        after: seconds that the service named, or None.
        pause: seconds for which a route pauses where its pushes are all answered so; None: as long
            as its back-off says.
    """

    reason: str
    hint: str = ""
    after: float | None = None
    pause: float | None = None


@attrs.frozen
class Unauthorized:
    """The credential is not valid, or no longer, or not for this push."""


@attrs.frozen
class DeviceOverQuota:
    """The device is over its quota; `after` seconds were named, or None."""

    after: float | None


@attrs.frozen
class TargetDelayed:
    """This target, a topic perhaps, must wait `after` seconds; no other need.

    Args:
        after: seconds that the service named, or None.
        reason: for the log and the status page.
    """

    after: float | None
    reason: str


@attrs.frozen
class BadDevice:
    """The device is gone or never was; the application should forget it."""

    reason: str


@attrs.frozen
class Rejected:
    """The service will never take this push, or an answer that cannot be read says that it has.

    Args:
        reason: a word, under which the push is counted.
        is_explained: the service gave the reason itself, and so works.
    """

    reason: str
    is_explained: bool = True


@attrs.frozen
class SenderOverQuota:
    """The sender is over its quota: sending must stop until a person has looked."""


@attrs.frozen
class NewToken:
    """The answer brought a token to use from now on; `verdict` is what it says of the push."""

    token: str = attrs.field(repr=False)
    verdict: "Verdict"


Verdict = (
    Delivered
    | Retry
    | Unexplained
    | Unauthorized
    | DeviceOverQuota
    | TargetDelayed
    | BadDevice
    | Rejected
    | SenderOverQuota
    | NewToken
)


class Provider(Protocol):
    """A push service: pure functions of their arguments."""

    @property
    def first_delay(self) -> float:
        """Seconds before the second try of what failed, where no answer named any.

        They double with each try, and the delay is drawn between the half and the whole of them.
        """
        ...

    def split(self, line: bytes, received: float) -> Push:
        """Read node2dm's form as this service needs it, its route already taken off.

        Raises:
            InvalidPush: with the reason.
        """
        ...

    def validate(self, push: Push) -> None:
        """Check that the service can carry this push.

        Raises:
            InvalidPush: with the reason, and the field where the JSON form has one.
        """
        ...

    def ttl(self, push: Push) -> float | None:
        """Seconds after its receipt until a push in the JSON form is of no use, if it says so."""
        ...

    def request(self, push: Push, credential: Credential, now: float) -> Request:
        """Build the request that sends `push`, which has been validated.

        Args:
            now: seconds of the monotonic clock, to know what is left of the push's time.
        """
        ...

    def judge(self, response: Response, now: float) -> Verdict:
        """Decide what an answer means. Never raises.

        Args:
            now: seconds since the epoch.
        """
        ...


class SignInRefused(Exception):
    """The service knows us and says no.

    Args:
        reason: the service's code for it.
        final: asking again without a person's help is of no use.
    """

    def __init__(self, reason: str, *, final: bool = False) -> None:
        """Keep both."""
        super().__init__(reason)
        self.final = final


class SignInFailed(Exception):
    """No sign-in this time: the network or the service is down.

    Args:
        reason: a text for the log.
        after: seconds that the service named, or None.
    """

    def __init__(self, reason: str, after: float | None = None) -> None:
        """Keep both."""
        super().__init__(reason)
        self.after = after


Post = Callable[[str, Headers, bytes], Deferred[Response]]
"""POSTs a body to a URL, as `node2dm_tw.http.interface.post` does by one client."""


class Credentials(Protocol):
    """A way to get credentials. Each one given out has a generation of its own."""

    def stored(self) -> Credential | None:
        """The credential kept by an earlier process, if it is still good; never raises."""
        ...

    def fetch(self) -> Deferred[Credential]:
        """Sign in once; fails with `SignInRefused` or `SignInFailed`, or as its `Post` does."""
        ...

    def replace(self, token: str) -> Credential:
        """Make a credential of a token that an answer brought.

        Raises:
            SignInFailed: it can be no token.
        """
        ...

    def keep(self) -> None:
        """Keep the credential given out last for the next process, if that is of use.

        Never raises.
        """
        ...

    def discard_stored(self) -> None:
        """The service has refused the present credential: do not keep it for the next process.

        Never raises.
        """
        ...
