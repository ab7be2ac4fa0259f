"""The steps that are measured one by one still fit the gateway."""

import subprocess
import sys
from pathlib import Path

CHECKOUT = Path(__file__).parents[2]


def test_every_step_runs() -> None:
    """Each says when it begins and when it has ended; nothing is measured here."""
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.steps", "2"],
        cwd=CHECKOUT,
        input="\n" * 100,
        capture_output=True,
        text=True,
        check=True,
    )
    lines = done.stdout.split("\n")
    assert [line for line in lines if line.endswith(" ended")][-1] == "fcm_rates ended"
