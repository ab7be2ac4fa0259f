"""The state of the gateway by telnet."""

import json

import attrs
import pytest
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IHalfCloseableProtocol
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from node2dm_tw.admin.connections import CLOSE_SECONDS, IDLE_SECONDS
from node2dm_tw.admin.health import Health, Phase
from node2dm_tw.admin.lines import make_lines
from node2dm_tw.admin.telnet import HELP, LINGER_SECONDS, StatsFactory, TelnetViews
from tests.unit.admin.support import PROCESS, route, snapshot
from tests.unit.admin.transport import connect, make_connections

LINES = make_lines(PROCESS)
CONFIG = ["[node2dm]", "stats = tcp:1"]


class Connection:
    """One connection, with its clock and what was written to it."""

    def __init__(self, snapshot=PROCESS, config=CONFIG):
        self.clock = Clock()
        health = Health(self.clock.seconds, Phase.RUNNING)
        views = TelnetViews(lambda: snapshot, lambda: make_lines(snapshot), health, lambda: config)
        self.protocol = connect(StatsFactory(make_connections(self.clock), views))
        self.transport = self.protocol.transport

    def say(self, *pieces):
        """What comes back for these pieces of the stream."""
        self.transport.clear()
        for piece in pieces:
            self.protocol.dataReceived(piece)
        return self.heard()

    def heard(self):
        """What comes back when all turns have been taken that are due."""
        self.clock.pump([0] * 10)
        return self.transport.value()

    @property
    def is_closed(self):
        return self.transport.is_closed


def lines(*texts, end="\n"):
    return "".join(text + end for text in texts).encode()


@pytest.mark.parametrize(
    ("command", "answer"),
    [
        ("stats", LINES.as_text()),
        ("stats json", [json.dumps(attrs.asdict(LINES), separators=(",", ":"))]),
        ("health", ["ready", "shop: ready"]),
        ("config", CONFIG),
        ("version", ["node2dm_tw 1.2"]),
        ("help", HELP.split("\n")),
        ("", ["Invalid command"]),
        ("STATS", ["Invalid command"]),
        ("stats now", ["Invalid command"]),
        ("\xff\x00", ["Invalid command"]),
        (" version\t", ["node2dm_tw 1.2"]),
    ],
)
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_answers_end_as_the_clients_lines_do(command, answer, end):
    """Each command has its answer, anything else is invalid."""
    connection = Connection()
    assert connection.say((command + end).encode("latin-1")) == lines(*answer, end=end)
    assert not connection.is_closed


def test_help_names_every_command_that_there_is():
    """Each of them is known."""
    for row in HELP.split("\n"):
        assert b"Invalid" not in Connection().say(row.split("  ")[0].encode() + b"\n")


@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
def test_lines_are_lines_however_they_arrive(end):
    """Byte by byte, two at once, or cut in the middle of the line's end."""
    stream = b"version" + end + b"nonsense" + end + b"version" + end
    expected = Connection().say(stream)
    assert expected.count(end) == 3
    assert Connection().say(*(bytes([byte]) for byte in stream)) == expected
    for cut in range(len(stream)):
        assert Connection().say(stream[:cut], stream[cut:]) == expected


def test_each_answer_ends_as_its_own_question():
    """A client may change its mind."""
    assert Connection().say(b"version\r\nversion\nversion\r\n") == (
        b"node2dm_tw 1.2\r\nnode2dm_tw 1.2\nnode2dm_tw 1.2\r\n"
    )


def test_quit_closes_and_nothing_after_it_is_answered():
    """What came along with it is thrown away."""
    connection = Connection()
    assert connection.say(b"version\nquit\nversion\n") == b"node2dm_tw 1.2\n"
    assert connection.is_closed


@pytest.mark.parametrize(
    "pieces",
    [
        (b"x" * 1_025 + b"\n",),
        (b"x" * 1_026,),
        (b"x" * 600, b"x" * 600, b"x" * 600),
        (b"x" * 100_000,),
    ],
)
def test_a_line_that_is_too_long_is_refused(pieces):
    """Once, and the connection is closed; memory does not fill with it."""
    connection = Connection()
    assert connection.say(*pieces) == b"Line too long\n"
    assert connection.is_closed


def test_the_longest_line_is_read():
    """It is merely no command."""
    connection = Connection()
    assert connection.say(b"x" * 1_024 + b"\n") == b"Invalid command\n"
    assert not connection.is_closed


@pytest.mark.parametrize(
    ("said", "answer"),
    [
        (b"", b""),
        (b"version", b"node2dm_tw 1.2\n"),
        (b"version\r", b"node2dm_tw 1.2\n"),
        (b"nonsense", b"Invalid command\n"),
        (b"quit", b""),
        (b"help\r\nversion", lines(*HELP.split("\n"), "node2dm_tw 1.2", end="\r\n")),
    ],
)
def test_a_client_that_closes_its_side_gets_its_answers(said, answer):
    """Also to a last line without an end; then the connection is closed."""
    connection = Connection()
    assert IHalfCloseableProtocol.providedBy(connection.protocol)
    connection.transport.clear()
    connection.protocol.dataReceived(said)
    connection.protocol.readConnectionLost()
    assert connection.heard() == answer
    assert connection.is_closed


@pytest.mark.parametrize(
    ("said", "seconds"),
    [
        (b"", IDLE_SECONDS),
        (b"sta", IDLE_SECONDS),
        (b"version\r\n", IDLE_SECONDS),
        (b"version\n", LINGER_SECONDS),
        (b"version\nversion\r\n", IDLE_SECONDS),
        (b"version\r\nversion\n", LINGER_SECONDS),
    ],
)
def test_a_silent_connection_is_closed(said, seconds):
    """After 60 s, or after 1 s where the last line ended in LF alone: so `nc` returns."""
    connection = Connection()
    connection.say(said)
    connection.clock.advance(seconds - 0.01)
    assert not connection.is_closed
    connection.clock.advance(0.01)
    assert connection.is_closed


def test_every_line_starts_the_wait_anew():
    """A client that goes on asking is served."""
    connection = Connection()
    for _ in range(10):
        connection.say(b"version\n")
        connection.clock.advance(LINGER_SECONDS - 0.01)
    assert not connection.is_closed


def test_a_closed_connection_leaves_no_timer():
    """However it ended."""
    for said in (b"", b"version\n", b"quit\n", b"x" * 2_000):
        connection = Connection()
        connection.say(said)
        connection.protocol.connectionLost(Failure(ConnectionDone()))
        assert connection.clock.getDelayedCalls() == []


def test_a_client_that_does_not_read_is_not_read_either():
    """Its questions wait until it has read the answers; memory does not fill with them."""
    connection = Connection()
    connection.transport.is_read = False
    said = connection.say(b"stats\n" * 100)
    assert 4_096 < len(said) < 4_096 + 2_000
    assert not connection.transport.is_reading
    connection.transport.read_again()
    connection.clock.pump([0] * 100)
    assert connection.transport.value().count(b"uptime") == 100
    assert connection.transport.is_reading


def test_a_client_that_never_reads_is_cut_off():
    """Closing waits for the answers to be read, but not for ever."""
    connection = Connection()
    connection.say(b"version\n")
    connection.clock.advance(LINGER_SECONDS)
    assert connection.is_closed
    assert not connection.transport.disconnected
    connection.clock.advance(CLOSE_SECONDS)
    assert connection.transport.disconnected


CONTROLS = "\x00\x07\x1b[31m\r\n\x7f\x9b\xad\u200f\u202e\u2028\u2029\U000e0001\ud800"


@pytest.mark.parametrize("command", [b"stats", b"stats json", b"health", b"config"])
def test_nothing_in_an_answer_acts_on_a_terminal(command):
    """Controls, directions and line ends in any value are shown as what they are."""
    shown = snapshot(shop=route(state="locked", state_reason=f"a{CONTROLS}b"))
    connection = Connection(shown, ["[node2dm]", f"prefix = a{CONTROLS}b"])
    text = connection.say(command + b"\n").decode()
    assert all(line.isprintable() for line in text.split("\n"))
    if command == b"stats json":
        assert json.loads(text)["routes"]["shop"]["state_reason"] == f"a{CONTROLS}b"
    else:
        assert "a\\x00\\x07\\x1b[31m\\x0d\\x0a\\x7f\\x9b\\xad\\u200f\\u202e" in text
        assert (
            text.count("\n")
            == {
                b"stats": len(make_lines(shown).as_text()),
                b"health": 2,
                b"config": 2,
            }[command]
        )
