"""The main job: a datagram reaches a phone."""

import json
import signal
import socket
import subprocess
import time

import pytest

from tests.support.gateway import NODE2DM_LINES
from tests.support.tools import tool


def received(log: str) -> list[tuple[str, str]]:
    """What the demo phone logged: collapse keys and payloads."""
    lines = [
        line.split(" phone demo-phone received ", 1)[1]
        for line in log.split("\n")
        if "phone demo-phone received" in line
    ]
    parts = [line.removeprefix("collapse_key=").split(" data=", 1) for line in lines]
    return [(key, json.loads(data)["data"]) for key, data in parts]


def test_a_datagram_by_nc_reaches_the_phone_and_telnet_tells_of_it(make_gateway):
    """The README's two commands do what it says, and `nc` returns by itself."""
    tool("nc")
    gateway = make_gateway().start()
    push = """printf 'demo-phone:greeting:{"hello":"world"}' | nc -u -w1 127.0.0.1 %d"""
    subprocess.run(["sh", "-c", push % gateway.udp], check=True, timeout=60)
    gateway.wait_for(messages_sent=1)
    assert received(gateway.log) == [("greeting", '{"hello":"world"}')]
    stats = f"echo stats | nc localhost {gateway.stats_port}"
    answer = subprocess.run(
        ["sh", "-c", stats], check=True, timeout=60, capture_output=True, text=True
    )
    names = [line.split(":")[0] for line in answer.stdout.splitlines()]
    assert names[: len(NODE2DM_LINES)] == NODE2DM_LINES
    assert "messages_sent: 1\n" in answer.stdout
    assert gateway.stop() in (0, -signal.SIGTERM)
    assert "Traceback" not in gateway.log


PAYLOADS = [
    "",
    "a",
    '{"text": "größer 😀 \\u2028"}',
    "a:b:c::",
    "a=b&c=d+e %41 %%",
    "cr\rcr",
    "\u2028\u2029\x85\x0b\x0c",
    "\x00\x01\x7f",
    " leading and trailing ",
    "|{}[]\"'\\",
    "😀" * 200,
]


def test_any_payload_arrives_byte_for_byte(make_gateway):
    """Whatever UTF-8 without LF a payload is made of, the phone shows the same."""
    gateway = make_gateway().start()
    gateway.push(*(f"demo-phone:key{n}:{text}".encode() for n, text in enumerate(PAYLOADS)))
    gateway.wait_for(messages_sent=len(PAYLOADS))
    expected = {f"key{n}": text for n, text in enumerate(PAYLOADS)}
    assert dict(received(gateway.log)) == expected


NO_PUSHES = {
    b"no colon": "colons",
    b"one:colon": "colons",
    b":key:payload": "token",
    b"token::payload": "collapse_key",
    b"token:key:\xff\xfe": "utf8",
    b"": "empty",
    b"\n\n": "empty",
    b"nowhere|token:key:payload": "unknown_route",
}


def test_bytes_that_are_no_push_are_counted_and_harm_nothing(make_gateway):
    """Each fault has its reason, which the log names once a second, and sending goes on."""
    gateway = make_gateway().start()
    noise = bytes(range(256)) * 256
    began = time.monotonic()
    gateway.push(*NO_PUSHES, noise[:65_507].replace(b"\n", b"\0"), *[b"no colon"] * 500)
    gateway.push(b"demo-phone:key:payload")
    stats = gateway.wait_for(messages_sent=1, messages_invalid=len(NO_PUSHES) + 501)
    assert stats["messages_received"] == 1
    for reason in NO_PUSHES.values():
        assert stats[f"messages_invalid.{reason}"] >= 1
    logged = gateway.log.count("invalid push from 127.0.0.1:")
    assert len(set(NO_PUSHES.values())) <= logged
    assert logged <= len(NO_PUSHES) + 2 + time.monotonic() - began


def test_20000_pushes_that_begin_before_the_sign_in_all_arrive(make_gateway):
    """Pushes wait for the sign-in; at 2,000 a second none is lost (node2dm lost 72 %)."""
    gateway = make_gateway().start(wait=False)
    total, rate = 20_000, 2_000
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.connect(("127.0.0.1", gateway.udp))
        _send_when_bound(sender, b"demo-phone:key:0")
        began = time.monotonic()
        for number in range(1, total):
            sender.send(b"demo-phone:key:%d" % number)
            if number % 20 == 0:
                time.sleep(max(0.0, began + number / rate - time.monotonic()))
            if number % 2_000 == 0:
                gateway.stats()
    gateway.wait_for(seconds=90, messages_sent=total)
    payloads = [int(payload) for _, payload in received(gateway.log)]
    assert sorted(payloads) == list(range(total))


def _send_when_bound(sender: socket.socket, datagram: bytes) -> None:
    """Send the moment the port is open; a closed one is refused on the next call."""
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        try:
            sender.send(datagram)
            sender.send(b"")
        except ConnectionRefusedError:
            time.sleep(0.002)
        else:
            return
    pytest.fail("the UDP port never opened")
