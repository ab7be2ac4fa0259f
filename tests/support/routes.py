"""A route in this process, wired as the gateway does it, with a client and a clock of ours."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from node2dm_tw.app import route as wiring
from node2dm_tw.app.blocking import BlockingWork
from node2dm_tw.app.route import Route, RouteContext
from node2dm_tw.config.load import Settings, load
from node2dm_tw.core.outcome import OnEnded
from node2dm_tw.core.stats import Stats
from node2dm_tw.http.interface import HTTPClient, OnOutcomes
from node2dm_tw.queues.budget import ByteBudget
from node2dm_tw.queues.memory_engine import MemoryEngine


def load_settings(folder: Path, text: str) -> Settings:
    """Read the settings as the gateway does, from a file in `folder`."""
    file = folder / "config.ini"
    file.write_text(text, encoding="utf-8")
    file.chmod(0o600)
    return load(file, folder, lambda *_: {}, lambda _: None)


def build_route(
    settings: Settings,
    clock: Any,
    wall: Callable[[], float],
    make_client: Callable[[OnOutcomes], HTTPClient],
    *,
    random: Callable[[], float] = lambda: 0.5,
    on_bad_outcome: OnEnded = lambda _: None,
) -> Route:
    """Wire the first route; nothing is started."""
    context = RouteContext(
        settings,
        clock,
        wall,
        random,
        Stats(clock.seconds),
        MemoryEngine(settings.gateway.state_dir, ByteBudget(), clock, wall),
        lambda *_, on_outcomes, **__: make_client(on_outcomes),
        on_bad_outcome,
        on_locked=lambda *_: None,
        blocking=BlockingWork(clock),
    )
    return wiring.build_route(context, settings.routes[0])
