"""The options of a route that change while it runs, made from the configuration."""

import attrs

from node2dm_tw.config.route_sections import C2DMRoute, FCMRoute, source_of
from node2dm_tw.config.sections import GatewaySection
from node2dm_tw.delivery.admission import LaneSettings
from node2dm_tw.providers.google_auth import Account as FCMAccount
from node2dm_tw.providers.google_auth import read_account

FCM_DEVICE_BLOCK = 60.0
"""Seconds for which a device over FCM's quota is left alone where the answer names none."""

MAX_ASLEEP = 100_000
"""Pushes of a route that may sleep at once: they stay in memory, whatever the engine."""

RouteSection = C2DMRoute | FCMRoute

C2DMAccount = tuple[str, str, str]
"""User, password, and what the sign-in says of us."""

Account = C2DMAccount | FCMAccount
"""What a route signs in with."""


@attrs.frozen
class RouteSettings:
    """What changes while a route runs.

    Args:
        max_queued: pushes kept.
        lane: see `LaneSettings`.
        account: of the route's own kind.
    """

    max_queued: int
    lane: LaneSettings
    account: Account


def route_settings(gateway: GatewaySection, section: RouteSection) -> RouteSettings:
    """Make the settings of a route. Raises ValueError: a key file is none."""
    return RouteSettings(gateway.max_queued, _lane_settings(gateway, section), _account(section))


def _lane_settings(gateway: GatewaySection, section: RouteSection) -> LaneSettings:
    """Make the settings of a lane."""
    if isinstance(section, FCMRoute):
        max_age, device_block = min(gateway.max_age, section.max_age), FCM_DEVICE_BLOCK
        project_rate, alarm = section.project_rate, section.bad_device_alarm
    else:
        max_age, device_block = gateway.max_age, section.device_block
        project_rate = alarm = None
    return LaneSettings(
        max_in_flight=section.max_in_flight,
        retry_capacity=min(max(1, gateway.max_queued // 10), MAX_ASLEEP),
        max_age=max_age,
        device_block=device_block,
        device_rate=section.device_rate or (),
        device_burst=section.device_burst or 0,
        project_rate=project_rate,
        bad_device_alarm=alarm,
    )


def _account(section: RouteSection) -> Account:
    if isinstance(section, FCMRoute):
        return read_account(source_of(section.service_account))
    return section.username, section.password, section.source
