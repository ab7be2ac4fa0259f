"""What went wrong of late."""

from node2dm_tw.delivery.recent_errors import CAPACITY, LISTED, OTHERS, Troubles

TOKEN = b"APA91bHun4MxP5egoKMwt2KZFBaFUH-1RYqx"


def test_troubles_of_one_kind_are_counted_together():
    """With the last time and the last device, shortened."""
    troubles = Troubles()
    for when in range(5):
        troubles.note("refused", "MessageTooBig", b"other-device-%d" % when, when)
    troubles.note("refused", "MessageTooBig", TOKEN, 7.5)
    troubles.note("bad device", "NotRegistered", b"phone", 6.0)
    assert troubles.latest() == [
        {
            "kind": "refused",
            "reason": "MessageTooBig",
            "count": 6,
            "when": 7.5,
            "device": "APA91bHun4...",
        },
        {
            "kind": "bad device",
            "reason": "NotRegistered",
            "count": 1,
            "when": 6.0,
            "device": "phone",
        },
    ]


def test_an_upstream_cannot_put_a_token_into_a_reason():
    """The device it was asked about is shortened there too, and long words are cut."""
    troubles = Troubles()
    troubles.note("refused", f"no such token: {TOKEN.decode()}, sorry", TOKEN, 1.0)
    troubles.note("refused", "x" * 10_000, TOKEN, 2.0)
    cut, named = troubles.latest()
    assert named["reason"] == "no such token: APA91bHun4..., sorry"
    assert len(cut["reason"]) == 200


def test_what_was_seen_longest_ago_makes_room():
    """The latest are kept."""
    troubles = Troubles()
    for number in range(100):
        troubles.note("refused", f"reason {number}", TOKEN, number * 2.0)
    assert [each["reason"] for each in troubles.latest()] == [
        f"reason {number}" for number in range(99, 99 - LISTED, -1)
    ]
    assert len(troubles._seen) == CAPACITY


def test_an_upstream_that_finds_new_words_for_each_push():
    """They are counted together, and the memory does not fill."""
    troubles = Troubles()
    for number in range(10_000):
        troubles.note("refused", f"reason {number}", TOKEN, 5.0)
    assert len(troubles._seen) <= CAPACITY + 1
    troubles.note("refused", "x", TOKEN, 5.1)
    first, *_ = troubles.latest()
    assert first["reason"] == OTHERS
    assert first["count"] >= 10_000 - CAPACITY
