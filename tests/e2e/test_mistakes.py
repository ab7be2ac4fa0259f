"""Typical mistakes of application developers: messages say where, what, and what is expected."""

import http.client
import logging
import socket
from collections.abc import Iterator
from typing import Any

import pytest

from node2dm_tw.cli.push import main
from node2dm_tw.client import PushClient
from tests.support.gateway import GatewayProcess, telnet
from tests.support.ports import free_port
from tests.support.waiting import wait_until


@pytest.fixture(scope="module")
def web() -> int:
    return free_port()


@pytest.fixture(scope="module")
def gateway(web: int, tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    """A gateway with a C2DM and an FCM route, shared by the tests of this module."""
    made = GatewayProcess(
        tmp_path_factory.mktemp("gateway"),
        "[c2dm]\n[fcm]\n[emulator]\n",
        node2dm=f"web = tcp:{web}:interface=127.0.0.1",
    )
    yield made.start()
    made.stop(how=9)


DATAGRAMS = {
    "HTTP to the UDP port": (
        b"POST /v1/push HTTP/1.1\r\nHost: gateway\r\n\r\n{}",
        "http: the datagram is a message of HTTP",
        "expected `token:collapse_key:payload`, or a JSON object on one line",
    ),
    "no collapse key": (b"T::hello", "collapse_key", "C2DM needs one: expected"),
    "no collapse key in JSON": (b'{"token": "T"}', "collapse_key", "C2DM needs one: expected"),
    "unknown route": (b"shop|T:k:hello", "unknown_route", "route must be one of c2dm, fcm, g"),
    "unknown route in JSON": (
        b'{"route": "shop", "token": "T"}', "unknown_route", "route must be one of c2dm, fcm, g"
    ),
    "data of numbers": (
        b'{"token": "T", "collapse_key": "k", "data": {"count": 3}}',
        "field: data.count", "must be a text",
    ),
    "nested data": (
        b'{"token": "T", "collapse_key": "k", "data": {"user": {"id": "3"}}}',
        "field: data.user", "must be a text",
    ),
    "ttl as text": (
        b'{"token": "T", "collapse_key": "k", "ttl": "3600s"}',
        "field: ttl", "must be a whole number of seconds, 0 to 2419200",
    ),
    "unknown priority": (
        b'{"route": "fcm", "token": "T", "priority": "urgent"}',
        "field: priority", "must be normal or high",
    ),
    "token with a blank": (b"my phone:k:hello", "token: the token or fid", "white space"),
    "no target": (b'{"data": "hello"}', "token: token", "must be given, or another target"),
    "pretty-printed JSON": (b'{\n  "token": "T"\n}', "json", "expected one object on one line"),
    "an array": (b'[{"token": "T"}]', "json", "expected one object on one line"),
    "too large": (
        b"T:k:" + b"x" * 1100, "too_large: data", "expected at most 1024 bytes for C2DM"
    ),
    "condition": (
        b'{"route": "fcm", "condition": "news in topics"}',
        "field: condition", "must be 'TOPIC' in topics",
    ),
    "misspelt field": (
        b'{"token": "T", "collapsekey": "k"}', "field: collapsekey", "there is no such field"
    ),
    "FCM's field on a C2DM route": (
        b'{"token": "T", "collapse_key": "k", "notification": {"title": "x"}}',
        "unsupported: notification", "must be left out: C2DM cannot carry it",
    ),
    "C2DM's field on an FCM route": (
        b'{"route": "fcm", "token": "T", "delay_while_idle": true}',
        "unsupported: delay_while_idle", "must be left out: FCM cannot carry it",
    ),
    "a key that FCM reserves": (
        b'{"route": "fcm", "token": "T", "data": {"from": "x"}}',
        "reserved: data.from", "expected a key other than `from`",
    ),
    "a colon too many on an FCM route": (
        b"g|a:b:k:hello", "ambiguous", "expected the JSON form"
    ),
    "Latin-1": (b"T:k:caf\xe9", "utf8", "expected text in UTF-8"),
}  # fmt: skip


@pytest.mark.parametrize("name", DATAGRAMS)
def test_a_datagram(gateway: GatewayProcess, name: str) -> None:
    """The gateway's log names the sender, the reason and field, and what is expected."""
    datagram, *parts = DATAGRAMS[name]
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.connect(("127.0.0.1", gateway.udp))
        place = f"invalid push from 127.0.0.1:{sender.getsockname()[1]} ("

        def find() -> list[str]:
            sender.send(datagram)  # Each reason is logged once a second.
            return [line for line in gateway.log.splitlines() if place in line]

        (line, *_) = wait_until(find, "the datagram is logged")
    for part in parts:
        assert part in line
    assert "hello" not in line


COMMANDS: dict[str, tuple[list[str], int, str]] = {
    "no collapse key": (
        ["T", "hello"], 2, "collapse_key is empty: the route c2dm (C2DM) expects one"
    ),
    "unknown route": (
        ["T", "hello", "--route", "shop"], 2, "route = 'shop': expected one of c2dm, fcm, g"
    ),
    "ttl as text": (
        ["T", "--ttl", "1h"], 2, "argument --ttl: '1h': expected a whole number of seconds"
    ),
    "ttl too long": (
        ["T", "--ttl", "9999999"], 2, "ttl = 9999999: expected a whole number of seconds, 0 to"
    ),
    "unknown priority": (
        ["T", "--priority", "urgent"], 2, "argument --priority: invalid choice: 'urgent'"
    ),
    "token with a blank": (
        ["my phone", "hello"], 2, "token = 'my phone' (' ' at index 2): expected no white space"
    ),
    "topic on a C2DM route": (
        ["--topic", "news", "--collapse-key", "k"], 2, "topic is given: the route c2dm (C2DM)"
    ),
    "notification of a wrong type": (
        ["T", "--route", "fcm", "--notification", '{"title": 3}'],
        2, "notification.title = 3: expected a text",
    ),
    "condition": (
        ["--condition", "news in topics", "--route", "fcm"], 1, "invalid: 1 (field 1)"
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", COMMANDS)
def test_node2dm_push(gateway: GatewayProcess, name: str, capsys: pytest.CaptureFixture) -> None:
    """It ends with a status that is not 0, and one message."""
    arguments, status, message = COMMANDS[name]
    to = ["--port", str(gateway.udp), "--confirm", f"127.0.0.1:{gateway.stats_port}"]
    try:
        ended = main([*arguments, *to])
    except SystemExit as exit_:
        ended = exit_.code
    assert ended == status
    assert message in capsys.readouterr().err


def test_node2dm_push_to_a_wrong_port(
    gateway: GatewayProcess, capsys: pytest.CaptureFixture
) -> None:
    """The port that was given, and the one where the gateway takes pushes."""
    port, stats = free_port(socket.SOCK_DGRAM), f"127.0.0.1:{gateway.stats_port}"
    assert main(["T", "hello", "--port", str(port), "--stats", stats]) == 1
    told = capsys.readouterr().err
    assert f"nobody listens at 127.0.0.1 port {port}" in told
    assert f"expected an address of the gateway's option udp (127.0.0.1:{gateway.udp})" in told


def test_node2dm_push_from_a_file(tmp_path: Any, capsys: pytest.CaptureFixture) -> None:
    """File, line or column, the value, and what is expected."""
    file = tmp_path / "rows.csv"
    file.write_text("token,colapse_key\n")
    assert main(["--from", str(file)]) == 2
    assert f"{file}: unknown columns: 'colapse_key' (known: token, data," in capsys.readouterr().err
    file.write_text("token,collapse_key,ttl\nT,k,soon\nT,k\n")
    assert main(["--from", str(file), "--dry-run"]) == 1
    told = capsys.readouterr().err
    assert "line 2: ttl = 'soon': expected a whole number" in told
    assert "line 3: 2 cells where the header row has 3" in told


CALLS: dict[str, tuple[dict[str, Any], str]] = {
    "no target": ({}, "target = []: expected exactly one of token, fid, topic, condition"),
    "two targets": ({"token": "T", "topic": "t"}, "target = ['token', 'topic']: expected"),
    "token of bytes": ({"token": b"SECRETTOKEN"}, "token = b'SECRETTO'...: expected a text"),
    "token with a line feed": (
        {"token": "SECRETTOKEN\n"}, r"token = 'SECRETTO'... ('\n' at index 11): expected no white"
    ),
    "data of numbers": ({"token": "T", "data": {"count": 3}}, "data.count = 3: expected a text"),
    "nested data": (
        {"token": "T", "data": {"user": {"id": "3"}}}, "data.user = {'id': '3'}: expected a text"
    ),
    "ttl as text": (
        {"token": "T", "ttl": "60"}, "ttl = '60': expected a whole number of seconds, 0 to 2419200"
    ),
    "unknown priority": (
        {"token": "T", "priority": "urgent"}, "priority = 'urgent': expected normal or high"
    ),
    "too large": ({"token": "T", "data": "x" * 70_000}, "has 70003 bytes: expected at most 65507"),
}  # fmt: skip


@pytest.mark.parametrize("name", CALLS)
def test_push_client(gateway: GatewayProcess, name: str, caplog: pytest.LogCaptureFixture) -> None:
    """The warning names the gateway; with `strict` the same text is raised."""
    fields, message = CALLS[name]
    with PushClient(port=gateway.udp) as client, caplog.at_level(logging.WARNING):
        assert not client.push(**fields)
    assert f"pushing to 127.0.0.1 port {gateway.udp} failed" in caplog.text
    assert message in caplog.text
    assert "SECRETTOKEN" not in caplog.text
    with PushClient(port=gateway.udp, strict=True) as client, pytest.raises(ValueError) as raised:  # noqa: PT011
        client.push(**fields)
    assert message in str(raised.value)


def test_push_client_of_a_misspelt_argument(gateway: GatewayProcess) -> None:
    """Python itself names it."""
    misspelt: dict[str, Any] = {"colapse_key": "k"}
    with PushClient(port=gateway.udp) as client, pytest.raises(TypeError, match="colapse_key"):
        client.push("T", "x", **misspelt)


def test_push_client_of_a_wrong_port(caplog: pytest.LogCaptureFixture) -> None:
    """A port that is none is an error at once; one where nobody listens is logged."""
    wrong: Any = "8120"
    with pytest.raises(ValueError, match="port = '8120': expected a whole number between 1 and"):
        PushClient(port=wrong)
    port = free_port(socket.SOCK_DGRAM)
    with PushClient(port=port) as client:
        client.push("T", "x", "k")
        wait_until(lambda: client.push("T", "x", "k") and caplog.text, "it is logged")
    assert f"pushing to 127.0.0.1 port {port} failed" in caplog.text
    assert "the datagram before came back: Connection refused" in caplog.text


def test_ready(gateway: GatewayProcess, web: int) -> None:
    """A bool from a gateway; else an error that names the address, and what is expected."""
    url, vacant = f"http://127.0.0.1:{web}", f"http://127.0.0.1:{free_port()}"
    wait_until(lambda: PushClient.ready(url), "it is ready")
    assert PushClient.ready(f"{url}/readyz?route=fcm", timeout=5)
    for address, message in {
        vacant: f"{vacant}: Connection refused: expected the address of the gateway's `web`",
        f"{url}/nothing": "404 there is nothing here: expected /",
        f"{url}/readyz?route=shop": "there is no such route: expected one of c2dm, fcm",
        f"http://127.0.0.1:{gateway.stats_port}": "400 Invalid command: this is the stats port",
        f"http://gateway.localhost:{web}/": "expected the",
    }.items():
        with pytest.raises(OSError, match="expected") as raised:
            PushClient.ready(address)
        assert str(raised.value).startswith(f"{address}: ")
        assert message in str(raised.value)
    for wrong in (f"127.0.0.1:{web}", "http://", "http://[::1", "http://a:b/", ""):
        with pytest.raises(ValueError, match=r"url = .*: expected http://HOST:PORT"):
            PushClient.ready(wrong)


def ask(web: int, method: str, path: str, **headers: str) -> tuple[int, str]:
    connection = http.client.HTTPConnection("127.0.0.1", web, timeout=60)
    connection.request(method, path, headers=headers)
    answer = connection.getresponse()
    body = answer.read().decode()
    connection.close()
    return answer.status, body


ENDPOINTS = {
    "wrong Host": ("GET", "/stats", {"Host": "push.example"}, 421, "add the name to web_hosts"),
    "a push by GET": ("GET", "/v1/push", {}, 405, "expected POST"),
    "a push without a token": ("POST", "/v1/push", {}, 403, "needs a push_token in the section"),
    "stats by POST": ("POST", "/stats", {}, 405, "expected GET, HEAD"),
    "a body": ("GET", "/stats", {"Content-Length": "3"}, 413, "has a body: expected none"),
    "a wrong path": ("GET", "/status", {}, 404, "expected /, /stats, /metrics, /healthz, /readyz"),
    "an unknown route": ("GET", "/readyz?route=x", {}, 404, "expected one of c2dm, fcm"),
}


@pytest.mark.parametrize("name", ENDPOINTS)
def test_the_web_port(gateway: GatewayProcess, web: int, name: str) -> None:
    """The status is HTTP's, and the body says what is expected."""
    method, path, headers, status, message = ENDPOINTS[name]
    answer = ask(web, method, path, **headers)
    assert answer[0] == status
    assert message in answer[1]


def test_the_stats_port(gateway: GatewayProcess) -> None:
    """Asked by HTTP it answers so that a browser or curl shows where HTTP is answered."""
    answer = telnet(gateway.stats_port, b"GET /stats HTTP/1.1\r\nHost: x\r\nAccept: */*\r\n\r\n")
    assert answer.startswith("HTTP/1.0 400 Bad Request\r\n")
    assert "expected a line such as `stats` or `help`" in answer
    assert "the address of the option `web` in the section [node2dm]" in answer
    assert telnet(gateway.stats_port, b"status\r\nquit\r\n") == "Invalid command\r\n"


def test_a_good_push_still_arrives(gateway: GatewayProcess) -> None:
    """The gateway that met all these mistakes sends as ever."""
    before = gateway.stats()["messages_sent"]
    gateway.push(b"demo-phone:k:x")
    gateway.wait_for(messages_sent=before + 1, messages_in_queue=0)
    assert "Traceback" not in gateway.log
