"""Work done as often as can be afforded."""

from twisted.internet.task import Clock

from node2dm_tw.admin.memo import REST, Memo


class Work:
    """Work that takes some seconds of a clock, and gives a number that grows."""

    def __init__(self, takes):
        self.clock, self.takes, self.done = Clock(), takes, 0
        self.memo = Memo(self.clock.seconds, self)

    def __call__(self):
        self.clock.advance(self.takes)
        self.done += 1
        return self.done


def test_what_costs_nothing_is_always_made_anew():
    """So that no view shows less than it can."""
    work = Work(takes=0.0)
    assert [work.memo() for _ in range(3)] == [1, 2, 3]


def test_asking_often_costs_a_twentieth_of_the_time():
    """However often, and whatever it takes."""
    for takes in (0.001, 0.5):
        work = Work(takes)
        while work.clock.seconds() < 1_000 * takes:
            work.memo()
            work.clock.advance(takes / 10)
        assert 1_000 / (REST + 2) <= work.done <= 1_000 / REST + 1


def test_a_failure_is_not_remembered():
    """The next one who asks has it tried again."""
    work = Work(takes=0.0)
    broken = [True, False]
    memo = Memo(work.clock.seconds, lambda: 1 / 0 if broken.pop(0) else 2)
    try:
        memo()
    except ZeroDivisionError:
        assert memo() == 2
    assert broken == []
