"""Logging: levels, repetition held back, nothing secret."""

import pytest
from twisted.internet.task import Clock
from twisted.logger import Logger, LogLevel, capturedLogs, formatEvent

from node2dm_tw import logs
from node2dm_tw.logs import Throttle, logger, set_level, shorten


@pytest.fixture
def level():
    yield set_level
    set_level("info")


def recorder():
    events = []
    return events, Logger("node2dm_tw.test", observer=events.append)


@pytest.mark.parametrize("name", logs.LEVELS)
def test_the_level_holds_for_what_is_ours(name, level):
    """What is below it is dropped, from the moment it is set."""
    level(name)
    log = Logger("node2dm_tw.test", observer=logger().observer)
    with capturedLogs() as events:
        for each in logs.LEVELS:
            log.emit(LogLevel.levelWithName(each), each)
    assert [formatEvent(event) for event in events] == list(logs.LEVELS[logs.LEVELS.index(name) :])


def test_a_logger_bears_the_name_of_its_module():
    """The one that made it."""
    assert logger().namespace == __name__


def test_one_line_a_second_and_the_number_of_the_others():
    """What was held back is told with the next line."""
    clock = Clock()
    events, log = recorder()
    throttle = Throttle(log, clock)
    for number in range(5):
        throttle.warn("fault {number}", number=number)
    clock.advance(0.99)
    throttle.warn("fault {number}", number=5)
    clock.advance(0.01)
    throttle.warn("fault {number}", number=6)
    clock.advance(1)
    throttle.warn("fault {number}", number=7)
    assert [formatEvent(event) for event in events] == [
        "fault 0",
        "fault 6 (5 more like it were not logged)",
        "fault 7",
    ]


@pytest.mark.parametrize(
    ("device", "shown"),
    [
        (b"demo-phone", "demo-phone"),
        (b"123456789012", "123456789012"),
        (b"1234567890123", "1234567890..."),
        ("\N{PILE OF POO}".encode() * 20, "\N{PILE OF POO}" * 10 + "..."),
    ],
)
def test_a_registration_id_is_shortened(device, shown):
    """Enough to find it, too little to use it."""
    assert shorten(device) == shown
