"""How long to wait: Retry-After in every form it is met in."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from node2dm_tw.core.backoff import retry_after

NOW = 1_700_000_000.0
LATER = "Tue, 14 Nov 2023 22:13:50 GMT"
"""30 s after `NOW`."""


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("120", 120.0),
        (" 120 ", 120.0),
        ("1.5", 1.5),
        ("0", 0.0),
        ("-5", 0.0),
        ("120s", 120.0),
        ("120 seconds", 120.0),
        ("120, 120", 120.0),
        ("60,120", 120.0),
        ("86400", 86_400.0),
        ("86401", 3_600.0),
        ("1800000000", 3_600.0),
        ("9" * 400, 3_600.0),
        (LATER, 30.0),
        (f"{LATER}, {LATER}", 30.0),
        (f"{LATER}, 7", 30.0),
        ("Tuesday, 14-Nov-23 22:13:50 GMT", 30.0),
        ("Tue Nov 14 22:13:50 2023", 30.0),
        ("Mon, 14 Nov 2033 22:13:50 GMT", 86_400.0),
        ("Sun, 14 Nov 2010 22:13:50 GMT", 0.0),
        ("120, soon", 120.0),
        ("soon", None),
        ("", None),
        ("1e9", None),
        ("\u0661\u0662", None),
        ("120ms", None),
        (",,,", None),
        (None, None),
    ],
)
def test_each_form(value, seconds):
    """Numbers, dates, lists of both; what cannot be read names nothing."""
    assert retry_after(None if value is None else value.encode(), NOW) == seconds


@given(st.binary(max_size=2_000) | st.text(",-.:0123456789 GMTs", max_size=200).map(str.encode))
def test_any_bytes_are_seconds_or_nothing(value):
    """It never raises, and never names more than a day."""
    seconds = retry_after(value, NOW)
    assert seconds is None or 0 <= seconds <= 86_400
