"""Logging: levels, repetition held back, nothing secret."""

import json
import signal
from datetime import datetime
from pathlib import Path

import pytest
from twisted.internet.task import Clock
from twisted.logger import Logger, LogLevel, capturedLogs, formatEvent

from node2dm_tw import logs
from node2dm_tw.logs import (
    KEY_SECONDS,
    MAX_KEY_LENGTH,
    MAX_KEYS,
    Throttle,
    as_json_line,
    json_observer,
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
    assert all(len(key or "") <= MAX_KEY_LENGTH for _, key in throttle._repeated)
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
        ("error, service = warn", {"node2dm_tw.service": "warn", "node2dm_tw.servicing": "error"}),
        ("debug, http=critical", {"node2dm_tw.http.pool": "critical", "node2dm_tw.push": "debug"}),
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
    package = Path(logs.__file__).parent
    for part in logs.PARTS:
        assert (package / part).is_dir() or (package / f"{part}.py").is_file()


def test_a_json_line_has_the_message_and_what_it_is_made_of():
    """On one line, whatever the values."""
    events, log = recorder()
    log.warn("{route}: no answer: {reason}", route="shop", reason='a "b"\nc', odd=object())
    text = as_json_line(events[0])
    assert text.count("\n") == 1
    line = json.loads(text)
    assert datetime.fromisoformat(line.pop("time")).tzinfo is not None
    assert line == {
        "level": "warn",
        "logger": "node2dm_tw.test",
        "message": 'shop: no answer: a "b"\nc',
        "event": "{route}: no answer: {reason}",
        "route": "shop",
        "reason": 'a "b"\nc',
    }


def test_a_json_line_of_a_failure_has_the_traceback():
    """In the same line."""
    events, log = recorder()
    try:
        raise ZeroDivisionError("no")
    except ZeroDivisionError:
        log.failure("{route}: a push could not be handled", route="shop")
    line = json.loads(as_json_line(events[0]))
    assert line["level"] == "critical"
    assert line["traceback"].rstrip().endswith("ZeroDivisionError: no")


def test_a_value_cannot_take_the_place_of_what_every_line_has():
    """Time, level and message are the line's own."""
    events, log = recorder()
    log.info("{time}", logger="x", time="y", message="z")
    line = json.loads(as_json_line(events[0]))
    assert (line["logger"], line["message"]) == ("node2dm_tw.test", "y")
    assert line["time"] != "y"


def test_json_goes_to_the_file_that_twistd_was_given(tmp_path):
    """SIGUSR1 rotates it, as twistd's own; without a file it goes to stdout."""
    file = tmp_path / "log"
    before = signal.getsignal(signal.SIGUSR1)
    signal.signal(signal.SIGUSR1, signal.SIG_DFL)
    soon = []
    try:
        observer = json_observer({"logfile": str(file), "nodaemon": True}, soon.append)
        Logger("x", observer=observer).info("one")
        signal.raise_signal(signal.SIGUSR1)
        (rotate,) = soon
        rotate()
        Logger("x", observer=observer).info("two")
    finally:
        signal.signal(signal.SIGUSR1, before)
        rotate.__self__.close()
    assert json.loads((tmp_path / "log.1").read_text(encoding="utf-8"))["message"] == "one"
    assert json.loads(file.read_text(encoding="utf-8"))["message"] == "two"


def test_json_to_stdout(capsys):
    """Where twistd stays in the foreground and no file is named."""
    Logger("x", observer=json_observer({"logfile": None, "nodaemon": True}, list)).info("one")
    assert json.loads(capsys.readouterr().out)["message"] == "one"


def test_the_event_of_a_line_that_was_held_back_stays_the_same():
    """A machine that counts events need not know of the number in the message."""
    clock = Clock()
    events, log = recorder()
    throttle = Throttle(log, clock)
    for number in range(3):
        throttle.warn("fault {number}", number=number)
    clock.advance(1)
    throttle.warn("fault {number}", number=3)
    lines = [json.loads(as_json_line(event)) for event in events]
    assert [line["event"] for line in lines] == ["fault {number}"] * 2
    assert lines[1]["message"] == "fault 3 (2 more like it were not logged)"
