from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.unit.app.gateway import MemoryGateway


@pytest.fixture
def memory_gateway(tmp_path: Path) -> Iterator[Callable[..., MemoryGateway]]:
    """Makes gateways in this process; every one is closed at the end of the test."""
    made: list[MemoryGateway] = []

    def make(*arguments: Any, **more: Any) -> MemoryGateway:
        folder = tmp_path / f"gateway{len(made)}"
        folder.mkdir()
        made.append(MemoryGateway(folder, *arguments, **more))
        return made[-1]

    yield make
    for gateway in reversed(made):
        gateway.close()
