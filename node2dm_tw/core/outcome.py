"""How a push ended, as callbacks and outcome records tell it."""

import functools
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Literal, NamedTuple

from node2dm_tw.core.push import Push

PushOutcome = Literal[
    "sent", "refused", "bad_device", "blocked", "expired", "collapsed", "overflowed"
]
"""The name of a terminal counter, without `messages_`. A handed-over push has not ended."""


class Ended(NamedTuple):
    """The end of a push. A tuple, because it is made for each push where outcomes are kept.

    Args:
        route: name of its route.
        push: the push.
        outcome: how it ended.
        reason: why, in a word or a sentence; empty if it was sent.
        message_name: the service's name of the message; None if it was not sent.
        sends: number of requests of this process that carried it.
        waited: seconds from its receipt to its last request; without one, to its end.
        answered: seconds from its last request to the answer; None without an answer.
    """

    route: str
    push: Push
    outcome: PushOutcome
    reason: str
    message_name: bytes | None
    sends: int
    waited: float
    answered: float | None


make_ended = functools.partial(tuple.__new__, Ended)
"""Makes an `Ended` from a tuple, at a third of the cost."""

OnEnded = Callable[[Ended], None]


def rfc3339(moment: float) -> str:
    """Format a time, in seconds since the epoch, as UTC with milliseconds."""
    text = datetime.fromtimestamp(moment, UTC).isoformat(timespec="milliseconds")
    return text.replace("+00:00", "Z")
