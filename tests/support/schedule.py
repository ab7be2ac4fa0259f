"""Which worker runs which tests, when there are several."""

from functools import cache
from pathlib import Path

from xdist.scheduler import LoadScopeScheduling


@cache
def shares_fixtures(module: Path) -> bool:
    """Whether tests of a module share what takes long to make: gateways, a browser, a venv."""
    return 'scope="module"' in module.read_text(encoding="utf-8")


class Schedule(LoadScopeScheduling):
    """Keeps a module that shares fixtures on one worker; gives out all other tests one by one."""

    def _split_scope(self, nodeid: str) -> str:
        module, _, _ = nodeid.partition("::")
        return module if shares_fixtures(self.config.rootpath / module) else nodeid
