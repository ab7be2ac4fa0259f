"""The interface of push queues."""

from collections.abc import Callable, Iterable, Mapping
from typing import Protocol

import attrs
from twisted.internet.defer import Deferred

from node2dm_tw.core.push import Push
from node2dm_tw.core.stats import RouteStats

MAX_URGENT_RUN = 9
"""Urgent pushes that are leased in a row while others wait: a tenth is left for those."""


class QueueFull(Exception):
    """Pushes were not taken: there is no room, or they cannot be stored now. The text says why."""


@attrs.define(eq=False, weakref_slot=False)
class Lease:
    """A push handed out by a queue until it is settled or released.

    Args:
        push: the push.
        attempts: failed tries of this push, for its back-off.
        sends: requests that carried it.
        resent: it was sent again at once, after a kept-alive connection broke.
        refused: generation of the credential with which it was refused last, or 0.
        first_refused: generation of the credential with which it was refused first, or 0.
        suspicion: the lane's record of failures of this push, or None.
        is_settled: the push has ended.
        generation: generation of the credential with which it was last sent.
        epoch: number of the period between two pauses in which it was last sent.
        sent: when it was last sent, in seconds of the monotonic clock.
        answered: when its last request was answered, on the same clock; None if it was not.
    """

    push: Push
    attempts: int = 0
    sends: int = 0
    resent: bool = False
    refused: int = 0
    first_refused: int = 0
    generation: int = 0
    epoch: int = 0
    sent: float = 0.0
    answered: float | None = None
    suspicion: object = None
    is_settled: bool = False


class PushQueue(Protocol):
    """Keeps the pushes of one route until they are settled: urgent ones first, then the oldest.

    Does not look at their content.

    Attributes:
        depth: number of pushes that are stored, including those on lease.
        urgent_depth: number of those that are urgent.
        next_received: when the next push was received, in seconds of the monotonic clock; the
            earlier moment, if an urgent one and another wait; None if none does.
        next_urgent_received: the same of the next urgent push.
        asleep: pushes that an earlier process put to sleep; `take` returns each once it is due.
        max_queued: maximum of `depth`.
        queued_bytes: bytes of its pushes in memory.
        is_writable: whether pushes can be stored now; None: storing cannot fail.
    """

    @property
    def depth(self) -> int: ...

    @property
    def urgent_depth(self) -> int: ...

    @property
    def next_received(self) -> float | None: ...

    @property
    def next_urgent_received(self) -> float | None: ...

    @property
    def asleep(self) -> int: ...

    @property
    def max_queued(self) -> int: ...

    @property
    def queued_bytes(self) -> int: ...

    @property
    def is_writable(self) -> bool | None: ...

    def start(self) -> Deferred[None] | None:
        """Restore the pushes that an earlier process saved.

        Like `put` and `stop`, this is complete when it returns None, or when its Deferred fires.
        """
        ...

    def stop(self) -> Deferred[None] | None:
        """Save the remaining pushes for the next process. No lease is open any more."""
        ...

    def reconfigure(self, max_queued: int) -> None:
        """Keep another number of pushes from now on."""
        ...

    def put(self, pushes: Iterable[Push]) -> Deferred[None] | None:
        """Add `pushes` whose sender expects no answer.

        Does not fail: what has no room, or cannot be stored, is counted as overflowed.
        """
        ...

    def take(self) -> Lease | None:
        """Lease the next push; None if there is none now. Never blocks.

        Urgent ones come first, but while others wait no more than `MAX_URGENT_RUN` in a row; of
        both those that were released, then the oldest.
        """
        ...

    def settle(self, lease: Lease) -> None:
        """Remove a leased push, because it has ended."""
        ...

    def release(self, lease: Lease) -> None:
        """Return a lease to the queue; of the urgent or of the others it is the next."""
        ...

    def sleep(self, lease: Lease, until: float) -> None:
        """Store that a push on lease must not be sent before a moment, and its attempts.

        Args:
            until: seconds since the epoch.
        """
        ...


@attrs.frozen
class Receipt:
    """What the sender of an accepted request was answered.

    Args:
        key: the request's idempotency key.
        digest: of the request's body (SHA-256).
        answer: the body of the answer.
        created: seconds since the epoch.
    """

    key: str
    digest: bytes
    answer: bytes
    created: float


class PushEngine(Protocol):
    """Makes the queues of a process, and holds what they share."""

    def add_queue(
        self,
        route: str,
        max_queued: int,
        stats: RouteStats,
        on_ready: Callable[[], None],
        on_overflow: Callable[[Push, str], None],
    ) -> PushQueue:
        """Make the queue of a route, before the start.

        Args:
            stats: counts pushes that overflow, are taken over, and are handed over.
            on_ready: called when a push can be taken after the queue was empty.
            on_overflow: called with each push that overflows, and the limit that was reached.
        """
        ...

    def start(self) -> Deferred[None] | None:
        """Open the storage; the queues start after it."""
        ...

    def stop(self) -> Deferred[None] | None:
        """Close the storage; the queues have stopped."""
        ...

    def reconfigure(self, max_queued_bytes: int) -> None:
        """Bound the memory of all queues together by another number of bytes."""
        ...

    def put_all(
        self, pushes: Mapping[PushQueue, list[Push]], receipt: Receipt | None = None
    ) -> Deferred[None] | None:
        """Add all `pushes` and the receipt, or nothing. They are never dropped for later pushes.

        Raises:
            QueueFull: nothing was added. The Deferred may fail with it as well.
        """
        ...

    def find_receipt(self, key: str) -> Deferred[Receipt | None]:
        """Return the receipt with an idempotency key; None if there is none any more."""
        ...
