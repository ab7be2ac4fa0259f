"""The longest pause of a real gateway with a million pushes in its queue."""

import io
import os
from pathlib import Path

import pytest

from benchmarks.bench import Bench
from benchmarks.machine import tool
from benchmarks.parts import PARTS
from benchmarks.progress import Progress
from benchmarks.upstream import Upstream


@pytest.mark.long
def test_a_long_queue_does_not_stop_the_reactor(tmp_path: Path) -> None:
    """Neither while it fills nor while it drains with intake open, 20,000 pushes a second."""
    if not tool("nginx"):
        assert os.environ.get("CI") != "true", "nginx is not installed"
        pytest.skip("nginx is not installed")
    with Upstream(tmp_path, None) as upstream:
        bench = Bench(tmp_path, upstream, Progress(2, io.StringIO()), False, 1, None)
        outcome = PARTS["pauses"](bench)
    found = outcome.details
    assert found["queued"] > 900_000
    for phase in ("filling", "working"):
        assert found[phase].get("collection", 0.0) < 20, found
        # The bound of a whole turn is the benchmark's: here others may use the machine as well.
        assert found[phase]["turn"] < 60, found
