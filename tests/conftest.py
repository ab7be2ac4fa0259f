from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.gateway import Gateway


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
