"""The command line of `twistd node2dm`."""

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

from twisted.python import usage

from node2dm_tw.app.config_file import ConfigFile, Configuration
from node2dm_tw.app.process import FAILED, STATUS, drop_key_log, find_unusable_options, refuse
from node2dm_tw.app.state_files import quota_lock
from node2dm_tw.config.ini import ConfigErrors
from node2dm_tw.delivery.session import LockReason


class Options(usage.Options):
    """The command line of `twistd node2dm`.

    Attributes:
        config_file: that it names.
        configuration: what the file says.
        warnings: about the environment.
    """

    optParameters: ClassVar[list[list[str | None]]] = [
        ["config", "c", None, "The configuration file; etc/config.ini shows one."]
    ]
    optFlags: ClassVar[list[list[str | None]]] = [
        ["check", None, "Say what is wrong with the configuration, or ok; start and write nothing."]
    ]
    longdesc = (
        "A push gateway: takes pushes by UDP and sends them to Android devices"
        " through Google's push services."
    )
    config_file: ConfigFile
    configuration: Configuration
    warnings: Sequence[str] = ()

    def postOptions(self) -> None:
        """Read the configuration before twistd forks: what is wrong with it ends it here."""
        self.warnings = drop_key_log(os.environ)
        if self["config"] is None:
            raise usage.UsageError("expected a configuration file: twistd node2dm -c config.ini")
        if not self["check"] and (faults := find_unusable_options(self.parent or {}, os.geteuid())):
            refuse(FAILED, *faults)
        self.config_file = ConfigFile(Path(self["config"]).absolute(), Path.cwd())
        try:
            self.configuration = self.config_file.read(may_write=not self["check"])
        except ConfigErrors as error:
            refuse(FAILED, *error.errors)
        settings = self.configuration.settings
        if self["check"]:
            for warning in (*self.warnings, *settings.warnings):
                print("warning:", warning, file=sys.stderr)  # noqa: T201 - no log is open
            print(f"{self['config']}: ok")  # noqa: T201
            raise SystemExit(0)
        locks = [quota_lock(settings, route.name) for route in settings.routes]
        if all(lock.is_set for lock in locks):
            refuse(STATUS[LockReason.OVER_QUOTA], *(lock.advice for lock in locks))
