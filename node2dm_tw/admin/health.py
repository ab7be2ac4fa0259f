"""Whether the gateway can do its work, and the words for it."""

import enum
from collections.abc import Callable
from typing import Any

import attrs

from node2dm_tw.logs import logger
from node2dm_tw.stats import ENDINGS

log = logger()

QUEUE_MARK = 0.8
"""Of its `max_queued`; a queue that is fuller makes the gateway unready."""

STALL = 60.0
"""Seconds in which no push ended although some wait and nothing is in their way."""

Values = dict[str, Any]


class Phase(enum.Enum):
    """What the process is about."""

    STARTING = "starting"
    RUNNING = "running"
    DRAINING = "draining"


@attrs.frozen
class Report:
    """The answer to /readyz.

    Args:
        reasons: why work should go elsewhere; empty: the gateway is ready.
        routes: the state of each route in words.
    """

    reasons: tuple[str, ...]
    routes: dict[str, str]

    @property
    def is_ready(self) -> bool:
        """Whether the gateway can take pushes and get them away."""
        return not self.reasons

    def as_json(self) -> Values:
        """Build what /readyz and the page are given."""
        return {"ready": self.is_ready, "reasons": list(self.reasons), "routes": self.routes}

    def as_text(self) -> list[str]:
        """Build what telnet prints."""
        verdict = [f"not ready: {reason}" for reason in self.reasons] or ["ready"]
        return verdict + [f"{route}: {words}" for route, words in self.routes.items()]


@attrs.define(eq=False)
class _Progress:
    """How far a route had got when it was last seen to get on, and when that was."""

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

    def watch(self, snapshot: Values) -> None:
        """Look for stalls; to be called every few seconds at the least. Logs each once."""
        for route, values in snapshot["routes"].items():
            self._ever_signed_in |= values["signed_in"]
            done = _done(values)
            last = self._progress.get(route)
            if last is None or last.done != done or not _should_get_on(values):
                if last is not None and last.is_stalled:
                    log.info("{route}: gets on again", route=route)
                self._progress[route] = _Progress(done, self.seconds())
            elif not last.is_stalled and self.seconds() - last.since >= STALL:
                last.is_stalled = True
                log.error("{route}: {stall}", route=route, stall=_stall(values))

    def report(self, snapshot: Values, route: str | None = None) -> Report:
        """Judge a snapshot.

        Args:
            route: whose own state counts as well; it must be in the snapshot.
        """
        self.watch(snapshot)
        routes = snapshot["routes"]
        reasons = [] if self.phase is Phase.RUNNING else [self.phase.value]
        if not self._ever_signed_in:
            reasons.append("no route has signed in yet")
        for name, values in routes.items():
            reasons += [f"{name}: {reason}" for reason in self._faults(name, values)]
        if route is not None and not _is_open(routes[route]):
            reasons.append(f"{route}: {in_words(routes[route])}")
        return Report(tuple(reasons), {name: in_words(values) for name, values in routes.items()})

    def _faults(self, route: str, values: Values) -> list[str]:
        """Say what is wrong with a route that is not its upstream's fault."""
        faults = []
        full = values["messages_in_queue"] / values["max_queued"]
        if full > QUEUE_MARK:
            faults.append(f"the queue is {full:.0%} full")
        if not values.get("queue_writable", True):
            faults.append("the queue cannot be written")
        if self._progress[route].is_stalled:
            faults.append(_stall(values))
        return faults


def _done(values: Values) -> int:
    """Count what shows that a route gets on: pushes that ended, and tries that failed."""
    tries: int = values["network_failures"] + values["unavailable_answers"]
    ended: int = sum(values[name] for name in ENDINGS)
    return tries + ended


def _should_get_on(values: Values) -> bool:
    """Whether pushes wait that neither sleep nor are held up by the upstream."""
    awake: int = values["messages_in_queue"] - values["messages_waiting"]
    if values["state"] not in ("ready", "paused"):
        return False
    return awake > 0 and not values["pause_left"]


def _stall(values: Values) -> str:
    return f"{values['messages_in_queue']} pushes wait and none has ended for {STALL:.0f} s"


def _is_open(values: Values) -> bool:
    return bool(values["state"] == "ready" and values["pause_left"] == 0)


def in_words(values: Values) -> str:
    """Say the state of a route for people to read, as in "paused 42 s more: 503, Retry-After"."""
    state, reason = values["state"], values.get("state_reason")
    if state == "paused":
        state = f"paused {duration(values['pause_left'])} more"
    elif state == "ready" and values["messages_in_queue"]:
        state = "sending"
    return f"{state}: {reason}" if reason else str(state)


def duration(seconds: float) -> str:
    """Say how long, in one unit or two: 42 s, 9 min 5 s, 3 h 12 min."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes} min {rest} s" if rest else f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if minutes else f"{hours} h"
