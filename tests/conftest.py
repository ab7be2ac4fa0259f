import resource
import signal
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from tests.support import processes
from tests.support.gateway import GatewayProcess
from tests.support.schedule import Schedule
from tests.support.small_disk import SmallDisk

# How long an example takes says nothing on a busy machine.
settings.register_profile(
    "tests", settings.default, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile("quick", settings.get_profile("tests"), max_examples=20)
settings.load_profile("tests")


def pytest_configure() -> None:
    """Prepare the process: SIGTERM ends the run as Ctrl-C does, which the background does not see.

    It may open as many files as it is allowed to: some tests open thousands of connections.
    """
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    processes.adopt_orphans()
    signal.signal(signal.SIGTERM, lambda *_: pytest.exit("SIGTERM"))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Schedule:
    """Choose which worker runs which tests."""
    return Schedule(config, log)


@pytest.hookimpl(trylast=True)
def pytest_unconfigure() -> None:
    """Leave no process, whatever became of a test or of the process that ran it."""
    processes.kill_all()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say what was not tested, and why."""
    skipped: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for report in terminalreporter.stats.get("skipped", ()):
        reason = report.longrepr[2].removeprefix("Skipped: ")
        skipped[reason][report.nodeid.partition("[")[0]] += 1
    for reason, tests in skipped.items():
        terminalreporter.section(f"{tests.total()} skipped: {reason}", sep="-")
        for test, times in tests.items():
            terminalreporter.line(test if times == 1 else f"{test} ({times})")


@pytest.fixture(autouse=True)
def _no_process_is_left(request: pytest.FixtureRequest) -> Iterator[None]:
    """Kill what a test started and left running, and say so; a daemon may need a moment to end."""
    before = processes.children()
    yield
    if request.session.exitstatus:
        return  # The run was interrupted: `pytest_unconfigure` kills all.
    if killed := processes.end(processes.children() - before, 5.0):
        pytest.fail(f"left running: {killed}")


@pytest.fixture
def make_gateway(tmp_path: Path) -> Iterator[Callable[..., GatewayProcess]]:
    """Makes gateways, each in a folder of its own; every one is gone at the end of the test."""
    made: list[GatewayProcess] = []

    def make(config: str = "[c2dm]\n[emulator]\n", **more: Any) -> GatewayProcess:
        folder = tmp_path / f"gateway{len(made)}"
        folder.mkdir()
        made.append(GatewayProcess(folder, config, **more))
        return made[-1]

    yield make
    for gateway in made:
        if gateway.process is not None:
            gateway.stop(how=9)


@pytest.fixture
def mount_small_disk() -> Iterator[Callable[[Path], SmallDisk]]:
    """Mounts small disks, which are gone at the end of the test."""
    mounted: list[SmallDisk] = []

    def mount(path: Path) -> SmallDisk:
        disk = SmallDisk(path)
        disk.mount()
        mounted.append(disk)
        return disk

    yield mount
    for disk in mounted:
        disk.unmount()


@pytest.fixture
def small_disk(mount_small_disk: Callable[[Path], SmallDisk], tmp_path: Path) -> SmallDisk:
    """A small disk."""
    return mount_small_disk(tmp_path / "disk")
