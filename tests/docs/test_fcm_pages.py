"""What docs/fcm.md and docs/rates.md say of FCM and its rates is so."""

import json

import pytest
from twisted.internet.task import Clock

from node2dm_tw.delivery.rates import ProjectRate
from tests.docs.pages import PAGES
from tests.support.waiting import wait_until

FCM, RATES = (page for page in PAGES if page.name in ("docs/fcm.md", "docs/rates.md"))
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


def test_a_route_that_its_rate_limits_looks_as_the_page_says(make_gateway):
    """It is ready, pushes wait, and few requests are in flight."""
    gateway = make_gateway("[fcm]\nproject_rate = 60/m\n[emulator]\n").start()
    gateway.push(*[b"demo-phone:key%d:{}" % number for number in range(50)])
    gateway.wait_for(messages_received=50)
    wait_until(lambda: gateway.stats()["messages_sent"], "the first one goes")
    stats = gateway.stats()
    assert stats["fcm.state"] == "ready"
    assert stats["fcm.messages_in_queue"] > 0
    assert stats["fcm.messages_in_flight"] < stats["fcm.window"]


def test_a_device_over_its_rate_looks_as_the_page_says(make_gateway):
    """Twenty pushes sleep; for the others the log has the line of the page."""
    gateway = make_gateway("[fcm]\ndevice_rate = 6/h\ndevice_burst = 2\n[emulator]\n").start()
    gateway.push(*[b"demo-phone:key%d:{}" % number for number in range(30)])
    gateway.wait_for(messages_sent=2, messages_waiting=20, messages_overflowed=8)
    (shown,) = (block.text for block in RATES.blocks if block.language == "log")
    assert shown.partition("...")[2].strip(": \n") in gateway.log


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
            rate.available -= 1
            sent += 1
        clock.advance(0.01)
    assert sent == pytest.approx(said, rel=0.05)


def test_the_first_push_of_a_low_rate_waits_as_the_page_says():
    """Three and a half seconds."""
    assert ProjectRate((600, 60.0), Clock().seconds).wait() == pytest.approx(3.5, abs=0.05)
