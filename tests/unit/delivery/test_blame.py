"""Blame by comparison: which pushes are at fault, and which only met a fault."""

from node2dm_tw.core.push import split_at_colons
from node2dm_tw.delivery.blame import Blame
from node2dm_tw.queues.interface import Lease


def lease(device: str = "bad") -> Lease:
    return Lease(split_at_colons(f"{device}:k:x".encode(), 0.0))


def deliver(blame: Blame, count: int, device: bytes = b"healthy") -> None:
    for _ in range(count):
        blame.on_explained(device, True)


def test_the_fifth_answer_with_deliveries_between_rejects():
    """Each with one to another target since the one before, and few others that fare alike."""
    blame, bad = Blame(), lease()
    for _ in range(4):
        assert not blame.on_unexplained(bad)
        deliver(blame, 3)
    assert blame.on_unexplained(bad)


def test_answers_without_a_delivery_between_do_not_count():
    """Neither do deliveries to the same target: the payload may be at fault, and the push not."""
    blame, bad = Blame(), lease()
    deliver(blame, 100)
    for _ in range(20):
        assert not blame.on_unexplained(bad)
    for _ in range(20):
        deliver(blame, 20, b"bad")
        assert not blame.on_unexplained(bad)
    for _ in range(3):
        deliver(blame, 1)
        deliver(blame, 1, b"bad")
        assert not blame.on_unexplained(bad)
    deliver(blame, 1)
    assert blame.on_unexplained(bad)


def test_nobody_is_rejected_where_more_than_a_tenth_fare_alike():
    """Half of the pushes are unexplained: the service is at fault, however often they are tried."""
    blame = Blame()
    unlucky = [lease(f"d{number}") for number in range(10)]
    for _ in range(20):
        for push in unlucky:
            assert not blame.on_unexplained(push)
        deliver(blame, 1)
    deliver(blame, 100)
    assert blame.on_unexplained(unlucky[0])


def test_one_in_ten_exactly_is_few():
    """The push itself is one of those answered."""
    for healthy, rejected in ((8, False), (9, True)):
        blame, bad = Blame(), lease()
        for number in range(4):
            blame.on_unexplained(bad)
            deliver(blame, 2 if number < 3 else healthy - 6)
        assert blame.on_unexplained(bad) is rejected


def test_an_answer_for_the_whole_route_is_refuted_by_deliveries():
    """The second one, if others were delivered since the first; and every one from then on."""
    blame, bad = Blame(), lease()
    assert not blame.is_unexplained(bad)
    assert not blame.is_unexplained(bad)
    deliver(blame, 1, b"bad")
    assert not blame.is_unexplained(bad)
    deliver(blame, 1)
    assert blame.is_unexplained(bad)
    deliver(blame, 1, b"bad")
    assert blame.is_unexplained(bad)


def test_so_it_is_for_another_push_to_the_same_target():
    """As long as no push to it draws a better answer: an outage to come is no target's fault."""
    blame = Blame()
    assert not blame.is_unexplained(lease())
    deliver(blame, 1)
    assert blame.is_unexplained(lease())
    assert not blame.is_unexplained(lease("other"))
    deliver(blame, 1, b"bad")
    deliver(blame, 1)
    assert not blame.is_unexplained(lease())


def test_another_kind_of_answer_refutes_nothing():
    """A push that drew a 500 once may still be the first to meet an outage."""
    blame, bad = Blame(), lease()
    blame.on_unexplained(bad)
    deliver(blame, 10)
    assert not blame.is_unexplained(bad)
