"""Simulated time for very many calls: a heap, where `task.Clock` sorts at every callLater."""

import heapq
from collections.abc import Callable
from typing import Any

import attrs
from twisted.internet.error import AlreadyCalled, AlreadyCancelled
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from zope.interface import implementer


@implementer(IDelayedCall)
@attrs.define(eq=False)
class HeapCall:
    """A call that waits; its place in the heap may be an older one, which is then passed over."""

    clock: "HeapClock"
    time: float
    function: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    called: bool = False
    cancelled: bool = False

    def getTime(self) -> float:
        return self.time

    def cancel(self) -> None:
        self._check()
        self.cancelled = True

    def delay(self, secondsLater: float) -> None:
        self._check()
        self._move(self.time + secondsLater)

    def reset(self, secondsFromNow: float) -> None:
        self._check()
        self._move(self.clock.seconds() + secondsFromNow)

    def active(self) -> bool:
        return not (self.called or self.cancelled)

    def _check(self) -> None:
        if self.cancelled:
            raise AlreadyCancelled
        if self.called:
            raise AlreadyCalled

    def _move(self, time: float) -> None:
        self.time = time
        self.clock.enter(self)


@implementer(IReactorTime)
@attrs.define(eq=False)
class HeapClock:
    """Time that passes when it is told to; calls of the same moment go in the order they came."""

    _now: float = 0.0
    _heap: list[tuple[float, int, HeapCall]] = attrs.field(factory=list)
    _entries: int = 0

    def seconds(self) -> float:
        return self._now

    def callLater(
        self,
        delay: float,
        callable: Callable[..., Any],  # noqa: A002
        *args: Any,
        **kw: Any,
    ) -> HeapCall:
        assert delay >= 0, f"{delay} is in the past"
        call = HeapCall(self, self._now + delay, callable, args, kw)
        self.enter(call)
        return call

    def getDelayedCalls(self) -> list[HeapCall]:
        waiting = dict.fromkeys(call for _, _, call in self._heap if call.active())
        return list(waiting)

    def enter(self, call: HeapCall) -> None:
        """Give a call its place by its time."""
        self._entries += 1
        heapq.heappush(self._heap, (call.time, self._entries, call))

    def advance_to(self, moment: float) -> None:
        """Let time pass until `moment`, with every call due by then made in its order."""
        while self._heap and self._heap[0][0] <= moment:
            time, _, call = heapq.heappop(self._heap)
            if call.active() and call.time == time:
                self._now = max(self._now, time)
                call.called = True
                call.function(*call.args, **call.kwargs)
        self._now = max(self._now, moment)
