"""The interface of push services, their credentials, and the verdicts on their answers."""

import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Protocol

import attrs
from twisted.internet.defer import Deferred

from node2dm_tw.core.push import Push
from node2dm_tw.core.response import Headers, Response

DEFAULT_UNIVERSE = "googleapis.com"
"""The domain of Google's own cloud; a key file may name another one."""


@attrs.frozen
class Credential:
    """Authenticates requests.

    Args:
        header: value of the Authorization header.
        generation: 1 for the first credential of a process, and one more for each later one.
        obtained_at: seconds since the epoch.
        expires_at: seconds since the epoch.
        user_project: the project that requests are charged to; empty: the credential's own.
    """

    header: bytes = attrs.field(repr=False)
    generation: int
    obtained_at: float
    expires_at: float
    user_project: bytes = b""


class Request(NamedTuple):
    """A POST request, or a DELETE request if `body` is None.

    `headers` is the same object as long as the credential is the same.
    """

    url: str
    headers: Headers
    body: bytes | None

    def __repr__(self) -> str:
        return f"Request(url={self.url!r})"  # the rest contains secrets and content


@functools.lru_cache(maxsize=256)
def request_headers(header: bytes, content_type: bytes, user_project: bytes = b"") -> Headers:
    """Make the headers of a request: the same object as long as the credential is the same."""
    fields = ((b"Authorization", header), (b"Content-Type", content_type))
    return (*fields, (b"X-Goog-User-Project", user_project)) if user_project else fields


class Delivered(NamedTuple):
    """The service accepted the push under this name. A tuple, because most answers make one."""

    message_name: bytes


delivered = functools.partial(tuple.__new__, Delivered)
"""Makes a `Delivered` from a tuple, at a third of the cost."""


@attrs.frozen
class Retry:
    """The push must be sent again later.

    Args:
        after: seconds that the service named, or None.
        whole_lane: whether the answer concerns all pushes, not only this one.
        reason: for the log and the status page.
        over_quota: whether the sender's quota is the reason.
    """

    after: float | None
    whole_lane: bool
    reason: str
    over_quota: bool = False


@attrs.frozen
class Unexplained:
    """An answer that names neither a device, nor a quota, nor a cause.

    Only the answers to other pushes show whether the push or the service is the cause.

    Args:
        reason: a word, under which the push is counted if it is rejected in the end.
        hint: for the log and the status page: what was answered, and what to check.
        after: seconds that the service named, or None.
        pause: seconds for which a route pauses if all its pushes get this answer; None: as long
            as its back-off.
    """

    reason: str
    hint: str = ""
    after: float | None = None
    pause: float | None = None


@attrs.frozen
class Unauthorized:
    """The credential is invalid, expired, or not accepted for this push."""


@attrs.frozen
class DeviceOverQuota:
    """The device is over its quota; `after` is the seconds that the service named, or None."""

    after: float | None


@attrs.frozen
class TargetDelayed:
    """Pushes to this target, such as a topic, must wait; others need not.

    Args:
        after: seconds that the service named, or None.
        reason: for the log and the status page.
    """

    after: float | None
    reason: str


@attrs.frozen
class BadDevice:
    """The device does not exist; the application should delete it."""

    reason: str


@attrs.frozen
class Rejected:
    """The push ends: the service rejected it, or may have accepted it in an unreadable answer.

    Args:
        reason: a word, under which the push is counted.
        is_explained: whether the service gave the reason, which shows that it works.
    """

    reason: str
    is_explained: bool = True


@attrs.frozen
class SenderOverQuota:
    """The sender is over its quota: sending must stop until a person acts."""


@attrs.frozen
class NewToken:
    """The answer has a new token to use from now on; `verdict` is the verdict on the push."""

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
        """Seconds before the second try, if the answer names none.

        They double with each try, and the delay is a random time between half and all of them.
        """
        ...

    def split(self, line: bytes, received: float) -> Push:
        """Parse node2dm's form, without the route, as this service needs it.

        Raises:
            InvalidPush: with the reason.
        """
        ...

    def validate(self, push: Push, fields: Mapping[str, Any] | None = None) -> None:
        """Check that the service can carry this push.

        Args:
            fields: those of the push, where they are decoded already.

        Raises:
            InvalidPush: with the reason, and the field in the JSON form.
        """
        ...

    def ttl(self, push: Push) -> float | None:
        """Return the time to live of a push in the JSON form, if it has one."""
        ...

    def request(self, push: Push, credential: Credential, now: float) -> Request:
        """Build the request that sends `push`, which has been validated.

        Args:
            now: seconds of the monotonic clock, to compute the time to live that is left.
        """
        ...

    def judge(self, response: Response, now: float) -> Verdict:
        """Decide what an answer means. Never raises.

        Args:
            now: seconds since the epoch.
        """
        ...

    def judge_subscription(self, response: Response, push: Push, now: float) -> Verdict:
        """Do the same for an answer to `push`, which `is_subscription`."""
        ...


class SignInRefused(Exception):
    """The service refused the sign-in.

    Args:
        reason: the code of the service.
        final: whether a retry is useless until a person acts.
    """

    def __init__(self, reason: str, *, final: bool = False) -> None:
        """Store the arguments."""
        super().__init__(reason)
        self.final = final


class SignInFailed(Exception):
    """The sign-in failed, because the network or the service is unavailable.

    Args:
        reason: a text for the log.
        after: seconds that the service named, or None.
    """

    def __init__(self, reason: str, after: float | None = None) -> None:
        """Store the arguments."""
        super().__init__(reason)
        self.after = after


Post = Callable[[str, Headers, bytes], Deferred[Response]]
"""POSTs a body to a URL, as `node2dm_tw.http.interface.post` does with a client."""


class Credentials(Protocol):
    """Gets credentials. Each credential has its own generation."""

    def stored(self) -> Credential | None:
        """Return the credential of an earlier process, if it is still valid. Never raises."""
        ...

    def fetch(self) -> Deferred[Credential]:
        """Sign in once. Fails with `SignInRefused`, `SignInFailed` or the errors of `Post`."""
        ...

    def replace(self, token: str) -> Credential:
        """Make a credential from a token in an answer.

        Raises:
            SignInFailed: the token is invalid.
        """
        ...

    def keep(self) -> None:
        """Save the latest credential for the next process, if the service needs that.

        Never raises.
        """
        ...

    def discard_stored(self) -> None:
        """Delete the saved credential, because the service refused it.

        Never raises.
        """
        ...
