"""The emulator beside the gateway: its section of the configuration, and what routes get of it."""

from collections.abc import Mapping
from pathlib import Path

import attrs

from node2dm_tw.config.ini import ConfigErrors
from node2dm_tw.config.load import find_places
from node2dm_tw.emulator.files import Endpoints, ensure_files, find_endpoints
from node2dm_tw.emulator.server.service import EmulatorService, IEmulatorReactor
from node2dm_tw.emulator.settings import (
    DEMO_ACCOUNT,
    OPTIONS,
    EmulatorSettings,
    changed_options,
    read_section,
)

__all__ = [
    "PLACES",
    "EmulatedSection",
    "EmulatorService",
    "EmulatorSettings",
    "IEmulatorReactor",
    "changed_options",
]

PLACES = find_places(OPTIONS)


@attrs.define(eq=False)
class EmulatedSection:
    """Reads [emulator] for `load`, and gives the routes their defaults.

    Args:
        running: the settings of the emulator that runs. It stays as it is until a restart, and so
            must its files; None: none runs.
        may_write: whether to make those files.

    Attributes:
        settings: what the section says; None: the file has none.
    """

    running: EmulatorSettings | None
    may_write: bool
    settings: EmulatorSettings | None = attrs.field(default=None, init=False)

    def read(self, texts: Mapping[str, str], state_dir: Path, folder: Path) -> Mapping[str, str]:
        """See `node2dm_tw.config.load.EmulatorDefaults`."""
        settings, errors = read_section(texts, state_dir, folder, PLACES)
        if settings is None:
            raise ConfigErrors(errors)
        self.settings = settings
        current = self.running or settings
        make = ensure_files if self.may_write else find_endpoints
        return _route_defaults(current, make(current))


def _route_defaults(settings: EmulatorSettings, endpoints: Endpoints) -> Mapping[str, str]:
    """Take an emulator's addresses, its files and an account of its as a route's defaults."""
    username, password = next(iter((settings.accounts or {DEMO_ACCOUNT: "demo"}).items()))
    return {
        "username": username,
        "password": password,
        "login_url": endpoints.login_url,
        "send_url": endpoints.send_url,
        "ca_file": str(endpoints.ca_file),
        "url": endpoints.fcm_url,
        "service_account": str(endpoints.service_account),
    }
