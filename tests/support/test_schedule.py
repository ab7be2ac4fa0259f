"""What the schedule of the workers names is there."""

from pathlib import Path

from tests.support.schedule import TOGETHER


def test_every_module_that_is_kept_together_exists():
    """A renamed one would be spread over the workers unseen."""
    root = Path(__file__).parents[2]
    assert [module for module in TOGETHER if not (root / module).exists()] == []
