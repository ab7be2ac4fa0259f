"""The recent errors of a route."""

from node2dm_tw.core.snapshot import RecentError
from node2dm_tw.delivery.recent_errors import CAPACITY, LISTED, OTHERS, RecentErrors

TOKEN = b"APA91bHun4MxP5egoKMwt2KZFBaFUH-1RYqx"


def test_errors_of_one_kind_and_reason_are_counted_together():
    """With the last time and the last device, shortened."""
    errors = RecentErrors()
    for when in range(5):
        errors.record("refused", "MessageTooBig", b"other-device-%d" % when, when)
    errors.record("refused", "MessageTooBig", TOKEN, 7.5)
    errors.record("bad device", "NotRegistered", b"phone", 6.0)
    assert errors.latest() == (
        RecentError("refused", "MessageTooBig", count=6, when=7.5, device="APA91bHun4..."),
        RecentError("bad device", "NotRegistered", count=1, when=6.0, device="phone"),
    )


def test_each_error_is_in_the_list_at_once():
    """Also one of a kind and reason that were listed before; what was listed does not change."""
    errors = RecentErrors()
    assert errors.latest() == ()
    errors.record("refused", "MessageTooBig", b"phone", 1.0)
    first = errors.latest()
    errors.record("refused", "MessageTooBig", b"other", 2.0)
    assert [(each.count, each.device) for each in first] == [(1, "phone")]
    assert [(each.count, each.device) for each in errors.latest()] == [(2, "other")]


def test_an_upstream_cannot_put_a_token_into_a_reason():
    """The device of the push is shortened there too, and long reasons are cut."""
    errors = RecentErrors()
    errors.record("refused", f"no such token: {TOKEN.decode()}, sorry", TOKEN, 1.0)
    errors.record("refused", "x" * 10_000, TOKEN, 2.0)
    cut, named = errors.latest()
    assert named.reason == "no such token: APA91bHun4..., sorry"
    assert len(cut.reason) == 200


def test_an_error_without_a_device_keeps_its_reason():
    """An empty device is part of every text, and replaced nowhere."""
    errors = RecentErrors()
    errors.record("invalid", "json", b"", 1.0)
    assert errors.latest()[0].reason == "json"


def test_the_entry_seen_longest_ago_is_replaced():
    """The latest are kept."""
    errors = RecentErrors()
    for number in range(100):
        errors.record("refused", f"reason {number}", TOKEN, number * 2.0)
    assert [each.reason for each in errors.latest()] == [
        f"reason {number}" for number in range(99, 99 - LISTED, -1)
    ]
    assert len(errors._entries) == CAPACITY


def test_an_upstream_that_words_each_reason_anew_fills_no_memory():
    """Its errors are counted together."""
    errors = RecentErrors()
    for number in range(10_000):
        errors.record("refused", f"reason {number}", TOKEN, 5.0)
    assert len(errors._entries) <= CAPACITY + 1
    errors.record("refused", "x", TOKEN, 5.1)
    first, *_ = errors.latest()
    assert first.reason == OTHERS
    assert first.count >= 10_000 - CAPACITY
