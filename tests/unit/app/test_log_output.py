"""How log lines look, and where they go."""

import json
import os
import signal
import stat
from datetime import datetime

import attrs
import pytest
from twisted.internet.task import Clock
from twisted.logger import Logger, formatEventAsClassicLogText
from twisted.python.syslog import SyslogObserver

from node2dm_tw.app.log_output import (
    MAX_TEXT,
    LogFile,
    SyslogLineObserver,
    as_json_line,
    as_text_line,
    make_observer,
)
from node2dm_tw.core.logs import Throttle

EVIL = "\x1b]0;owned\x07\u202e\x9b\n2025-01-01T00:00:00+0000 [-] forged \ud800"
SHOWN = r"\x1b]0;owned\x07\u202e\x9b\x0a2025-01-01T00:00:00+0000 [-] forged \ud800"


def recorder():
    events = []
    return events, Logger("node2dm_tw.test", observer=events.append)


def record(*arguments, **values):
    events, log = recorder()
    log.warn(*arguments, **values)
    return events[0]


def record_failure(text):
    events, log = recorder()
    try:
        raise ZeroDivisionError(text)
    except ZeroDivisionError:
        log.failure("{route}: a push could not be handled", route="shop")
    return events[0]


@pytest.fixture
def log_file(tmp_path):
    file = LogFile(str(tmp_path / "log"))
    yield file
    file.close()


@pytest.fixture
def usr1():
    before = signal.getsignal(signal.SIGUSR1)
    signal.signal(signal.SIGUSR1, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGUSR1, before)


def test_a_text_line_is_as_twistd_writes_it():
    """Time, part and level, message; and a traceback on lines of its own, indented."""
    for event in (record("{route}: no answer", route="shop"), record_failure("no")):
        theirs = formatEventAsClassicLogText(event).rstrip()
        assert as_text_line(event) == theirs + "\n"
    assert as_text_line({"log_system": "-", "log_format": "x"}) == "- [-] x\n"
    assert as_text_line({}) == ""


def test_what_others_wrote_is_made_visible_in_a_text_line():
    """One event is one line, whatever is in its values."""
    line = as_text_line(record("refused: {reason}", reason=EVIL))
    assert line.endswith(f"refused: {SHOWN}\n")
    assert line.count("\n") == 1


def test_a_traceback_keeps_its_line_feeds_and_nothing_else():
    """No line of it begins as a line of the log does."""
    _, *lines = as_text_line(record_failure(EVIL)).rstrip("\n").split("\n")
    assert len(lines) > 3
    assert all(line.startswith("\t") for line in lines)
    assert all(character.isprintable() for line in lines for character in line[1:])
    traceback = json.loads(as_json_line(record_failure(EVIL)))["traceback"]
    assert traceback.split("\n") == [line[1:] for line in lines]


def test_a_json_line_has_the_message_and_what_it_is_made_of():
    """On one line, with nothing invisible in any value."""
    event = record("{route}: {reason}", route="shop", reason=EVIL, size=3, odd=object())
    text = as_json_line(event)
    assert text.count("\n") == 1
    line = json.loads(text)
    assert datetime.fromisoformat(line.pop("time")).tzinfo is not None
    assert line == {
        "level": "warn",
        "logger": "node2dm_tw.test",
        "message": f"shop: {SHOWN}",
        "event": "{route}: {reason}",
        "route": "shop",
        "reason": SHOWN,
        "size": 3,
    }


def test_a_json_line_of_a_failure_has_the_traceback():
    """In the same line."""
    line = json.loads(as_json_line(record_failure("no")))
    assert line["level"] == "critical"
    assert line["traceback"].endswith("ZeroDivisionError: no")


def test_a_value_cannot_take_the_place_of_what_every_line_has():
    """Time, level and message are the line's own."""
    line = json.loads(as_json_line(record("{time}", logger="x", time="y", message="z")))
    assert (line["logger"], line["message"]) == ("node2dm_tw.test", "y")
    assert line["time"] != "y"


def test_a_long_text_is_cut():
    """What an upstream or a sender wrote cannot fill the disk with one line."""
    event = record("refused: {reason}", reason="x" * 60_000)
    assert len(as_text_line(event)) < MAX_TEXT + 200
    line = json.loads(as_json_line(event))
    assert line["reason"] == "x" * MAX_TEXT + "... (56000 more characters)"
    assert len(line["message"]) < MAX_TEXT + 50


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


def read(path):
    return path.read_text(encoding="utf-8").split()


def test_a_file_that_was_moved_is_opened_again(tmp_path, log_file):
    """By its name, at most a second later; it gets the mode of the one that was moved."""
    (tmp_path / "log").chmod(0o640)
    log_file.write("one\n", 100.0)
    (tmp_path / "log").rename(tmp_path / "log.1")
    log_file.write("two\n", 100.9)
    log_file.write("three\n", 101.0)
    assert read(tmp_path / "log.1") == ["one", "two"]
    assert read(tmp_path / "log") == ["three"]
    assert stat.S_IMODE((tmp_path / "log").stat().st_mode) == 0o640


def test_a_file_that_was_deleted_or_replaced_is_opened_again(tmp_path, log_file):
    """Where another has its name, lines go to the end of that one, whose mode stays."""
    (tmp_path / "log").unlink()
    log_file.write("one\n", 1.0)
    assert read(tmp_path / "log") == ["one"]
    (tmp_path / "other").write_text("other\n", encoding="utf-8")
    (tmp_path / "other").chmod(0o604)
    (tmp_path / "other").replace(tmp_path / "log")
    log_file.write("two\n", 2.0)
    assert read(tmp_path / "log") == ["other", "two"]
    assert stat.S_IMODE((tmp_path / "log").stat().st_mode) == 0o604


def test_a_clock_that_steps_back_delays_no_look(tmp_path, log_file):
    """The times of the lines are the wall clock's."""
    log_file.write("one\n", 1_000.0)
    (tmp_path / "log").unlink()
    log_file.write("two\n", 10.0)
    assert read(tmp_path / "log") == ["two"]


def test_a_file_that_was_truncated_goes_on_at_its_new_end(tmp_path, log_file):
    """As `copytruncate` does it: no NULs."""
    log_file.write("one\n" * 1_000, 1.0)
    os.truncate(tmp_path / "log", 0)
    log_file.write("two\n", 1.5)
    assert (tmp_path / "log").read_bytes() == b"two\n"


@pytest.mark.parametrize("what", ["directory", "dangling", "fifo"])
def test_a_name_that_cannot_be_opened_leaves_the_old_file_in_use(tmp_path, log_file, what):
    """The failure is a line in it; lines go on until the name can be opened again."""
    (tmp_path / "log").rename(tmp_path / "log.1")
    if what == "directory":
        (tmp_path / "log").mkdir()
    elif what == "dangling":
        (tmp_path / "log").symlink_to(tmp_path / "missing" / "log")
    else:
        os.mkfifo(tmp_path / "log")
    log_file.write("one\n", 1.0)
    log_file.write("two\n", 2.0)
    assert read(tmp_path / "log.1") == ["one", "two"]
    if what == "directory":
        (tmp_path / "log").rmdir()
    else:
        (tmp_path / "log").unlink()
    log_file.write("three\n", 3.0)
    assert read(tmp_path / "log") == ["three"]


def test_a_full_disk_costs_lines_and_nothing_else():
    """Nobody is left to whom it could be said."""
    file = LogFile("/dev/full")
    file.write("one\n", 1.0)
    file.reopen()
    file.write("two\n", 2.0)
    file.close()


@pytest.mark.parametrize(("log_format", "start"), [("text", "2"), ("json", "{")])
def test_sigusr1_opens_the_file_again(tmp_path, usr1, log_format, start):
    """At once, so that the moved one can be compressed; in either format."""
    path, soon = tmp_path / "log", []
    observer = make_observer({"logfile": str(path), "nodaemon": 1}, log_format, soon.append)
    Logger("x", observer=observer).info("one")
    path.rename(tmp_path / "log.1")
    signal.raise_signal(signal.SIGUSR1)
    (reopen,) = soon
    reopen()
    assert read(path) == []
    Logger("x", observer=observer).info("two")
    observer.file.close()
    assert "one" in (tmp_path / "log.1").read_text(encoding="utf-8")
    text = path.read_text(encoding="utf-8")
    assert "two" in text
    assert text.startswith(start)


def test_without_a_file_it_goes_to_standard_output(capfd, usr1):
    """Where twistd stays in the foreground; a signal to reopen it does no harm."""
    observer = make_observer({"logfile": None, "nodaemon": 1}, "json", lambda call: call())
    signal.raise_signal(signal.SIGUSR1)
    Logger("x", observer=observer).info("{text}", text="größer \ud800")
    assert json.loads(capfd.readouterr().out)["message"] == r"größer \ud800"


def test_a_daemon_that_should_log_to_standard_output_is_left_to_twistd():
    """Which refuses to start."""
    assert make_observer({"logfile": "-", "nodaemon": 0}, "text", list) is None


@attrs.define
class MemorySyslog(SyslogObserver):
    """Keeps what syslog would get."""

    lines: list[tuple[int, str]] = attrs.field(factory=list)

    def openlog(self, prefix, options, facility):
        raise AssertionError("it is open")

    def syslog(self, priority, line):
        self.lines.append((priority, line))


def test_syslog_gets_the_same_text():
    """A line for each of a traceback's, the first with the part; failures as alerts."""
    syslog = MemorySyslog()
    observer = SyslogLineObserver(syslog)
    observer(record("refused: {reason}", reason=EVIL))
    observer({})
    observer(record_failure("no"))
    (info, line), (alert, first), *others = syslog.lines
    assert line == f"[node2dm_tw.test#warn] refused: {SHOWN}"
    assert first == "[node2dm_tw.test#critical] shop: a push could not be handled"
    assert info > alert
    assert others[-1][1].endswith("ZeroDivisionError: no")


def test_the_option_syslog_is_twistds(usr1):
    """Its prefix too; nothing is opened otherwise."""
    observer = make_observer({"syslog": 1, "prefix": "node2dm"}, "json", list)
    assert isinstance(observer, SyslogLineObserver)
