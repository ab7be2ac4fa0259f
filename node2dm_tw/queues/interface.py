"""The seam to where pushes wait."""

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
        attempts: failed tries of this push alone, for its own back-off.
        resent: it has had its one immediate repeat after a kept-alive connection broke.
        refused: generation of the credential with which it was refused last; 0: none was.
        first_refused: generation of the credential with which it was refused first.
        suspicion: what the lane knows against this push; None: nothing.
        is_settled: it has ended.
        generation: of the credential it was last sent with.
        epoch: the stretch between two pauses in which it was last sent.
        sent: when it was last sent, in seconds of the monotonic clock.
    """

    push: Push
    attempts: int = 0
    resent: bool = False
    refused: int = 0
    first_refused: int = 0
    generation: int = 0
    epoch: int = 0
    sent: float = 0.0
    suspicion: object = None
    is_settled: bool = False


class PushQueue(Protocol):
    """Keeps pushes until they are settled, oldest first; it knows nothing of what is in them.

    Its constructor takes `on_ready`, which is called when there is something to take after there
    was nothing, and `on_overflow`, which is called with each push that the queue drops, and the
    limit that was reached.

    Attributes:
        depth: pushes kept, those on lease included.
        next_received: when the push was received that would be taken next, in seconds of the
            monotonic clock; None where there is none.
    """

    @property
    def depth(self) -> int: ...

    @property
    def next_received(self) -> float | None: ...

    def start(self) -> Deferred[None] | None:
        """Open what is behind the queue, and take over what an earlier process left.

        Like `put` and `stop`, it is done once it returns None, or its Deferred fires.
        """
        ...

    def stop(self) -> Deferred[None] | None:
        """Keep what is left for the next process. Every lease was settled or released before."""
        ...

    def put(self, pushes: Iterable[Push]) -> Deferred[None] | None:
        """Keep `pushes`; they are kept once this returns None, or the Deferred fires."""
        ...

    def take(self) -> Lease | None:
        """Lease the oldest push. Never blocks; None where there is none now."""
        ...

    def settle(self, lease: Lease) -> None:
        """Forget a leased push: it has ended."""
        ...

    def release(self, lease: Lease) -> None:
        """Take a leased push back; this same lease is the next to be taken."""
        ...
