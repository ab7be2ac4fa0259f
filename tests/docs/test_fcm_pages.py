"""What docs/fcm.md and docs/rates.md say of FCM and its rates is so."""

import json

import pytest
from twisted.internet.task import Clock

from node2dm_tw.delivery.rates import ProjectRate
from tests.docs.pages import PAGES

(FCM,) = (page for page in PAGES if page.name == "docs/fcm.md")
PUSHES = [
    line
    for block in FCM.blocks
    if block.language == "json"
    for line in block.text.splitlines()
    if "token" in json.loads(line) or "topic" in line
]


def test_each_push_of_the_page_is_accepted(make_gateway):
    """By the emulator, which holds FCM's rules."""
    gateway = make_gateway("[fcm]\n[emulator]\nphones = demo-fcm-phone\n").start()
    assert len(PUSHES) >= 4
    gateway.push(*(line.encode() for line in PUSHES))
    gateway.wait_for(messages_received=len(PUSHES), messages_sent=len(PUSHES), messages_in_queue=0)


@pytest.mark.parametrize(
    ("limit", "seconds", "said"),
    [((600_000, 60.0), 1.0, 80), ((600_000, 60.0), 10.0, 8_200), ((600_000, 60.0), 60.0, 295_000)],
)
def test_the_ramp_up_is_as_the_page_says(limit, seconds, said):
    """Pushes that leave after a start, within five percent."""
    clock = Clock()
    rate = ProjectRate(limit, clock.seconds)
    sent = 0
    while clock.seconds() < seconds:
        while not rate.wait():
            rate.consume()
            sent += 1
        clock.advance(0.01)
    assert sent == pytest.approx(said, rel=0.05)


def test_the_first_push_of_a_low_rate_waits_as_the_page_says():
    """Three and a half seconds."""
    assert ProjectRate((600, 60.0), Clock().seconds).wait() == pytest.approx(3.5, abs=0.05)
