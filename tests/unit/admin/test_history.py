"""What the plots show."""

from twisted.internet.task import Clock

from node2dm_tw.admin.history import POINTS, STEP, History
from tests.unit.admin.support import route, snapshot


def values(**more):
    return snapshot(shop=route(**more))


def test_points_are_rates_between_two_looks():
    """Received, sent, failed a second; depth and age as they are; a route has but two."""
    clock = Clock()
    history = History(clock.seconds)
    clock.advance(STEP)
    history.add(values(messages_received=0, messages_sent=0))
    clock.advance(STEP)
    point = history.add(
        values(
            messages_received=20,
            messages_sent=10,
            messages_refused=1,
            messages_expired=3,
            messages_collapsed=50,
            messages_in_queue=7,
            oldest_age=1.5,
        )
    )
    assert point == {"": [10.0, 5.0, 2.0, 7, 1.5], "shop": [5.0, 2.0]}
    assert history.series()[""][-1] == point[""]
    assert len(history.series()["shop"]) == 2


def test_a_look_that_comes_early_makes_no_point():
    """Looks may be more frequent than points."""
    clock = Clock()
    history = History(clock.seconds)
    made = []
    for _ in range(10):
        clock.advance(1)
        made.append(history.add(values()))
    assert [point is not None for point in made] == [False, True] * 5


def test_fifteen_minutes_are_kept_and_no_more():
    """However long the process runs."""
    clock = Clock()
    history = History(clock.seconds)
    for _ in range(POINTS + 100):
        clock.advance(STEP)
        history.add(values())
    assert POINTS * STEP == 900
    assert {len(points) for points in history.series().values()} == {POINTS}


def test_a_clock_that_jumped_makes_no_false_rates():
    """A process that was stopped for a while has one point for that while."""
    clock = Clock()
    history = History(clock.seconds)
    clock.advance(100)
    assert history.add(values(messages_received=200))[""][0] == 2.0
