"""A real gateway that reads only signed datagrams."""

import hmac
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from node2dm_tw.client import Push, PushClient
from tests.e2e.test_reload import reload
from tests.support.gateway import GatewayProcess
from tests.support.ports import free_port

KEY, OTHER = b"the key of this test", b"another key of this test"


def sign(rest: bytes, seconds: int | None = None, key: bytes = KEY) -> bytes:
    text = b"%d" % (time.time() if seconds is None else seconds)
    signature = hmac.new(key, text + b"\n" + rest, "sha256").hexdigest().encode()
    return b"#v1 " + text + b" " + signature + b"\n" + rest


def test_only_what_is_signed_is_read(make_gateway: Callable[..., GatewayProcess]) -> None:
    """Each other datagram is invalid once, with its reason in the stats and in the log."""
    node2dm = f"datagram_key = {KEY.decode()}"
    gateway = make_gateway(node2dm=node2dm).start()
    now = int(time.time())
    good = sign(b"demo-phone:1:x\ndemo-phone:2:x\n\ndemo-phone:3:x")
    gateway.push(
        good,
        b"demo-phone:4:x\ndemo-phone:5:x",
        sign(b"demo-phone:6:x\ndemo-phone:7:x", key=OTHER),
        sign(b"demo-phone:8:x", now - 90),
        sign(b"demo-phone:9:x", now + 90),
        good,
        sign(b"demo-phone:10:x", now - 50),
        sign(b"demo-phone:11:x", now + 50),
    )
    stats = gateway.wait_for(messages_sent=5, messages_invalid=5)
    for reason, count in {"unsigned": 1, "signature": 1, "stale": 2, "replayed": 1}.items():
        assert stats[f"messages_invalid.{reason}"] == count
        assert f"{reason}: " in gateway.log
    assert KEY.decode() not in gateway.log


def test_signatures_are_introduced_and_changed_without_a_restart(
    make_gateway: Callable[..., GatewayProcess],
) -> None:
    """First the senders, then the gateway; nothing is lost on the way."""
    gateway = make_gateway().start()
    with PushClient(port=gateway.udp, key=KEY) as old, PushClient(port=gateway.udp) as unsigned:
        old.push_many([Push("demo-phone", "x", "1"), Push("demo-phone", "x", "2")])
        unsigned.push("demo-phone", "x", "3")
        gateway.wait_for(messages_sent=3)
        gateway.node2dm = f"datagram_key = {KEY.decode()}"
        reload(gateway, "reloaded: [node2dm] datagram_key")
        old.push("demo-phone", "x", "4")
        unsigned.push("demo-phone", "x", "5")
        gateway.wait_for(messages_sent=4, **{"messages_invalid.unsigned": 1})
        gateway.node2dm = f"datagram_key = {OTHER.decode()}"
        reload(gateway, "reloaded: [node2dm] datagram_key")
        old.push("demo-phone", "x", "6")
        with PushClient(port=gateway.udp, key=OTHER) as new:
            new.push("demo-phone", "x", "7")
        gateway.wait_for(messages_sent=5, **{"messages_invalid.signature": 1})


def test_a_replay_is_known_at_every_address(make_gateway: Callable[..., GatewayProcess]) -> None:
    """The addresses of one process share what they remember; a restart forgets it."""
    second = free_port(socket.SOCK_DGRAM)
    gateway = make_gateway(
        node2dm=f"datagram_key = {KEY.decode()}", more_udp=f", 127.0.0.1:{second}"
    ).start()
    datagram = sign(b"demo-phone:1:x", int(time.time()) + 30)
    gateway.push(datagram)
    gateway.wait_for(messages_sent=1)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.sendto(datagram, ("127.0.0.1", second))
    gateway.wait_for(messages_sent=1, **{"messages_invalid.replayed": 1})
    gateway.stop()
    gateway.start()
    gateway.push(datagram)
    gateway.wait_for(messages_sent=1)


def test_many_signed_pushes_of_the_command(
    make_gateway: Callable[..., GatewayProcess], tmp_path: Path
) -> None:
    """Equal rows too: none of them is taken for a replay."""
    gateway = make_gateway(node2dm=f"datagram_key = {KEY.decode()}").start()
    (tmp_path / "key").write_bytes(KEY + b"\n")
    rows = "token,collapse_key,data\n" + "demo-phone,k,x\n" * 200
    command = [sys.executable, "-m", "node2dm_tw.cli.push", "--from", "-", "--key-file"]
    port = ["--port", str(gateway.udp), "--confirm", f"127.0.0.1:{gateway.stats_port}"]
    subprocess.run(
        [*command, str(tmp_path / "key"), *port], input=rows.encode(), check=True, timeout=60
    )
    stats = gateway.wait_for(messages_received=200)
    assert stats["messages_invalid"] == 0


def test_a_key_that_is_too_short(make_gateway: Callable[..., GatewayProcess]) -> None:
    """The start fails with one line that says what is expected, and not the key."""
    ended = make_gateway(node2dm="datagram_key = short").run("-n")
    assert ended.returncode == 1
    assert "[node2dm] datagram_key: expected at least 16 bytes, such as" in ended.stderr
    assert "short" not in ended.stderr
