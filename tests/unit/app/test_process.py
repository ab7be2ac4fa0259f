"""What the environment may change, how the start fails, and a status of its own at the end."""

import subprocess
import sys

import pytest
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.error import CannotListenError
from twisted.internet.task import Clock
from twisted.logger import LogLevel, capturedLogs, formatEvent
from twisted.trial.unittest import SynchronousTestCase

from node2dm_tw.app.process import (
    StartFailed,
    drop_key_log,
    find_unusable_options,
    open_or_fail,
    run_shutdown_steps,
)


def raising(error):
    def open_it():
        raise error

    return open_it


def test_a_log_of_keys_is_dropped_with_a_warning():
    """Without one there is neither."""
    environment = {"SSLKEYLOGFILE": "/tmp/keys", "HOME": "/"}
    (warning,) = drop_key_log(environment)
    assert warning.startswith("SSLKEYLOGFILE in the environment is ignored")
    assert environment == {"HOME": "/"}
    assert drop_key_log(environment) == []


@pytest.mark.parametrize("give", [lambda value: value, succeed])
def test_what_was_opened_is_given_back(give):
    """Whether it came at once or by a Deferred."""
    assert open_or_fail("x", lambda: give("thing")) == "thing"


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (
            CannotListenError("127.0.0.1", 8120, OSError(98, "Address already in use")),
            "udp cannot listen on 127.0.0.1:8120: Address already in use",
        ),
        (
            CannotListenError("", 8120, OSError("odd")),
            "udp cannot listen on *:8120: odd",
        ),
        (
            PermissionError(13, "Permission denied", "/state"),
            "udp: /state cannot be used: Permission denied",
        ),
        (OSError("odd"), "udp: it cannot be used: odd"),
        (ValueError("no such certificate"), "udp: no such certificate"),
    ],
)
def test_what_cannot_be_opened_ends_the_start_with_one_line(error, message):
    """The line says what, where and why; a failed Deferred is no different."""
    for open_it in (raising(error), lambda: fail(error)):
        with pytest.raises(StartFailed) as raised:
            open_or_fail("udp", open_it)
        assert str(raised.value) == message


def test_a_fault_of_ours_is_not_dressed_up():
    """It keeps its traceback."""
    with pytest.raises(KeyError):
        open_or_fail("udp", raising(KeyError("x")))


def test_what_does_not_open_at_once_is_refused():
    """Nothing is started on a promise."""
    with pytest.raises(RuntimeError, match="at once"):
        open_or_fail("udp", Deferred)


@pytest.mark.parametrize(
    ("options", "user", "faults"),
    [
        ({"uid": 1, "gid": 1}, 0, []),
        ({"uid": 1}, 1000, ["twistd --uid, --gid: only root can become another user"]),
        ({"gid": 0}, 1000, ["twistd --uid, --gid: only root can become another user"]),
        ({"uid": None, "pidfile": "", "rundir": "."}, 1000, []),
        ({"pidfile": "/nowhere/pid"}, 0, ["twistd --pidfile: /nowhere is no folder"]),
        ({"chroot": "/jail", "rundir": "/nowhere", "pidfile": "/nowhere/pid"}, 0, []),
        ({"rundir": "/nowhere"}, 0, ["twistd --rundir: /nowhere is no folder"]),
    ],
)
def test_what_twistd_cannot_do_is_found_before_it_tries(options, user, faults):
    """One line for each option."""
    assert find_unusable_options(options, user) == faults


PROGRAM = """
import atexit, sys
from twisted.internet import reactor
from node2dm_tw.app.tap import make_runtime
exit_with = make_runtime().exit_with
reactor.addSystemEventTrigger("before", "shutdown", lambda: print("stopped"))
{when}
reactor.run()
print("after")
sys.exit(0)
"""


@pytest.mark.parametrize(
    "when",
    ["exit_with(7)", "reactor.callWhenRunning(exit_with, 7)"],
    ids=["before it runs", "while it runs"],
)
def test_exit_with_stops_the_services_and_gives_the_status(when):
    """Services stop in order, output is whole, and the status is ours."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(when=when)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (7, "stopped\nafter\n", "")


@pytest.mark.parametrize(
    "when",
    ["set_exit_status(7)", "set_exit_status(3); set_exit_status(7)"],
    ids=["alone", "after another"],
)
def test_the_last_exit_status_counts(when):
    """A stop that fails takes the place of the reason for the stop."""
    program = f"from node2dm_tw.app.process import set_exit_status\n{when}"
    done = subprocess.run([sys.executable, "-c", program], timeout=20, check=False)
    assert done.returncode == 7


@pytest.fixture(name="clock")
def _clock():
    return Clock()


def run(clock, *steps, timeout=10.0):
    return run_shutdown_steps([(f"do {step.__name__}", step) for step in steps], clock, timeout)


def test_steps_run_one_after_the_other(clock):
    """One that takes time is waited for; all went well."""
    done, waiting = [], Deferred()

    def first():
        done.append(1)
        return waiting

    def second():
        done.append(2)

    running = run(clock, first, second)
    assert done == [1]
    waiting.callback(None)
    assert done == [1, 2]
    assert SynchronousTestCase().successResultOf(running) is True
    assert not clock.getDelayedCalls()


def raise_a_fault():
    raise KeyError("x")


def raise_an_error_of_the_disk():
    raise OSError(28, "No space left on device", "/state/c2dm.spool")


def fail_later():
    return fail(ValueError("x"))


def never_end():
    return Deferred()


@pytest.mark.parametrize(
    ("step", "line"),
    [
        (raise_a_fault, "stop: do raise_a_fault failed"),
        (
            raise_an_error_of_the_disk,
            "stop: cannot do raise_an_error_of_the_disk:"
            " [Errno 28] No space left on device: '/state/c2dm.spool'",
        ),
        (fail_later, "stop: do fail_later failed"),
        (never_end, "stop: do never_end failed"),
    ],
)
def test_every_step_runs_whatever_becomes_of_the_others(clock, step, line):
    """Each failure is a critical line, and the caller hears that there was one."""
    done = []

    def before():
        done.append("before")

    def after():
        done.append("after")

    with capturedLogs() as events:
        running = run(clock, before, step, after)
        clock.advance(10)
    assert done == ["before", "after"]
    assert SynchronousTestCase().successResultOf(running) is False
    (event,) = events
    assert formatEvent(event) == line
    assert event["log_level"] is LogLevel.critical
