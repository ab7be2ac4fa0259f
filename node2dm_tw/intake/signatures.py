"""Checks the signatures of datagrams, and that none comes twice."""

import hmac
import re
from collections import deque
from collections.abc import Callable

import attrs
from twisted.internet.interfaces import IReactorTime

from node2dm_tw.core.push import InvalidPush

MARK = b"#v1 "
"""How a signed datagram begins."""

TOLERANCE_SECONDS = 60
"""Maximum difference between the time of a signature and the wall clock, either way."""

REMEMBERED_SECONDS = 2 * TOLERANCE_SECONDS + 1
"""How long a signature is remembered: until it is stale, even if its time was 60 s ahead."""

MAX_REMEMBERED = 1_000_000
"""Maximum number of remembered signatures; the oldest are forgotten."""

_FIRST_LINE = re.compile(rb"#v1 ([0-9]{1,20}) ([0-9a-f]{64})[\r\0]*(?:\n|\Z)")


def skip_signature(datagram: bytes) -> bytes:
    """Return a datagram without the line of its signature, if it has one."""
    return _FIRST_LINE.sub(b"", datagram, count=1) if datagram.startswith(MARK) else datagram


@attrs.define(eq=False)
class SignatureVerifier:
    """Checks signed datagrams: ``#v1 SECONDS HEX``, a line feed, and the rest.

    HEX is the HMAC-SHA-256 of SECONDS, a line feed, and the rest, in lower case. One verifier
    serves all sockets of the process, so that a datagram cannot be repeated at another one.

    Args:
        key: None: signatures are skipped, not checked.
        wall: seconds since the epoch.
        clock: monotonic seconds.
    """

    key: bytes | None
    _wall: Callable[[], float]
    _clock: IReactorTime
    _seen: set[bytes] = attrs.field(factory=set, init=False)
    _order: deque[tuple[float, bytes]] = attrs.field(factory=deque, init=False)

    def use_key(self, key: bytes | None) -> None:
        """Check signatures with this key from now on."""
        self.key = key

    def verify(self, datagram: bytes) -> bytes:
        """Return what was signed of a datagram; `key` must be set.

        Raises:
            InvalidPush: `unsigned`, `signature`, `stale` or `replayed`.
        """
        if not datagram.startswith(MARK):
            raise InvalidPush("unsigned")
        found = _FIRST_LINE.match(datagram)
        if found is None:
            raise InvalidPush("signature")
        seconds, signature = found.groups()
        rest = datagram[found.end() :]
        digest = hmac.digest(self.key or b"", b"%b\n%b" % (seconds, rest), "sha256")
        if not hmac.compare_digest(digest.hex().encode(), signature):
            raise InvalidPush("signature")
        if abs(int(seconds) - self._wall()) > TOLERANCE_SECONDS:
            raise InvalidPush("stale")
        self._remember(digest[:16])  # half of it tells signatures apart, and takes less memory
        return rest

    def _remember(self, digest: bytes) -> None:
        """Raise `InvalidPush` if this signature is remembered; else remember it."""
        now = self._clock.seconds()
        while self._order and self._order[0][0] <= now - REMEMBERED_SECONDS:
            self._forget_oldest()
        if digest in self._seen:
            raise InvalidPush("replayed")
        if len(self._order) >= MAX_REMEMBERED:
            self._forget_oldest()
        self._seen.add(digest)
        self._order.append((now, digest))

    def _forget_oldest(self) -> None:
        self._seen.discard(self._order.popleft()[1])
