"""Which worker runs which tests, when there are several."""

from xdist.scheduler import LoadScopeScheduling

TOGETHER = {
    "tests/e2e/test_fcm_answers.py",
    "tests/e2e/test_web.py",
    "tests/packaging/test_packaging.py",
}
"""Modules whose tests share what takes long to make: one worker runs all of them."""


class Schedule(LoadScopeScheduling):
    """Gives out those modules first, and then one test at a time."""

    def _split_scope(self, nodeid: str) -> str:
        module, _, _ = nodeid.partition("::")
        return module if module in TOGETHER else nodeid
