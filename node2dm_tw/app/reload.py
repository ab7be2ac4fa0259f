"""SIGHUP: reads the configuration again, builds all that may fail, and then applies it."""

from collections.abc import Iterable, Mapping

import attrs

from node2dm_tw.app.config_file import ConfigFile, Configuration
from node2dm_tw.app.descriptors import Descriptors
from node2dm_tw.app.emulated import changed_options
from node2dm_tw.app.parts import Parts
from node2dm_tw.app.route_settings import RouteSettings, route_settings
from node2dm_tw.app.webhooks import callback_target
from node2dm_tw.callback_target import CallbackTarget
from node2dm_tw.config.changes import take_changes
from node2dm_tw.config.ini import ConfigErrors
from node2dm_tw.config.load import Settings
from node2dm_tw.core.logs import logger, set_level
from node2dm_tw.intake.udp import UDPIntake

log = logger()


@attrs.frozen
class Changes:
    """What the running gateway takes over; nothing of it can fail any more.

    Args:
        settings: in force from now on.
        routes: by name.
        callbacks: by the names of their routes; None: of all without a section of their own.
    """

    settings: Settings
    routes: Mapping[str, RouteSettings]
    callbacks: Mapping[str | None, CallbackTarget]


def read_changes(
    file: ConfigFile, running: Configuration, descriptors: Descriptors
) -> Changes | None:
    """Read the configuration again, and log which options take effect.

    Args:
        running: what is in force.
        descriptors: bound what can be in flight.

    Returns:
        None where the file is faulty: nothing changes then.
    """
    try:
        new = file.read(running.emulator)
    except ConfigErrors as error:
        log.error("the configuration is not reloaded: {faults}", faults="; ".join(error.errors))
        return None
    possible, _ = descriptors.limit_settings(new.settings)
    settings, reloaded, waiting = take_changes(running.settings, possible)
    changes = Changes(
        settings,
        {section.name: route_settings(settings.gateway, section) for section in settings.routes},
        {section.route: callback_target(section) for section in settings.callbacks},
    )
    emulated = changed_options(running.emulator, new.emulator)
    waiting += [f"[emulator] {name}" for name in emulated]
    log.info("reloaded: {options}", options=", ".join(reloaded) or "nothing")
    if waiting:
        log.warn("changed, but waiting for a restart: {options}", options=", ".join(waiting))
    return changes


def apply(changes: Changes, parts: Parts, intakes: Iterable[UDPIntake]) -> None:
    """Have the running gateway take over what has changed."""
    gateway = changes.settings.gateway
    set_level(gateway.log_level)
    parts.outcomes.keep_recent(gateway.push_token is not None)
    parts.report_pushes()
    for intake in intakes:
        intake.allow_only(gateway.allow)
    parts.verifier.use_key(gateway.datagram_key)
    parts.engine.reconfigure(gateway.max_queued_bytes)
    for name, route in parts.routes.items():
        route.reconfigure(changes.routes[name])
    if parts.callbacks is not None:
        parts.callbacks.reconfigure(changes.callbacks)
