"""Clients of the views that would keep a real gateway from its pushes, and cannot."""

import json
import os
import re
import resource
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from functools import partial

import attrs
import pytest

from tests.e2e.steady_load import SteadyLoad, quick_upstream
from tests.support.gateway import GatewayProcess, telnet
from tests.support.ports import free_port
from tests.support.upstream import Answer, upstream
from tests.support.waiting import wait_until

MEGABYTE = 1_000_000
FORM = (
    b'--x\r\nContent-Disposition: form-data; name="a"\r\n\r\n' + b"y" * MEGABYTE + b"\r\n--x--\r\n"
)
"""What a form in a web page posts."""


def head(path: str, *headers: str, method: str = "GET", host: str = "localhost") -> bytes:
    """The head of a request."""
    lines = [f"{method} {path} HTTP/1.1", f"Host: {host}", *headers, "", ""]
    return "\r\n".join(lines).encode("latin-1")


def read_answer(connection: socket.socket) -> tuple[int, bytes]:
    """The status, and all up to the end of the stream."""
    answer = b""
    while chunk := connection.recv(65_536):
        answer += chunk
    return int(answer.split(b" ", 2)[1]), answer


def reads(connection: socket.socket, text: bytes) -> bool:
    """Read until this text comes; whether it does."""
    answer = b""
    while text not in answer and (chunk := connection.recv(65_536)):
        answer += chunk
    return text in answer


@attrs.define(eq=False)
class Victim:
    """A gateway with its web port."""

    gateway: GatewayProcess
    web: int

    def connect(self, port: int) -> socket.socket:
        return socket.create_connection(("127.0.0.1", port), timeout=20)

    def is_answered(self) -> bool:
        """Whether both ports answer a new connection at this moment."""
        try:
            return self.ask("/healthz")[0] == 200 and bool(telnet(self.gateway.stats_port))
        except OSError:
            return False

    def ask(self, path: str, *headers: str, method: str = "GET", **more: str) -> tuple[int, bytes]:
        """One request on a connection of its own."""
        with self.connect(self.web) as connection:
            request = head(path, "Connection: close", *headers, method=method, **more)
            connection.sendall(request)
            return read_answer(connection)


@pytest.fixture(autouse=True, scope="module")
def enough_files() -> Iterator[None]:
    """The clients are all in this process, which needs a descriptor for each."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def start(make_gateway, section: str, node2dm: str = "", **more) -> Victim:
    """Start a gateway with a web port."""
    web = free_port()
    node2dm = f"web = tcp:{web}:interface=127.0.0.1\n{node2dm}"
    victim = Victim(make_gateway(section, node2dm=node2dm, **more).start(), web)
    wait_until(lambda: victim.ask("/readyz")[0] == 200, "it is ready")
    return victim


@pytest.fixture
def victim(make_gateway, tmp_path) -> Iterator[Victim]:
    """A gateway whose upstream answers at once, signed in."""
    with quick_upstream(tmp_path / "nginx") as section:
        yield start(make_gateway, section)


@pytest.fixture
def quiet(make_gateway) -> Victim:
    """A gateway that has nothing to do."""
    return start(make_gateway, "[c2dm]\n[emulator]\n")


def pipeline(victim: Victim, clients: ExitStack, until: float) -> None:
    """Fifty connections ask as fast as they are read, and never read."""
    paths = ("/stats", "/page.js", "/metrics", "/healthz", "/nothing")
    asked = [head(path) * 2_000 for path in paths]
    connections = [clients.enter_context(victim.connect(victim.web)) for _ in range(50)]
    for connection in connections:
        connection.setblocking(False)
    while time.monotonic() < until:
        for number, connection in enumerate(connections):
            with suppress(BlockingIOError, ConnectionError):
                connection.send(asked[number % len(asked)])
        time.sleep(0.01)


def post_forms(victim: Victim, clients: ExitStack, until: float) -> None:
    """Twenty forms of a megabyte; each is answered although it is sent to its end first."""
    kind = "Content-Type: multipart/form-data; boundary=x"
    request = head("/", kind, f"Content-Length: {len(FORM)}", method="POST") + FORM
    for _ in range(20):
        connection = clients.enter_context(victim.connect(victim.web))
        connection.sendall(request)
        assert read_answer(connection)[0] == 405
    time.sleep(max(0.0, until - time.monotonic()))


def idle_by_telnet(victim: Victim, clients: ExitStack, until: float) -> None:
    """A thousand connections that say nothing; a new one is answered meanwhile."""
    idle(victim, clients, victim.gateway.stats_port, until)


def idle_by_web(victim: Victim, clients: ExitStack, until: float) -> None:
    """The same of the web port."""
    idle(victim, clients, victim.web, until)


def answers_telnet(victim: Victim) -> bool:
    """Whether stats are given now; of those that come in one turn of the reactor some are reset."""
    try:
        return "uptime" in telnet(victim.gateway.stats_port)
    except ConnectionResetError:
        return False


def idle(victim: Victim, clients: ExitStack, port: int, until: float) -> None:
    for _ in range(25):
        # As many at a time as the kernel lets wait to be accepted.
        for _ in range(40):
            clients.enter_context(victim.connect(port))
        wait_until(partial(answers_telnet, victim), "telnet is answered")
        assert victim.ask("/healthz")[0] == 200
    time.sleep(max(0.0, until - time.monotonic()))


def never_read_events(victim: Victim, clients: ExitStack, until: float) -> None:
    """A hundred open streams that nobody reads; a new one gets its place."""
    for _ in range(100):
        connection = clients.enter_context(victim.connect(victim.web))
        connection.sendall(head("/events"))
    time.sleep(max(0.0, until - time.monotonic()))
    newest = clients.enter_context(victim.connect(victim.web))
    newest.sendall(head("/events"))
    assert reads(newest, b"event: now")


ATTACKS = [pipeline, post_forms, idle_by_telnet, idle_by_web, never_read_events]


@pytest.mark.parametrize("attack", ATTACKS)
def test_pushes_go_on_whatever_clients_of_the_views_do(victim, attack):
    """No datagram is dropped, no push lost, and memory stays where it was."""
    with SteadyLoad(victim.gateway, rate=300) as load, ExitStack() as clients:
        attack(victim, clients, time.monotonic() + 2.0)
    assert load.growth < 64 * MEGABYTE
    assert "Traceback" not in victim.gateway.log


@pytest.mark.long
@pytest.mark.parametrize("attack", ATTACKS)
def test_two_thousand_pushes_a_second_go_on_whatever_clients_do(victim, attack):
    """For ten seconds; a minute later memory is back within 16 MB of where it was."""
    with SteadyLoad(victim.gateway, rate=2_000) as load, ExitStack() as clients:
        attack(victim, clients, time.monotonic() + 10.0)
    assert load.growth < 64 * MEGABYTE
    time.sleep(60)
    print(attack.__name__, load.growth, victim.gateway.stats()["messages_sent"])
    assert load.gateway.memory() - load.memory[0] < 16 * MEGABYTE
    assert "Traceback" not in victim.gateway.log


@pytest.mark.parametrize("first", [True, False])
def test_the_stream_that_is_read_stays(quiet, first):
    """It opened before or after a hundred that are not read: some of those make way for others."""
    with ExitStack() as clients:

        def open_stream():
            connection = clients.enter_context(quiet.connect(quiet.web))
            connection.sendall(head("/events"))
            return connection

        reader = open_stream() if first else None
        for _ in range(100):
            open_stream()
        reader = reader or open_stream()
        assert reads(reader, b"event: history")
        for _ in range(7):  # after some events it shows who reads none
            assert reads(reader, b"event: now")
        newer = [open_stream() for _ in range(10)]
        assert all(reads(connection, b"event: now") for connection in newer)
        for _ in range(3):
            assert reads(reader, b"event: now")


def test_sixty_four_telnet_connections_are_served_at_once(quiet):
    """Each is answered while all are open; for a further one just one of them gives way."""
    port = quiet.gateway.stats_port
    with ExitStack() as clients:
        made = [clients.enter_context(quiet.connect(port)) for _ in range(64)]
        for _ in range(2):
            for connection in made:
                connection.sendall(b"version\r\n")
            assert {connection.recv(100)[:11] for connection in made} == {b"node2dm_tw "}
        assert "uptime" in telnet(port)
        answered = 0
        for connection in made:
            with suppress(ConnectionError):
                connection.sendall(b"version\r\n")
                answered += connection.recv(100).startswith(b"node2dm_tw ")
        assert answered == 63


def test_a_client_that_pipelines_and_reads_is_answered_in_order(quiet):
    """One that does what it may."""
    paths = ["/healthz", "/stats", "/nothing", "/page.js", "/readyz", "/healthz"] * 20
    with quiet.connect(quiet.web) as connection:
        asked = b"".join(map(head, paths)) + head("/healthz", "Connection: close")
        connection.sendall(asked)
        _, answer = read_answer(connection)
    statuses = [int(found) for found in re.findall(rb"HTTP/1.1 (\d+)", answer)]
    assert statuses == [200, 200, 404, 200, 200, 200] * 20 + [200]


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("POST", "/", 405), ("GET", "/stats", 413), ("POST", "/v1/push", 403)],
)
def test_a_body_is_not_waited_for(quiet, method, path, status):
    """The answer follows the head; a client that sends its body first gets it too."""
    length = f"Content-Length: {MEGABYTE}"
    for expect in ((), ("Expect: 100-continue",)):
        with quiet.connect(quiet.web) as connection:
            connection.sendall(head(path, length, *expect, method=method))
            assert read_answer(connection)[0] == status
    with quiet.connect(quiet.web) as connection:
        connection.sendall(head(path, length, method=method) + b"x" * MEGABYTE)
        assert read_answer(connection)[0] == status
    with quiet.connect(quiet.web) as connection:
        connection.sendall(head(path, "Transfer-Encoding: chunked", method=method))
        with pytest.raises(ConnectionError):
            connection.sendall((b"10000\r\n" + b"x" * 65_536 + b"\r\n") * 500)


def test_names_that_are_not_ours_and_pages_of_others(quiet):
    """421 names the option; after a reload with it the name is answered."""
    status, answer = quiet.ask("/stats", host="push.example.com:8122")
    assert status == 421
    assert b"web_hosts" in answer
    for host in ("localhost:1", "127.0.0.1", "[::1]:9", "LOCALHOST."):
        assert quiet.ask("/stats", host=host)[0] == 200
    crossing = quiet.ask("/v1/push", "Origin: https://evil.example", method="POST")
    assert (crossing[0], b"other sites" in crossing[1]) == (403, True)
    gateway = quiet.gateway
    gateway.node2dm += "\nweb_hosts = Push.example.com, other"
    gateway.write_config()
    gateway.process.send_signal(signal.SIGHUP)
    wait_until(lambda: "reloaded: [node2dm] web_hosts" in gateway.log, "it is reloaded")
    assert quiet.ask("/stats", host="push.example.com:8122")[0] == 200
    assert "web_hosts = push.example.com, other" in telnet(
        gateway.stats_port, b"config\r\nquit\r\n"
    )


def test_odd_requests_leave_no_trace_in_the_log(quiet):
    """HEAD, any Accept, garbage, heads without an end: no line, and no traceback."""
    before = len(quiet.gateway.log)
    for path in ("/", "/page.js", "/stats", "/metrics", "/healthz", "/readyz", "/nothing"):
        status, answer = quiet.ask(path, method="HEAD")
        assert answer.endswith(b"\r\n\r\n")
        assert status == quiet.ask(path)[0]
    for accept in ("\xff", "application/openmetrics-text;version=x", ";,;", "a/b;q=x"):
        status, answer = quiet.ask("/metrics", f"Accept: {accept}")
        assert (status, b"text/plain" in answer) == (200, True)
    for garbage in (b"\x16\x03\x01\r\n\r\n", b"\xff" * 100_000, b"GET /\r\n\r\n", b"\r\n" * 20_000):
        with quiet.connect(quiet.web) as connection, suppress(ConnectionError):
            connection.sendall(garbage)
            read_answer(connection)
        with quiet.connect(quiet.gateway.stats_port) as connection, suppress(ConnectionError):
            connection.sendall(garbage)
            connection.shutdown(socket.SHUT_WR)
            connection.recv(100)
    assert quiet.gateway.log[before:] == ""


def test_what_an_upstream_says_does_not_act_on_a_terminal(make_gateway):
    """Nor on the order of what is read: telnet shows the characters as what they are."""
    evil = "Bad\x1b[31m\x07\x9b\u202e\u2028Auth"

    def refuse(sent):
        return Answer(f"Error={evil}\n".encode(), 403)

    with upstream(refuse) as google:
        google.script = refuse
        gateway = make_gateway(google.section()).start()
        for command in (b"stats", b"health", b"stats json", b"config"):
            asked = command + b"\r\nquit\r\n"
            wait_until(lambda: "Bad" in telnet(gateway.stats_port, b"stats\nquit\n"), "it is said")
            text = telnet(gateway.stats_port, asked)
            assert all(line.isprintable() for line in text.split("\r\n"))
            if command in (b"stats", b"health"):
                assert r"Bad\x1b[31m\x07\x9b\u202e\u2028Auth" in text
            if command == b"stats json":
                assert json.loads(text)["routes"]["c2dm"]["state_reason"] == evil


def limited(folder, soft: int, hard: int):
    """A twistd whose process may open so many files."""
    script = folder / "twistd"
    real = GatewayProcess.__attrs_attrs__.twistd.default
    script.write_text(f'#!/bin/sh\nulimit -Sn {soft} && ulimit -Hn {hard} && exec {real} "$@"\n')
    script.chmod(0o755)
    return script


def open_files(gateway: GatewayProcess) -> int:
    return len(os.listdir(f"/proc/{gateway.process.pid}/fd"))  # noqa: PTH208


def test_the_soft_limit_on_open_files_is_raised_to_the_hard_one(make_gateway, tmp_path):
    """Without a word, as it is enough."""
    gateway = make_gateway(twistd=limited(tmp_path, 64, 1_000)).start()
    found = resource.prlimit(gateway.process.pid, resource.RLIMIT_NOFILE)
    assert found == (1_000, 1_000)
    assert "open files" not in gateway.log


def test_a_low_limit_on_open_files(make_gateway, tmp_path):
    """A warning names both numbers; pushes are sent, views are answered, nothing runs out."""
    config = "[c2dm]\nmax_in_flight = 200\n[emulator]\n"
    victim = start(make_gateway, config, twistd=limited(tmp_path, 48, 48))
    gateway = victim.gateway
    (line,) = [line for line in gateway.log.splitlines() if "open files" in line]
    assert re.search(r"the limit is 48: \[c2dm\] max_in_flight is \d instead of 200", line)
    with ExitStack() as clients:
        for port in (victim.web, gateway.stats_port) * 20:
            clients.enter_context(victim.connect(port))
        gateway.push(*(b"demo-phone:key:%d" % number for number in range(300)))
        wait_until(victim.is_answered, "both ports answer")
        gateway.wait_for(messages_sent=300)
        assert open_files(gateway) < 48
    assert re.search(r"max_in_flight = \d\r", telnet(gateway.stats_port, b"config\r\nquit\r\n"))
    assert gateway.stats()["network_failures"] == 0
    assert "EMFILE" not in gateway.log
    assert "Traceback" not in gateway.log


def test_clients_of_the_views_leave_descriptors_to_others(make_gateway, tmp_path):
    """Two thousand of them, where a process may open 1,024 files: pushes are sent as ever."""
    config = "[c2dm]\n[emulator]\n"
    victim = start(make_gateway, config, twistd=limited(tmp_path, 1_024, 1_024))
    with ExitStack() as clients:
        for _ in range(25):
            for port in (victim.web, victim.gateway.stats_port) * 40:
                clients.enter_context(victim.connect(port))
            assert open_files(victim.gateway) < 1_024 - 64
        victim.gateway.push(*(b"demo-phone:key:%d" % number for number in range(300)))
        wait_until(victim.is_answered, "both ports answer")
        victim.gateway.wait_for(messages_sent=300)
    assert "Traceback" not in victim.gateway.log


def test_no_descriptor_is_free(make_gateway):
    """Connections are refused, one short line each; what is open goes on, and so do the stats."""
    victim = start(make_gateway, "[c2dm]\n[emulator]\n")
    gateway = victim.gateway
    with victim.connect(gateway.stats_port) as connection:
        connection.sendall(b"version\r\n")
        assert reads(connection, b"node2dm_tw")
        highest = max(int(name) for name in os.listdir(f"/proc/{gateway.process.pid}/fd"))  # noqa: PTH208
        _, hard = resource.prlimit(gateway.process.pid, resource.RLIMIT_NOFILE)
        before = resource.prlimit(gateway.process.pid, resource.RLIMIT_NOFILE, (highest + 1, hard))
        for _ in range(20):
            with victim.connect(victim.web) as refused, suppress(ConnectionError):
                assert refused.recv(1) == b""
        connection.sendall(b"stats\r\n")
        assert reads(connection, b"memory_rss")
        resource.prlimit(gateway.process.pid, resource.RLIMIT_NOFILE, before)
    assert victim.ask("/healthz")[0] == 200
    assert "Traceback" not in gateway.log
