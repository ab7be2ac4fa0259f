"""Puts the callbacks together, from their sections of the configuration."""

from collections.abc import Callable
from functools import partial

from node2dm_tw.app.route import MakeClient
from node2dm_tw.app.runtime import Runtime
from node2dm_tw.callback_target import Callback, CallbackTarget
from node2dm_tw.callbacks import IN_FLIGHT, CallbackBudget, Callbacks, CallbackSender
from node2dm_tw.config.load import Settings
from node2dm_tw.config.sections import CallbackSection
from node2dm_tw.core.stats import Stats
from node2dm_tw.http.interface import finish_posts
from node2dm_tw.state.spool import Spool


def build_callbacks(
    settings: Settings,
    stats: Stats,
    make_client: MakeClient,
    runtime: Runtime,
    should_hold: Callable[[Callback], bool],
) -> Callbacks | None:
    """Make a sender for each section: a webhook that is away holds up no other.

    Returns:
        None where there is no section.
    """
    if not settings.callbacks:
        return None
    budget = CallbackBudget()
    clock, wall = runtime.reactor, runtime.wall
    client = partial(make_client, connections=IN_FLIGHT, ca_file=None, curl=False)
    senders = {
        section.route: CallbackSender(
            callback_target(section),
            client(section.timeout, on_outcomes=finish_posts),
            stats.routes,
            budget,
            clock,
            wall,
            runtime.random,
            should_hold,
        )
        for section in settings.callbacks
    }
    spool = Spool(settings.gateway.state_dir / "callbacks.spool")
    return Callbacks(senders, stats.routes, spool, clock, wall)


def callback_target(section: CallbackSection) -> CallbackTarget:
    """Make what a sender takes of its section; it changes while the gateway runs."""
    return CallbackTarget(
        section.url,
        section.shared_secret or "",
        section.signing_secret,
        section.retries,
        section.format == "json",
        section.outcomes,
    )
