from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.gateway import Gateway
from tests.small_disk import SmallDisk


@pytest.fixture
def make_gateway(tmp_path: Path) -> Iterator[Callable[..., Gateway]]:
    """Makes gateways, each in a folder of its own; every one is gone at the end of the test."""
    made: list[Gateway] = []

    def make(config: str = "[c2dm]\n[emulator]\n", **more: Any) -> Gateway:
        folder = tmp_path / f"gateway{len(made)}"
        folder.mkdir()
        made.append(Gateway(folder, config, **more))
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
