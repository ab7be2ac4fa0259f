"""Whether the gateway can do its work, and the words for it."""

import enum
from collections.abc import Callable
from operator import attrgetter
from typing import Any

import attrs

from node2dm_tw.core.logs import logger
from node2dm_tw.core.snapshot import LaneState, ProcessSnapshot, RouteSnapshot
from node2dm_tw.core.stats import TERMINAL_COUNTERS

log = logger()

QUEUE_FULL_RATIO = 0.8
"""Of its `max_queued`; a queue that is fuller makes the gateway unready."""

STALL_SECONDS = 60.0
"""Seconds in which no push ended although some wait and nothing is in their way."""


class Phase(enum.Enum):
    """What the process is about."""

    STARTING = "starting"
    RUNNING = "running"
    DRAINING = "draining"


HELD_BACK = "callbacks held back"

SEVERITY = (
    LaneState.READY.value,
    LaneState.SIGNED_OUT.value,
    LaneState.SIGNING_IN.value,
    LaneState.PAUSED.value,
    HELD_BACK,
    "not ready",
    LaneState.LOCKED.value,
)
"""The conditions of a route, from best to worst: its state, or what is worse than that."""

_get_terminal_counters = attrgetter(*TERMINAL_COUNTERS)


@attrs.frozen
class Notice:
    """Something that a person should know or do.

    Args:
        condition: how bad it is.
        text: one sentence, which begins with the route.
    """

    condition: str
    text: str


@attrs.frozen
class HealthReport:
    """The answer to /readyz, and more that people want to know.

    Args:
        reasons: why work should go elsewhere; empty: the gateway is ready.
        routes: the state of each route in words.
        conditions: of each route, the worst that is true of it.
        notices: what a person should know or do, the worst first.
        phase: of the process; None while it runs.
    """

    reasons: tuple[str, ...]
    routes: dict[str, str]
    conditions: dict[str, str] = attrs.field(factory=dict)
    notices: tuple[Notice, ...] = ()
    phase: str | None = None

    @property
    def is_ready(self) -> bool:
        """Whether the gateway can take pushes and get them away."""
        return not self.reasons

    @property
    def worst(self) -> Notice:
        """The condition of the worst route, and which routes are in it."""
        if self.phase is not None:
            return Notice(LaneState.PAUSED.value, self.phase)
        condition = max(self.conditions.values(), key=SEVERITY.index, default=SEVERITY[0])
        names = [name for name, other in self.conditions.items() if other == condition]
        if len(names) == len(self.conditions):
            return Notice(condition, condition)
        more = f" and {len(names) - 1} more" if len(names) > 1 else ""
        return Notice(condition, f"{names[0]}{more}: {condition}")

    def as_json(self) -> dict[str, Any]:
        """Build what /readyz and the page are given."""
        return {
            "ready": self.is_ready,
            "reasons": list(self.reasons),
            "routes": self.routes,
            "conditions": self.conditions,
            "worst": attrs.asdict(self.worst),
            "notices": [attrs.asdict(notice) for notice in self.notices],
        }

    def as_text(self) -> list[str]:
        """Build what telnet prints."""
        verdict = [f"not ready: {reason}" for reason in self.reasons] or ["ready"]
        routes = [f"{route}: {words}" for route, words in self.routes.items()]
        return verdict + routes + [f"notice: {notice.text}" for notice in self.notices]


@attrs.define(eq=False)
class _Progress:
    """The pushes and tries that had ended when a route last made progress, and when that was."""

    done: int
    since: float
    is_stalled: bool = False


@attrs.define(eq=False)
class Health:
    """Judges snapshots; remembers of them what one alone does not tell.

    Args:
        seconds: monotonic.

    Attributes:
        phase: told by whoever starts and stops the process.
    """

    seconds: Callable[[], float]
    phase: Phase = Phase.STARTING
    _ever_signed_in: bool = attrs.field(default=False, init=False)
    _progress: dict[str, _Progress] = attrs.field(factory=dict, init=False)

    def watch(self, snapshot: ProcessSnapshot) -> None:
        """Look for stalls; to be called every few seconds at the least. Logs each once."""
        for name, route in snapshot.routes.items():
            self._ever_signed_in |= route.signed_in
            done = _done(route)
            last = self._progress.get(name)
            if last is None or last.done != done or not _should_progress(route):
                if last is not None and last.is_stalled:
                    log.info("{route}: sending resumed", route=name)
                self._progress[name] = _Progress(done, self.seconds())
            elif not last.is_stalled and self.seconds() - last.since >= STALL_SECONDS:
                last.is_stalled = True
                log.error("{route}: {stall}", route=name, stall=_stall(route))

    def report(self, snapshot: ProcessSnapshot, asked: str | None = None) -> HealthReport:
        """Judge a snapshot.

        Args:
            asked: the route whose own state counts as well; it must be in the snapshot.
        """
        self.watch(snapshot)
        routes = snapshot.routes
        is_running = self.phase is Phase.RUNNING
        reasons = [] if is_running else [self.phase.value]
        if not self._ever_signed_in:
            reasons.append("no route has signed in yet")
        conditions, notices = {}, []
        for name, route in routes.items():
            faults = self._faults(name, route)
            reasons += [f"{name}: {fault}" for fault in faults]
            notices += _notices(name, route)
            conditions[name] = _condition(route, is_faulty=bool(faults))
        if asked is not None and not _is_open(routes[asked]):
            reasons.append(f"{asked}: {describe(routes[asked])}")
        return HealthReport(
            tuple(reasons),
            {name: describe(route) for name, route in routes.items()},
            conditions,
            tuple(sorted(notices, key=lambda notice: -SEVERITY.index(notice.condition))),
            None if is_running else self.phase.value,
        )

    def _faults(self, name: str, route: RouteSnapshot) -> list[str]:
        """Say what is wrong with a route that is not its upstream's fault."""
        faults = []
        full = route.messages_in_queue / route.max_queued
        if full > QUEUE_FULL_RATIO:
            faults.append(f"the queue is {full:.0%} full")
        if route.queue_writable is False:
            faults.append("the queue cannot be written")
        if self._progress[name].is_stalled:
            faults.append(_stall(route))
        return faults


def _done(route: RouteSnapshot) -> int:
    """Count what shows that a route gets on: pushes that ended, and tries that failed."""
    ended: int = sum(_get_terminal_counters(route))
    return ended + route.network_failures + route.unavailable_answers


def _should_progress(route: RouteSnapshot) -> bool:
    """Whether pushes wait that neither sleep nor are held up by the upstream."""
    if route.state not in (LaneState.READY, LaneState.PAUSED):
        return False
    return route.messages_in_queue > route.messages_waiting and not route.pause_left


def _stall(route: RouteSnapshot) -> str:
    return f"{route.messages_in_queue} pushes wait and none has ended for {STALL_SECONDS:.0f} s"


def _is_open(route: RouteSnapshot) -> bool:
    return route.state is LaneState.READY and route.pause_left == 0


def _condition(route: RouteSnapshot, *, is_faulty: bool) -> str:
    """Find the worst that is true of a route, a word of `SEVERITY`."""
    found = [route.state.value]
    if route.bad_device_alarm:
        found.append(HELD_BACK)
    if is_faulty:
        found.append("not ready")
    return max(found, key=SEVERITY.index)


def _notices(name: str, route: RouteSnapshot) -> list[Notice]:
    """Say what a person should know of a route, or do about it."""
    notices = []
    if route.state_advice is not None:
        notices.append(
            Notice(
                LaneState.LOCKED.value,
                f"{name}: locked ({route.state_reason}): {route.state_advice}",
            )
        )
    if route.bad_device_alarm:
        notices.append(
            Notice(
                HELD_BACK,
                f"{name}: most answers blame devices, so callbacks are held back:"
                " check that project and key are the right ones, and that no move from tokens to"
                " fids is half done",
            )
        )
    if route.renewal_error is not None:
        left = route.token_left
        rest = f"is good for {duration(left)} more" if left else "has expired"
        notices.append(
            Notice(
                LaneState.PAUSED.value,
                f"{name}: the token cannot be renewed ({route.renewal_error});"
                f" the present one {rest}: check the account",
            )
        )
    return notices


def describe(route: RouteSnapshot) -> str:
    """Say the state of a route for people to read, as in "paused 42 s more: 503, Retry-After"."""
    state, reason = route.state.value, route.state_reason
    if route.state is LaneState.PAUSED:
        state = f"paused {duration(route.pause_left)} more"
    elif route.state is LaneState.READY and route.messages_in_queue:
        state = "sending"
    if route.bad_device_alarm:
        state = f"{state}, {HELD_BACK}"
    return f"{state}: {reason}" if reason else state


def duration(seconds: float) -> str:
    """Say how long, in one unit or two: 42 s, 9 min 5 s, 3 h 12 min, 13 d 23 h."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes} min {rest} s" if rest else f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 24:
        return f"{hours} h {minutes} min" if minutes else f"{hours} h"
    days, hours = divmod(hours, 24)
    return f"{days} d {hours} h" if hours else f"{days} d"
