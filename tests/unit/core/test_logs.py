"""What is logged: levels, repetition held back, nothing secret, nothing invisible."""

import sys
import unicodedata
from pathlib import Path

import pytest
from twisted.internet.task import Clock
from twisted.logger import Logger, LogLevel, capturedLogs, formatEvent

from node2dm_tw.core import logs
from node2dm_tw.core.logs import (
    KEY_SECONDS,
    MAX_KEYS,
    Throttle,
    escape_controls,
    logger,
    parse_levels,
    set_level,
    shorten,
)


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


def make_throttle():
    clock = Clock()
    events, log = recorder()
    return clock, events, Throttle(log, clock)


def said(events):
    return [formatEvent(event) for event in events]


def test_one_line_a_second_and_the_number_of_the_others():
    """The next line says how many were left out before it."""
    clock, events, throttle = make_throttle()
    for number in range(5):
        throttle.warn("fault {number}", number=number)
    clock.advance(0.99)
    throttle.warn("fault {number}", number=5)
    clock.advance(0.01)
    throttle.warn("fault {number}", number=6)
    clock.advance(1)
    throttle.warn("fault {number}", number=7)
    assert said(events) == [
        "fault 0",
        "fault 6 (5 more like it were not logged)",
        "fault 7",
    ]


def test_neither_another_format_nor_another_key_hides_a_line():
    """Each pair has its own line a second and its own count."""
    clock, events, throttle = make_throttle()
    for _ in range(3):
        throttle.warn("refused: {why}", key="a", why="a")
        throttle.warn("refused: {why}", key="b", why="b")
        throttle.warn("expired: {why}", key="a", why="a")
    clock.advance(1)
    throttle.warn("refused: {why}", key="b", why="b")
    assert said(events) == [
        "refused: a",
        "refused: b",
        "expired: a",
        "refused: b (2 more like it were not logged)",
    ]


def test_keys_that_others_choose_fill_neither_the_memory_nor_the_log():
    """Beyond a hundred they share one line a second of their format, for a minute."""
    clock, events, throttle = make_throttle()
    for number in range(10_000):
        throttle.warn("refused: {why}", key=f"{number}" + "x" * 10_000, why=number)
    assert len(events) == MAX_KEYS + 1
    assert len(throttle._repeated) == MAX_KEYS + 1
    throttle.warn("expired", key="ttl")
    assert said(events)[-1] == "expired", "another format is not hidden"
    clock.advance(1)
    throttle.warn("refused: {why}", key="new", why="new")
    assert (
        said(events)[-1] == f"refused: new ({10_000 - MAX_KEYS - 1} more like it were not logged)"
    )
    clock.advance(KEY_SECONDS)
    for number in range(2):
        throttle.warn("refused: {why}", key=f"later {number}", why=number)
    assert said(events)[-2:] == ["refused: 0", "refused: 1"]
    assert len(throttle._repeated) < MAX_KEYS


def test_a_failure_that_repeats_is_logged_once_a_second():
    """With its traceback, and the number of those that were not."""
    clock, events, throttle = make_throttle()
    for seconds in (0, 0, 0, 1):
        clock.advance(seconds)
        try:
            raise ZeroDivisionError("no")
        except ZeroDivisionError:
            throttle.failure("{what} could not be handled", what="it")
    assert said(events) == [
        "it could not be handled",
        "it could not be handled (2 more like it were not logged)",
    ]
    assert all(event["log_failure"].check(ZeroDivisionError) for event in events)


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


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("info, delivery=debug", {"node2dm_tw.delivery.lane": "debug", "node2dm_tw.http": "info"}),
        (
            "error, service = warn",
            {"node2dm_tw.app.service": "warn", "node2dm_tw.servicing": "error"},
        ),
        (
            "debug, http=critical",
            {"node2dm_tw.http.tls": "critical", "node2dm_tw.core.push": "debug"},
        ),
    ],
)
def test_a_part_may_have_a_level_of_its_own(text, shown, level):
    """It holds for its modules; a later setting forgets it."""
    level(text.replace(" = ", "="))
    for namespace, least in shown.items():
        log = Logger(namespace, observer=logger().observer)
        with capturedLogs() as events:
            for each in logs.LEVELS:
                log.emit(LogLevel.levelWithName(each), each)
        assert formatEvent(events[0]) == least
    level("critical")
    with capturedLogs() as events:
        Logger("node2dm_tw.delivery.lane", observer=logger().observer).error("x")
    assert events == []


@pytest.mark.parametrize(
    "text",
    ["", "loud", "info,", "info, nothing=debug", "info, http=loud", "http=info", "info, http"],
)
def test_what_is_no_level(text):
    """It says which there are."""
    with pytest.raises(ValueError, match="one of debug, info, warn, error, critical"):
        parse_levels(text)


def test_a_part_that_is_named_twice():
    """It is not clear which level is meant."""
    with pytest.raises(ValueError, match="each part once"):
        parse_levels("info, http=warn, http=debug")


def test_the_parts_are_those_of_the_package():
    """Each has a module or a folder."""
    package = Path(logs.__file__).parents[1]
    for part in logs.PARTS:
        assert (package / part).is_dir() or (package / f"{part}.py").is_file()


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[31mred\x07", r"\x1b[31mred\x07"),
        ("one\r\ntwo\tthree", r"one\x0d\x0atwo\x09three"),
        ("\x7f\x9b31m", r"\x7f\x9b31m"),
        ("user\u202etxt.exe", r"user\u202etxt.exe"),
        ("a\u2028b\u2029c\ufeff\xad", r"a\u2028b\u2029c\ufeff\xad"),
        ("\U000e0041\U0001d173", r"\U000e0041\U0001d173"),
        ("\ud800", r"\ud800"),
        ("größer 😀 \\ {x} \N{NO-BREAK SPACE}", "größer 😀 \\ {x} \N{NO-BREAK SPACE}"),
    ],
)
def test_what_acts_on_a_terminal_or_hides_is_made_visible(text, shown):
    """Everything else stays as it is."""
    assert escape_controls(text) == shown


def test_every_control_and_format_character_is_made_visible():
    """And no other that this Python's Unicode knows."""
    for number in range(sys.maxunicode + 1):
        category = unicodedata.category(chr(number))
        if category != "Cn":
            is_escaped = escape_controls(chr(number)) != chr(number)
            assert is_escaped == (category in {"Cc", "Cf", "Cs", "Zl", "Zp"}), hex(number)
