"""A real gateway says which limit dropped a push: in its log and on its page."""

import json
import re
import time
import urllib.request

from tests.support.ports import free_port
from tests.support.waiting import wait_until


def errors_on_page(port: int) -> list[dict]:
    """The recent errors of route fcm, as the status page gets them."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/events", timeout=10) as events:
        while line := events.readline():
            if line.startswith(b"data:") and b'"errors"' in line:
                return find_errors(json.loads(line[5:]))
    raise AssertionError("no event has the recent errors")


def find_errors(value: object) -> list[dict]:
    if isinstance(value, dict):
        if "errors" in value:
            return value["errors"]
        value = list(value.values())
    if isinstance(value, list):
        for each in value:
            found = find_errors(each)
            if found:
                return found
    return []


def test_a_burst_to_one_device_overflows_with_a_word(make_gateway):
    """300 pushes at 60 a second: the log names the limit, the page has the number."""
    web = free_port()
    gateway = make_gateway("[fcm]\n[emulator]\n", node2dm=f"web = tcp:{web}:interface=127.0.0.1")
    gateway.start()
    wait_until(lambda: gateway.stats()["fcm.signed_in"] == "true", "signed in")
    for number in range(300):
        gateway.push(b"demo-phone:k%d:{}" % number)
        time.sleep(1 / 60)
    stats = gateway.wait_for(messages_received=300)
    overflowed = stats["messages_overflowed"]
    assert overflowed > 100
    lines = re.findall(r"fcm: push to demo-phone: overflowed: (.+)", gateway.log)
    assert 2 <= len(lines) <= 15
    limit = "over device_rate, and 20 pushes for the device sleep already"
    assert all(re.match(limit + r"( \(\d+ more like it|$)", line) for line in lines)
    (error,) = errors_on_page(web)
    assert (error["kind"], error["count"]) == ("overflowed", overflowed)
