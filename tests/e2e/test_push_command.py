"""node2dm-push: its pace, its progress bar on a terminal, its messages and exit statuses."""

import csv
import json
import os
import pty
import re
import select
import signal
import socket
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from node2dm_tw.cli.bulk import BulkSender
from node2dm_tw.cli.progress import CLEAR_LINE, progress
from node2dm_tw.cli.progress import Terminal as Screen
from node2dm_tw.cli.push import main
from node2dm_tw.cli.rows import Row
from node2dm_tw.client import Push
from tests.e2e.test_push import received as received_by_phone
from tests.support.gateway import HEEDING, GatewayProcess

COMMAND = [sys.executable, "-m", "node2dm_tw.cli.push"]
FIELDS = tuple(Push.__dataclass_fields__)
CSV = "token,collapse_key,data\n"


class Clock:
    """Time that passes only while somebody sleeps."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


class Terminal:
    """A pseudo-terminal of 60 columns, and what was written to it."""

    def __init__(self) -> None:
        self.reading, self.writing = pty.openpty()
        termios.tcsetwinsize(self.writing, (24, 60))
        self.text = ""

    def read_until(self, wanted: Callable[[str], bool]) -> str:
        """Read until the text is as wanted; fails after 60 s."""
        deadline = time.monotonic() + 60
        while not wanted(self.text):
            assert select.select([self.reading], [], [], deadline - time.monotonic())[0], self.text
            self.text += os.read(self.reading, 65536).decode()
        return self.text

    def close(self) -> None:
        os.close(self.reading)
        os.close(self.writing)


@pytest.fixture
def terminal() -> Iterator[Terminal]:
    made = Terminal()
    yield made
    made.close()


@pytest.fixture
def receiver() -> Iterator[socket.socket]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as bound:
        bound.bind(("127.0.0.1", 0))
        bound.settimeout(60)
        yield bound


def port_of(receiver: socket.socket) -> str:
    return str(receiver.getsockname()[1])


def received(receiver: socket.socket, count: int) -> list[bytes]:
    lines: list[bytes] = []
    while len(lines) < count:
        lines += receiver.recv(65536).split(b"\n")
    return lines


def run_rows(
    rows: list[Row], rate: float, burst: int, **options: bool
) -> tuple[BulkSender, list, Clock]:
    """Run rows without a network; return the run, (moment, lines) of each datagram, the clock."""
    clock = Clock()
    sent: list[tuple[float, list[bytes]]] = []
    screen = Screen(sys.stderr, clock, None, bar=False)
    run = BulkSender(lambda lines: sent.append((clock.now, lines)), screen, rate=rate, burst=burst,
              clock=clock, sleep=clock.sleep, **options)  # fmt: skip
    run.send_rows(rows, {"collapse_key": "k"})
    return run, sent, clock


def some_rows(count: int) -> list[Row]:
    return [Row(number, {"token": "T", "data": str(number)}) for number in range(2, count + 2)]


@pytest.mark.parametrize(("rate", "burst"), [(10, 1), (1000, 20), (50_000, 1000)])
def test_the_pace_is_kept(rate: float, burst: int) -> None:
    """N pushes take N/rate seconds but the last burst's, and never run ahead by more than one."""
    run, sent, clock = run_rows(some_rows(5000), rate, burst)
    assert clock.now == pytest.approx((5000 - burst) / rate)
    done = 0
    for moment, lines in sent:
        done += len(lines)
        assert done <= moment * rate + burst + 1e-6
    assert run.sent == done == 5000


def test_lost_time_is_not_made_up_for() -> None:
    """After a pause of the source the pace is the same, not a flood."""
    clock = Clock()
    moments: list[float] = []

    def rows() -> Iterator[Row]:
        for row in some_rows(40):
            clock.now += 100 * (row.number == 20)
            yield row

    screen = Screen(sys.stderr, clock, None, bar=False)
    run = BulkSender(lambda lines: moments.append(clock.now), screen, rate=10, burst=1,
              clock=clock, sleep=clock.sleep)  # fmt: skip
    run.send_rows(rows(), {})
    assert clock.now == pytest.approx(100 + 4, abs=0.3)
    assert max(later - earlier for earlier, later in zip(moments, moments[2:], strict=False)) > 100
    assert min(later - earlier for earlier, later in zip(moments, moments[2:], strict=False)) > 0.1


@pytest.mark.parametrize("strict", [False, True])
def test_faulty_rows_are_skipped_or_end_it(strict: bool, capsys: pytest.CaptureFixture) -> None:
    """A faulty row is named by its line; with --strict what came before it is still sent."""
    rows = some_rows(10)
    rows[4] = Row(6, ValueError("bad"))
    rows[6] = Row(8, {"token": "T", "colour": "red"})
    run, sent, _ = run_rows(rows, 1e6, 100, strict=strict)
    told = capsys.readouterr().err.splitlines()
    assert (
        told
        == [
            "node2dm-push: line 6: bad",
            f"node2dm-push: line 8: unknown field 'colour': expected one of {', '.join(FIELDS)}",
        ][: 2 - strict]
    )
    assert (run.sent, run.faulty) == ((4, 1) if strict else (8, 2))
    assert len(sent) == run.datagrams == 1


def test_progress() -> None:
    """The bar shows done and total, the rate, and the time left; without a total only the rate."""
    assert progress(0, 10, 0.0) == f"[{'.' * 24}] 0/10 0 % 0/s, waiting"
    assert (
        progress(2500, 10_000, 2.5) == f"[{'#' * 6}{'.' * 18}] 2,500/10,000 25 % 1,000/s, 8 s left"
    )
    assert progress(10, 10, 1.0).endswith("10/10 100 % 10/s, 0 s left")
    assert progress(7, None, 2.0) == "7 pushes, 4/s"


def test_the_bar_on_a_terminal(terminal: Terminal, receiver: socket.socket, tmp_path: Path) -> None:
    """On a terminal the bar moves below the messages, fits the width, and ends at 100 %."""
    file = tmp_path / "rows.csv"
    file.write_text(CSV + "".join(f"T{n},k,x\n" for n in range(300)) + ",k,x\n" + "U,k,x\n" * 99)
    command = [*COMMAND, "--from", str(file), "--port", port_of(receiver), "--rate", "800"]
    with subprocess.Popen(command, stderr=terminal.writing) as process:
        text = terminal.read_until(lambda text: "sent: 399" in text)
        assert process.wait(60) == 1
    assert len(received(receiver, 399)) == 399
    drawn = [part for part in text.split(CLEAR_LINE) if part.startswith("[")]
    assert len(drawn) >= 3
    assert "] 400/400 100 %" in drawn[-1]
    assert all(len(part.split("\r\n")[0]) < 60 for part in drawn)
    assert [int(part.split("] ")[1].split("/")[0]) for part in drawn] == sorted(
        int(part.split("] ")[1].split("/")[0]) for part in drawn
    )
    assert f"{CLEAR_LINE}node2dm-push: line 302: target = []: expected exactly one of" in text
    assert text.endswith("faulty: 1, not sent: 0\r\n")


def test_no_bar_elsewhere(receiver: socket.socket, tmp_path: Path) -> None:
    """Where standard error is no terminal there is only the summary, in plain text."""
    file = tmp_path / "rows.jsonl"
    file.write_text('{"token": "c:T", "data": {"a": "b"}, "ttl": 60}\n' * 30)
    done = subprocess.run(
        [*COMMAND, "--from", str(file), "--port", port_of(receiver), "--route", "app"],
        capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    assert (done.stdout, done.stderr) == (
        "", "node2dm-push: sent: 30 (datagrams: 2), faulty: 0, not sent: 0\n"
    )  # fmt: skip
    wanted = {"token": "c:T", "data": {"a": "b"}, "ttl": 60, "route": "app"}
    assert [json.loads(line) for line in received(receiver, 30)] == [wanted] * 30


def test_rows_of_a_pipe_go_at_once(receiver: socket.socket) -> None:
    """A row that comes through a pipe is sent while the pipe is still open."""
    command = [*COMMAND, "--from", "-", "--port", port_of(receiver)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdin
        for number in range(3):
            process.stdin.write(b'{"token": "T", "data": "%d"}\n' % number)
            process.stdin.flush()
            assert receiver.recv(100) == b"T::%d" % number
        process.stdin.write(b'{"token": "T", "data": "\xff"}\n')
        _, told = process.communicate(timeout=60)
    assert process.returncode == 1
    assert b"line 4: not valid UTF-8" in told


def test_an_interrupt(receiver: socket.socket, tmp_path: Path) -> None:
    """Ctrl-C ends it with the summary and status 130."""
    file = tmp_path / "rows.csv"
    file.write_text(CSV + "T,k,x\n" * 1000)
    options = ["--from", str(file), "--port", port_of(receiver), "--rate", "1"]
    command = [*HEEDING, *COMMAND, *options]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        receiver.recv(100)
        process.send_signal(signal.SIGINT)
        _, told = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "not sent: 0" in told
    assert "Traceback" not in told


@pytest.mark.parametrize("before", [1, 250, 900])
def test_an_interrupted_file_is_resumed(
    receiver: socket.socket, tmp_path: Path, before: int
) -> None:
    """Ctrl-C says where to go on: both runs together send each row once, in order."""
    file = tmp_path / "rows.csv"
    # A record of two lines each: the number is that of a line, not of a row.
    file.write_text(CSV + "".join(f'T,k,"{n}\n"\n' for n in range(1500)))
    options = ["--from", str(file), "--port", port_of(receiver), "--rate", "3000"]
    with subprocess.Popen(
        [*HEEDING, *COMMAND, *options], stderr=subprocess.PIPE, text=True
    ) as process:
        lines = received(receiver, before)
        process.send_signal(signal.SIGINT)
        _, told = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in told
    (next_line,) = re.findall(r"interrupted; go on with --from-line (\d+)\n", told)
    (sent,) = re.findall(r"sent: ([\d,]+) ", told)
    lines += received(receiver, int(sent.replace(",", "")) - len(lines))
    assert main([*options, "--from-line", next_line]) == 0
    lines += received(receiver, 1500 - len(lines))
    assert [int(json.loads(line)["data"]) for line in lines] == list(range(1500))


def test_from_line_skips_rows(tmp_path: Path, capfdbinary: pytest.CaptureFixture) -> None:
    """Rows before the line are neither sent nor checked; the header is read all the same."""
    file = tmp_path / "rows.csv"
    file.write_text(CSV + ",k,faulty\nA,k,1\nB,k,2\nC,k,3\n")
    assert main(["--from", str(file), "--dry-run", "--from-line", "4"]) == 0
    assert capfdbinary.readouterr().out == b"B:k:2\nC:k:3\n\n"
    file.write_text('{"token": ""}\n\n{"token": "A", "collapse_key": "k", "data": "1"}\n')
    assert main(["--from", str(file), "--dry-run", "--from-line", "3"]) == 0
    assert capfdbinary.readouterr().out == b"A:k:1\n\n"


def test_targets_and_notification(receiver: socket.socket, tmp_path: Path) -> None:
    """--topic and --condition take the place of TOKEN, also for rows that name no target."""
    to = ["--port", port_of(receiver)]
    assert main(["--topic", "news", "Hello", "--notification", "Title:Body: more", *to]) == 0
    assert json.loads(receiver.recv(300)) == {
        "topic": "news", "data": "Hello", "notification": {"title": "Title", "body": "Body: more"}
    }  # fmt: skip
    condition = "'a' in topics"
    assert main(["--condition", condition, "--notification", "Only a title", *to]) == 0
    assert json.loads(receiver.recv(300)) == {
        "condition": condition, "notification": {"title": "Only a title"}
    }  # fmt: skip
    assert main(["T", "--notification", '{"title": "x", "image": "https://i"}', *to]) == 0
    assert json.loads(receiver.recv(300)) == {
        "token": "T", "notification": {"title": "x", "image": "https://i"}
    }  # fmt: skip
    file = tmp_path / "rows.jsonl"
    file.write_text('{"token": "T", "data": "1"}\n{"data": "2"}\n')
    assert main(["--from", str(file), "--topic", "news", *to]) == 0
    lines = received(receiver, 2)
    assert lines[0] == b"T::1"
    assert json.loads(lines[1]) == {"topic": "news", "data": "2"}


def test_subscriptions(receiver: socket.socket, tmp_path: Path, capsys) -> None:
    """--subscribe and --unsubscribe hold for a TOKEN or each row, which has no message."""
    to = ["--port", port_of(receiver)]
    assert main(["T", "--subscribe", "news", *to]) == 0
    assert json.loads(receiver.recv(300)) == {"token": "T", "subscribe": "news"}
    file = tmp_path / "rows.csv"
    file.write_text("token,fid\nA,\n,B\n")
    assert main(["--from", str(file), "--unsubscribe", "news", "--route", "fcm", *to]) == 0
    assert [json.loads(line) for line in received(receiver, 2)] == [
        {"token": "A", "route": "fcm", "unsubscribe": "news"},
        {"fid": "B", "route": "fcm", "unsubscribe": "news"},
    ]
    file.write_text(
        '{"token": "A", "data": ""}\n{"topic": "x"}\n{"token": "B", "subscribe": "y"}\n'
    )
    assert main(["--from", str(file), "--subscribe", "news", *to]) == 1
    assert json.loads(receiver.recv(300)) == {"token": "B", "subscribe": "y"}
    told = capsys.readouterr().err
    assert "line 1: data is given: expected none beside subscribe" in told
    assert "line 2: topic is given: expected none beside subscribe" in told


PAYLOADS = [
    *("plain", "two\nlines", "a:b::", "{braces", '{"a": "b"}', "|bar|", "", " blanks "),
    *("caf\u00e9 \U0001f600", "\u2028", "com,ma", 'quo"te', "cr\rlf\r\n"),
]


def test_rows_reach_the_phone(make_gateway: Callable[[], GatewayProcess], tmp_path: Path) -> None:
    """Through a real gateway the phone gets each payload as it stands in the file."""
    gateway = make_gateway().start()
    file = tmp_path / "rows.csv"
    with file.open("w", newline="", encoding="utf-8") as opened:
        rows = [("demo-phone", f"key{n}", text) for n, text in enumerate(PAYLOADS)]
        csv.writer(opened).writerows([("token", "collapse_key", "data"), *rows])
    assert main(["--from", str(file), "--port", str(gateway.udp)]) == 0
    gateway.wait_for(messages_sent=len(PAYLOADS))
    assert dict(received_by_phone(gateway.log)) == {key: text for _, key, text in rows}


def test_one_push(receiver: socket.socket) -> None:
    """One push from the arguments, in node2dm's form, without a word."""
    assert main(["T", "Hello", "--collapse-key", "k", "--port", port_of(receiver)]) == 0
    assert receiver.recv(100) == b"T:k:Hello"
    options = ["--ttl", "60", "--priority", "high", "--delay-while-idle"]
    assert main(["T", *options, "--port", port_of(receiver)]) == 0
    assert json.loads(receiver.recv(200)) == {
        "token": "T", "ttl": 60, "priority": "high", "delay_while_idle": True
    }  # fmt: skip


def test_nobody_listens(capsys: pytest.CaptureFixture, tmp_path: Path) -> None:
    """A gateway that is not there is told, with status 1; --strict ends it."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as bound:
        bound.bind(("127.0.0.1", 0))
        port = port_of(bound)
    assert main(["T", "x", "--port", port]) == 1
    told = capsys.readouterr().err
    assert f"nobody listens at 127.0.0.1 port {port}; sent in vain: 1 or more; expected" in told
    file = tmp_path / "rows.csv"
    file.write_text(CSV + f"T,k,{'x' * 1000}\n" * 20)
    assert main(["--from", str(file), "--port", port]) == 1
    told = capsys.readouterr().err
    assert told.count("(going on)") == 1
    assert "sent: 20 " in told
    assert main(["--from", str(file), "--port", port, "--strict"]) == 1
    told = capsys.readouterr().err
    line = int(re.search(r"line (\d+): not sent: the datagram before came back", told)[1])
    assert f"stopped; go on with --from-line {line}\n" in told


def test_an_unknown_host(capsys: pytest.CaptureFixture) -> None:
    """A host name that cannot be is status 1, and one line."""
    assert main(["T", "x", "--host", "a" * 300]) == 1
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_a_dry_run(tmp_path: Path, capfdbinary: pytest.CaptureFixture) -> None:
    """--dry-run prints the datagrams, an empty line behind each, and sends nothing."""
    file = tmp_path / "rows.csv"
    file.write_bytes(b'\xef\xbb\xbftoken,data\r\nA,1\r\nB,"x\ny"\r\nC,caf\xc3\xa9\r\n')
    assert main(["--from", str(file), "--dry-run", "--route", "r", "--datagram", "50"]) == 0
    assert capfdbinary.readouterr().out == (
        b'r|A::1\n{"token":"B","data":"x\\ny","route":"r"}\n\n' + "r|C::caf\u00e9\n\n".encode()
    )


def test_a_dry_run_whose_reader_leaves(tmp_path: Path) -> None:
    """`node2dm-push --dry-run | head` ends without a traceback."""
    file = tmp_path / "rows.csv"
    file.write_text(CSV + f"T,k,{'x' * 1300}\n" * 2000)
    command = [*COMMAND, "--from", str(file), "--dry-run", "--rate", "1000"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout
        assert process.stderr
        process.stdout.read(100)
        process.stdout.close()
        told = process.stderr.read()
        assert process.wait(60) == 1
    assert told == b""


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ([], "give either"),
        (["T", "x", "--topic", "news"], "give either"),
        (["--topic", "news", "--condition", "x"], "give either"),
        (["T", "--from-line", "5"], "--from-line needs --from"),
        (["T", "--dry-run", "--confirm", "127.0.0.1:1"], "leave out --dry-run"),
        (["--from", "-", "--ttl", "-1"], "ttl = -1: expected"),
        (["T", "--notification", "{"], "expected a JSON object"),
        (["T", "--notification", '{"body": 3}'], "notification.body = 3: expected a text"),
        (["T", "--android", "[]"], "argument --android: '[]': expected a JSON object"),
        (["T", "--android-v2", '{"a":1,"a":2}'], "'a' is there twice: expected a JSON object"),
        (["T", "x", "--from", "-"], "give either"),
        (["T", "--port", "0"], "argument --port: '0': expected a whole number between 1 and 65535"),
        (["T", "--datagram", "70000"], "expected a whole number between 1 and 65507"),
        (["T", "--rate", "0"], "argument --rate: '0': expected a number above 0"),
        (["T", "--rate", "nan"], "--rate"),
        (["T", "--ttl", "-1"], "ttl = -1: expected"),
        (["", "x"], "token = '': expected a text that is not empty"),
        (["T", "x", "--subscribe", "a"], "data is given: expected none beside subscribe"),
        (["T", "--unsubscribe", "a", "--ttl", "5"], "ttl is given: expected none beside unsub"),
        (["T", "--subscribe", "a", "--unsubscribe", "a"], "unsubscribe is given: expected none"),
        (["T", "--subscribe", ""], "expected a text that is not empty"),
        (["T\udcff", "x"], "UTF-8"),
    ],
)
def test_usage(arguments: list[str], reason: str, capsys: pytest.CaptureFixture) -> None:
    """Arguments of no use end it with status 2 and a reason."""
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    assert reason in capsys.readouterr().err


def test_a_file_of_no_use(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """A file that is not there, or whose header row is unknown, is status 2, with its name."""
    file = tmp_path / "rows.csv"
    assert main(["--from", str(file)]) == 2
    file.write_text("device,text\nT,x\n")
    assert main(["--from", str(file)]) == 2
    assert main(["--from", str(tmp_path)]) == 2
    told = capsys.readouterr().err.splitlines()
    assert [str(file) in line for line in told] == [True, True, False]
    assert "unknown columns: 'device', 'text'" in told[1]


def test_help(capsys: pytest.CaptureFixture) -> None:
    """The help has examples and every exit status."""
    with pytest.raises(SystemExit) as ended:
        main(["--help"])
    assert ended.value.code == 0
    text = capsys.readouterr().out
    assert "examples:" in text
    assert "exit status:" in text
