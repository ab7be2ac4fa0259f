"""What is missing is said before anything runs."""

from pathlib import Path

import pytest

from benchmarks import __main__ as command
from benchmarks.needs import Need, needs
from benchmarks.parts import DEFAULT, PARTS, QUICK, steps_in


def test_a_part_wants_what_it_needs_alone() -> None:
    """Who measures CPU needs no echo module."""
    need = Need("nginx's echo module", ("latency",), "apt-get", is_there=False)
    assert need.wanted_by(("cpu", "latency"))
    assert not need.wanted_by(("cpu",))
    assert Need("nginx", (), "apt-get", is_there=True).wanted_by(("cpu",))


def test_needs_name_parts_that_are_there() -> None:
    """A part that is renamed takes its needs along; node is needed for node2dm alone."""
    found = needs(Path("node2dm"))
    assert {part for need in found for part in need.parts} <= PARTS.keys()
    assert {need.name for need in found} - {need.name for need in needs(None)} == {"node"}


def test_every_part_says_how_many_steps_it_has() -> None:
    """The progress bar knows where it ends."""
    assert steps_in(["cpu"], 5, 6) == 30
    assert all(steps_in([part], 1, 1) > 0 for part in (*DEFAULT, *QUICK, *PARTS))


def test_an_unknown_part_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    """The parts there are, are named."""
    with pytest.raises(SystemExit):
        command.main(["speed"])
    assert "outage" in capsys.readouterr().err
