"""The interface of push queues."""

from collections.abc import Iterable
from typing import Protocol

import attrs
from twisted.internet.defer import Deferred

from node2dm_tw.core.push import Push


@attrs.define(eq=False, weakref_slot=False)
class Lease:
    """A push handed out by a queue until it is settled or released.

    Args:
        push: the push.
        attempts: failed tries of this push, for its back-off.
        resent: it was sent again at once, after a kept-alive connection broke.
        refused: generation of the credential with which it was refused last, or 0.
        first_refused: generation of the credential with which it was refused first, or 0.
        suspicion: the lane's record of failures of this push, or None.
        is_settled: the push has ended.
        generation: generation of the credential with which it was last sent.
        epoch: number of the period between two pauses in which it was last sent.
        sent: when it was last sent, in seconds of the monotonic clock.
        sends: number of requests that carried it so far.
        answered: when its last request was answered, on the same clock; None if it was not.
    """

    push: Push
    attempts: int = 0
    resent: bool = False
    refused: int = 0
    first_refused: int = 0
    generation: int = 0
    epoch: int = 0
    sent: float = 0.0
    sends: int = 0
    answered: float | None = None
    suspicion: object = None
    is_settled: bool = False


class PushQueue(Protocol):
    """Keeps pushes until they are settled, oldest first. Does not look at their content.

    Its constructor takes `on_ready`, called when a push can be taken after the queue was empty,
    and `on_overflow`, called with each push that the queue drops, and the limit that was reached.

    Attributes:
        depth: number of pushes, including those on lease.
        next_received: when the next push to be taken was received, in seconds of the
            monotonic clock; None if there is none.
    """

    @property
    def depth(self) -> int: ...

    @property
    def next_received(self) -> float | None: ...

    def start(self) -> Deferred[None] | None:
        """Open the storage, and restore the pushes that an earlier process saved.

        Like `put` and `stop`, this is complete when it returns None, or when its Deferred fires.
        """
        ...

    def stop(self) -> Deferred[None] | None:
        """Save the remaining pushes for the next process. No lease is open any more."""
        ...

    def put(self, pushes: Iterable[Push]) -> Deferred[None] | None:
        """Add `pushes`; they are stored when this returns None, or when the Deferred fires."""
        ...

    def take(self) -> Lease | None:
        """Lease the oldest push; None if there is none now. Never blocks."""
        ...

    def settle(self, lease: Lease) -> None:
        """Remove a leased push, because it has ended."""
        ...

    def release(self, lease: Lease) -> None:
        """Return a lease to the queue; it is the next to be taken."""
        ...
