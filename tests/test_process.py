"""What the environment may change, how the start fails, and a status of its own at the end."""

import subprocess
import sys

import pytest
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.error import CannotListenError

from node2dm_tw.process import StartFailed, drop_key_log, opened


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
    assert opened("x", lambda: give("thing")) == "thing"


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
            opened("udp", open_it)
        assert str(raised.value) == message


def test_a_fault_of_ours_is_not_dressed_up():
    """It keeps its traceback."""
    with pytest.raises(KeyError):
        opened("udp", raising(KeyError("x")))


def test_what_does_not_open_at_once_is_refused():
    """Nothing is started on a promise."""
    with pytest.raises(RuntimeError, match="at once"):
        opened("udp", Deferred)


PROGRAM = """
import atexit, sys
from twisted.internet import reactor
from node2dm_tw.process import exit_with
reactor.addSystemEventTrigger("before", "shutdown", lambda: print("stopped"))
{when}
reactor.run()
print("after")
sys.exit(0)
"""


@pytest.mark.parametrize(
    "when",
    ["exit_with(7, reactor)", "reactor.callWhenRunning(exit_with, 7, reactor)"],
    ids=["before it runs", "while it runs"],
)
def test_exit_with_stops_the_services_and_gives_the_status(when):
    """Services stop in order, output is whole, and the status is ours."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(when=when)],
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (7, "stopped\nafter\n", "")
