"""node2dm-push and a real gateway: what it checks before sending, and confirms afterwards."""

import re
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from node2dm_tw.cli.gateway import GatewayError, GatewayRoutes, read_totals
from node2dm_tw.cli.push import main
from tests.support.gateway import GatewayProcess
from tests.support.ports import free_port

ROOT = Path(__file__).parents[2]
CONFIG = "[c2dm]\n[fcm]\n[fcm:shop]\nprefix = s\n[emulator]\n"


@pytest.fixture
def web() -> int:
    return free_port()


@pytest.fixture
def gateway(make_gateway: Callable[..., GatewayProcess], web: int) -> Iterator[GatewayProcess]:
    return make_gateway(CONFIG, node2dm=f"web = tcp:{web}:interface=127.0.0.1").start()


def at(gateway: GatewayProcess, *, confirm: bool = False) -> list[str]:
    """The options for a gateway whose stats port is not the usual one."""
    stats = f"127.0.0.1:{gateway.stats_port}"
    more = ["--confirm", stats] if confirm else ["--stats", stats]
    return ["--port", str(gateway.udp), *more]


def test_its_routes_are_read(gateway: GatewayProcess) -> None:
    """Names, prefixes, services and UDP addresses, as the gateway has them."""
    routes = GatewayRoutes.ask(f"127.0.0.1:{gateway.stats_port}")
    assert routes == GatewayRoutes(
        (f"127.0.0.1:{gateway.udp}",),
        {"c2dm": "c2dm", "fcm": "fcm", "shop": "fcm"},
        {"g": "fcm", "s": "shop"},
    )
    assert routes.find("") == "c2dm"
    assert routes.find("s") == "shop"
    assert routes.has_port(gateway.udp)


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["demo-phone", "x"], "collapse_key is empty: the route c2dm (C2DM) expects one"),
        (["T", "x", "--route", "nope"], "route = 'nope': expected one of c2dm, fcm, shop, g, s"),
        (["T", "--collapse-key", "k", "--priority", "high"], "priority is given: the route c2dm"),
        (["--topic", "news", "--collapse-key", "k"], "topic is given: the route c2dm (C2DM)"),
        (["T", "--collapse-key", "k", "--apns", "{}"], "apns is given: the route c2dm (C2DM)"),
        (["T", "--collapse-key", "k", "--validate-only"], "validate_only is given: the route c2dm"),
        (["T", "x", "--route", "s", "--delay-while-idle"], "delay_while_idle is given: the route"),
        (["T", "x", "--route", "s", "--ttl", "x"], "argument --ttl: 'x': expected a whole number"),
    ],
)
def test_a_push_it_would_not_take_is_not_sent(
    gateway: GatewayProcess, arguments: list[str], reason: str, capsys: pytest.CaptureFixture
) -> None:
    """Status 2 and one line that names the field; nothing reaches the gateway."""
    with pytest.raises(SystemExit) as ended:
        main([*arguments, *at(gateway)])
    assert ended.value.code == 2
    assert reason in capsys.readouterr().err
    gateway.push(b"demo-phone:k:x")
    stats = gateway.wait_for(messages_sent=1, messages_in_queue=0)
    assert (stats["messages_received"], stats["messages_invalid"]) == (1, 0)


def test_rows_it_would_not_take_are_skipped(
    gateway: GatewayProcess, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    """A row is checked against its own route; the others are sent and confirmed."""
    file = tmp_path / "rows.csv"
    file.write_text(
        "token,collapse_key,data,route\ndemo-phone,k,x,\ndemo-phone,,x,\nT,,x,g\nT,,x,no\n"
    )
    assert main(["--from", str(file), *at(gateway, confirm=True)]) == 1
    told = capsys.readouterr().err
    assert "line 3: collapse_key is empty" in told
    assert "line 5: route = 'no': expected one of c2dm, fcm, shop, g, s" in told
    assert "sent: 2 (datagrams: 1), faulty: 2, not sent: 0" in told
    gateway.wait_for(messages_received=2, messages_in_queue=0)


def test_another_gateway_is_not_asked(
    gateway: GatewayProcess, make_gateway: Callable[..., GatewayProcess]
) -> None:
    """Where the stats are of a gateway with another UDP port, its routes say nothing."""
    other = make_gateway("[fcm]\n[emulator]\n").start()
    stats = f"127.0.0.1:{gateway.stats_port}"
    assert main(["T", "x", "--port", str(other.udp), "--stats", stats]) == 0
    other.wait_for(messages_received=1, messages_in_queue=0)


def test_confirmed(gateway: GatewayProcess, web: int, capsys: pytest.CaptureFixture) -> None:
    """Pushes that were received as valid: status 0, by telnet and by HTTP, without a word."""
    push = ["demo-phone", "x", "--collapse-key", "k", "--port", str(gateway.udp)]
    for address in (f"127.0.0.1:{gateway.stats_port}", f"http://127.0.0.1:{web}/"):
        assert main([*push, "--confirm", address]) == 0
    assert (
        main(["--topic", "t", "--route", "s", "--notification", "A:B", *at(gateway, confirm=True)])
        == 0
    )
    assert capsys.readouterr().err == ""
    gateway.wait_for(messages_received=3, messages_sent=3)


@pytest.mark.parametrize("kind", ["telnet", "web"])
def test_invalid_pushes_are_found(
    gateway: GatewayProcess, web: int, kind: str, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    """What only the gateway can tell is status 1, with the number of each reason."""
    file = tmp_path / "rows.jsonl"
    file.write_text(
        '{"topic": "a b"}\n{"condition": "x"}\n'
        '{"token": "T", "data": {"from": "x"}}\n{"token": "T"}\n'
    )
    address = f"127.0.0.1:{gateway.stats_port}" if kind == "telnet" else f"http://127.0.0.1:{web}"
    to = ["--port", str(gateway.udp), "--route", "fcm", "--confirm", address]
    assert main(["--from", str(file), *to]) == 1
    told = capsys.readouterr().err
    assert "invalid: 3 (field 2, reserved 1); the gateway's log names the fields" in told
    assert gateway.stats()["messages_received"] == 1


def test_pushes_that_do_not_arrive_are_found(
    gateway: GatewayProcess, capsys: pytest.CaptureFixture
) -> None:
    """Whoever else takes them, the gateway that confirms has not received them."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as elsewhere:
        elsewhere.bind(("127.0.0.1", 0))
        port = str(elsewhere.getsockname()[1])
        confirm = f"127.0.0.1:{gateway.stats_port}"
        assert main(["T", "x", "--port", port, "--confirm", confirm]) == 1
    assert "not arrived after 5 s: 1 (" in capsys.readouterr().err


def test_what_cannot_confirm_sends_nothing(
    gateway: GatewayProcess, web: int, capsys: pytest.CaptureFixture
) -> None:
    """A wrong address for --confirm is status 2, and names what is expected."""
    push = ["demo-phone", "x", "--collapse-key", "k", "--port", str(gateway.udp)]
    vacant = free_port()
    for address, reason in {
        f"127.0.0.1:{vacant}": "Connection refused: expected HOST:PORT of the gateway's `stats`",
        f"http://127.0.0.1:{vacant}": "Connection refused: expected http://HOST:PORT",
        f"http://127.0.0.1:{gateway.stats_port}": "expected http://HOST:PORT",
        f"http://gateway.localhost:{web}": "expected http://HOST:PORT",
        "8121": "8121: expected HOST:PORT",
        "http://[": "expected http://HOST:PORT",
    }.items():
        with pytest.raises(SystemExit) as ended:
            main([*push, "--confirm", address])
        assert ended.value.code == 2
        told = capsys.readouterr().err
        assert f"--confirm {address}" in told
        assert reason in told
    assert gateway.stats()["messages_received"] == 0


def test_a_stats_port_that_does_not_answer_is_said(
    gateway: GatewayProcess, capsys: pytest.CaptureFixture
) -> None:
    """The push is sent all the same."""
    push = ["demo-phone", "x", "--collapse-key", "k", "--port", str(gateway.udp)]
    assert main([*push, "--stats", f"127.0.0.1:{free_port()}"]) == 0
    assert "routes are not checked" in capsys.readouterr().err
    gateway.wait_for(messages_sent=1)


def test_the_documented_commands(gateway: GatewayProcess, web: int) -> None:
    """Each command of the page ends with status 0, and what they push is valid."""
    page = (ROOT / "docs/application-servers.md").read_text(encoding="utf-8")
    commands = re.findall(r"^```sh\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)[0]
    program = f"{sys.executable} -m node2dm_tw.cli.push --port {gateway.udp}"
    stats = f"127.0.0.1:{gateway.stats_port}"
    commands = commands.replace("8122", str(web))
    commands = commands.replace("node2dm-push", f"{program} --stats {stats}")
    (gateway.folder / "devices.csv").write_text("token,collapse_key\ndemo-phone,k\n")
    subprocess.run(["bash", "-euo", "pipefail", "-c", commands], cwd=gateway.folder, check=True)
    stats_now = gateway.wait_for(messages_received=5, messages_in_queue=0)
    assert stats_now["messages_invalid"] == 0


def test_what_is_not_a_gateway(gateway: GatewayProcess) -> None:
    """Whatever answers there, the error names the address and what is expected."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        server.settimeout(60)
        with pytest.raises(GatewayError, match=f"{address}: timed out: expected HOST:PORT"):
            read_totals(address)
