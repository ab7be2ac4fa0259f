"""The files in state_dir that belong to routes, by their names."""

import re
from pathlib import Path

from node2dm_tw.config.load import Settings
from node2dm_tw.state.atomic import find_files
from node2dm_tw.state.quota_lock import QuotaLock, find_lock_files

_SPOOL = re.compile(r"(.+)\.spool(\.[0-9]+)?")


def quota_lock(settings: Settings, route: str) -> QuotaLock:
    """Name the file that locks `route`."""
    name = "quota.lock" if len(settings.routes) == 1 else f"quota.lock.{route}"
    return QuotaLock(settings.gateway.state_dir / name, route)


def find_stray_files(settings: Settings) -> list[Path]:
    """List the spools and locks in state_dir that belong to no section of the configuration."""
    folder, routes = settings.gateway.state_dir, [route.name for route in settings.routes]
    known = {*routes, "callbacks"} if settings.callbacks else {*routes}
    spools = [(_SPOOL.fullmatch(file.name), file) for file in find_files(folder, "*.spool*")]
    locks = [quota_lock(settings, route) for route in routes]
    return [
        *(file for match, file in spools if match and match[1] not in known),
        *(
            file
            for file in find_lock_files(folder)
            if not any(lock.is_held_by(file) for lock in locks)
        ),
    ]
