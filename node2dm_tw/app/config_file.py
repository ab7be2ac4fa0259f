"""The configuration file, read at the start and at each SIGHUP."""

from pathlib import Path

import attrs

from node2dm_tw.app.emulated import PLACES, EmulatedSection, EmulatorSettings
from node2dm_tw.config.load import Settings, load
from node2dm_tw.providers.google_auth import read_account
from node2dm_tw.providers.oauth2 import require_extra
from node2dm_tw.state.directory import StateDir


@attrs.frozen
class Configuration:
    """What the file says.

    Args:
        emulator: None where it has no [emulator].
    """

    settings: Settings
    emulator: EmulatorSettings | None


@attrs.frozen
class ConfigFile:
    """The file, and what its paths are relative to; twistd changes the folder it works in.

    Args:
        path: absolute.
        working_directory: the default of state_dir.
    """

    path: Path
    working_directory: Path

    def read(
        self, running: EmulatorSettings | None = None, *, may_write: bool = True
    ) -> Configuration:
        """Read the file.

        Args:
            running: the emulator that runs; see `EmulatedSection`.
            may_write: whether to make the emulator's files.

        Raises:
            ConfigErrors: everything that is wrong in it.
        """
        section = EmulatedSection(running, may_write)
        settings = load(
            self.path,
            self.working_directory,
            section.read,
            _check_key,
            places=PLACES,
            check_state_dir=None if may_write else lambda folder: StateDir(folder).check(),
        )
        return Configuration(settings, section.settings)


def _check_key(source: bytes | str | None) -> str | None:
    if source is None:
        require_extra()
        return None
    return read_account(source).project
