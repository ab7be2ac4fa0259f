"""Pushes, and the process that sends them."""

import socket

import pytest

from benchmarks.pushes import SIZE, datagram
from benchmarks.sender import send_evenly
from node2dm_tw.providers.c2dm import C2DM
from node2dm_tw.providers.fcm import FCM
from node2dm_tw.providers.interface import Provider


@pytest.mark.parametrize("provider", [C2DM("https://localhost/send"), FCM("https://localhost")])
def test_every_push_is_of_one_size_and_valid(provider: Provider) -> None:
    """The greatest number and moment take no more room than the least; all services take them."""
    for number, moment in ((0, 0), (999_999_999_999, 9_223_372_036_854_775_807)):
        line = datagram(number, moment)
        assert len(line) == SIZE
        provider.validate(provider.split(line, 0.0))


def test_all_that_is_to_be_sent_arrives_once() -> None:
    """Batches end where they should, whatever the rate makes of them."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver:
        receiver.bind(("127.0.0.1", 0))
        receiver.settimeout(60)
        send_evenly(receiver.getsockname()[1], 100, 50_000, first=7)
        found = [receiver.recv(65_536) for _ in range(100)]
    assert [line[:22] for line in found] == [datagram(7 + i)[:22] for i in range(100)]
