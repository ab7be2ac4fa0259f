"""FCM's conditions."""

import contextlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from node2dm_tw.emulator.google.topics import is_topic, read_condition


@pytest.mark.parametrize(
    ("text", "topics", "meets"),
    [
        ("'a' in topics", "a", True),
        ("'a' in topics", "b", False),
        (" ! 'a' in topics ", "b", True),
        ("'a' in topics && 'b' in topics", "ab", True),
        ("'a' in topics || 'b' in topics && 'c' in topics", "a", True),
        ("('a' in topics || 'b' in topics) && 'c' in topics", "a", False),
        ("!('a' in topics&&'b' in topics)", "a", True),
    ],
)
def test_conditions(text, topics, meets):
    """They mean what they mean in FCM: ! before && before ||."""
    assert read_condition(text)(set(topics)) is meets


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a",
        "'a'",
        "'a' in topic",
        "'a' in topics 'b' in topics",
        "('a' in topics",
        "&&",
        "!",
        "'a b' in topics",
        " || ".join(["'a' in topics"] * 6),
        "(" * 2000,
        "!" * 1000 + "'a' in topics",
    ],
)
def test_what_is_no_condition(text):
    """Anything else is a ValueError."""
    with pytest.raises(ValueError, match=r"\w"):
        read_condition(text)


@settings(deadline=None)
@given(st.text("'ab!&|() intopics", max_size=60))
def test_nothing_else_is_raised(text):
    """Whatever is written, it is a condition or a ValueError."""
    with contextlib.suppress(ValueError):
        assert read_condition(text)(set()) in (True, False)


def test_topic_names():
    """Letters, digits and a few signs."""
    assert is_topic("news-1_~%.")
    assert not is_topic("")
    assert not is_topic("a b")
    assert not is_topic("/topics/a")
