"""`queue = sqlite` and kill -9: what was acknowledged is delivered, and little of it twice."""

import json
import random
import re
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection, HTTPException
from itertools import count, islice

import attrs
import pytest

from tests.e2e.judges import Judge, emulator_judge, nginx_judge
from tests.support.gateway import GatewayProcess, as_numbers, telnet
from tests.support.ports import free_port
from tests.support.queue_database import read_lines
from tests.support.waiting import PATIENCE, wait_until

IN_FLIGHT = 64
NOT_YET_REMOVED = 1_000
"""Pushes that have ended, and whose rows are removed with one of the next two commits."""

LINES_PER_DATAGRAM = 10
FILLER = b"x" * 100
NUMBER = re.compile(rb'(?::key:|"data":")([0-9]+) x')

TOKEN = "a-token-of-32-characters-for-test"


@attrs.define(eq=False)
class Load:
    """Pushes with numbers as payload, by UDP and by HTTP, until the gateway is gone.

    Args:
        web: port of the gateway's HTTP intake.
        numbers: the next ones.
        ahead: number of pushes by UDP that may wait for their acknowledgement.
        batch: number of pushes of each HTTP request.

    Attributes:
        counted: number of pushes by UDP that were acknowledged.
        by_udp: the pushes that `messages_received` has counted: those of one sender come in their
            order.
        by_http: the pushes that were accepted with 202.
    """

    gateway: GatewayProcess
    web: int
    device: str
    numbers: Iterator[int]
    ahead: int
    batch: int
    counted: int = 0
    by_udp: set[int] = attrs.field(factory=set)
    by_http: set[int] = attrs.field(factory=set)

    def run(self) -> None:
        with ThreadPoolExecutor() as pool:
            for done in [pool.submit(self._push_by_udp), pool.submit(self._push_by_http)]:
                done.result()

    @property
    def _is_running(self) -> bool:
        assert self.gateway.process is not None
        return self.gateway.process.poll() is None

    def _push_by_udp(self) -> None:
        sent: list[int] = []
        while self._is_running:
            while len(sent) - self.counted < self.ahead and self._is_running:
                burst = list(islice(self.numbers, LINES_PER_DATAGRAM))
                lines = (b"%b:key:%d %b" % (self.device.encode(), n, FILLER) for n in burst)
                self.gateway.push(b"\n".join(lines))
                sent += burst
            try:
                stats = as_numbers(telnet(self.gateway.stats_port))
            except OSError:
                continue
            # Of the route that the pushes by UDP go to; those by HTTP name the other one.
            self.counted = stats.get("udp.messages_received", self.counted)
        self.by_udp |= set(sent[: self.counted])

    def _push_by_http(self) -> None:
        connection = HTTPConnection("127.0.0.1", self.web, timeout=PATIENCE)
        headers = {"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json"}
        while self._is_running:
            batch = list(islice(self.numbers, self.batch))
            pushes = [
                {"route": "http", "token": self.device, "collapse_key": "key", "data": f"{n} x"}
                for n in batch
            ]
            try:
                connection.request("POST", "/v1/push", json.dumps(pushes), headers)
                answer = connection.getresponse()
                answer.read()
            except (OSError, HTTPException):
                connection.close()
                continue
            assert answer.status in (202, 503)
            if answer.status == 202:
                self.by_http |= set(batch)
        connection.close()


def kill_under_load(gateway: GatewayProcess, load: Load, total: int, seconds: float) -> None:
    """Push, and kill the gateway in the middle of it.

    Args:
        total: number of pushes that are acknowledged before; 0: it may be starting still.
        seconds: how long to wait then.
    """
    gateway.start(wait=total > 0)
    process = gateway.process
    assert process is not None

    def kill() -> None:
        try:
            wait_until(lambda: load.counted + len(load.by_http) >= total, "the load", 600)
            time.sleep(seconds)
        finally:
            process.kill()

    with ThreadPoolExecutor() as pool:
        killed = pool.submit(kill)
        load.run()
        killed.result()
    gateway.stop(signal.SIGKILL)


def wait_for_quiet(judge: Judge) -> None:
    """Wait until the upstream has logged what was on its way when the gateway was killed."""
    before = -1
    while before != (now := judge.delivered().total()):
        before = now
        time.sleep(0.3)


def kill_again_and_again(
    make_gateway: Callable[..., GatewayProcess],
    judge: Judge,
    kills: int,
    total: int,
    **load_options: int,
) -> None:
    """Check after each kill what will be sent twice, and at the end what was."""
    chance = random.Random()
    web = free_port()
    gateway = make_gateway(
        judge.section("udp") + judge.section("http"),
        node2dm="queue = sqlite\nmax_queued = 10000000\ndrain = 0\n"
        f"web = tcp:{web}:interface=127.0.0.1\npush_token = {TOKEN}",
    )
    numbers, acknowledged, to_repeat = count(), [set(), set()], 0
    stored: set[int] = set()
    for number in range(kills):
        before = judge.delivered()
        load = Load(gateway, web, judge.device, numbers, **load_options)
        if number % 3 == 2:  # while it starts, or soon after
            kill_under_load(gateway, load, 0, chance.uniform(0.5, 2.5))
        else:
            share = round(total / kills * chance.uniform(1.5, 1.7))
            kill_under_load(gateway, load, share, chance.uniform(0.0, 0.5))
        acknowledged[0] |= load.by_udp
        acknowledged[1] |= load.by_http
        wait_for_quiet(judge)
        after = judge.delivered()
        lines = read_lines(gateway.folder / "state", gateway.folder / "copy")
        stored = {int(NUMBER.findall(line)[0]) for line in lines}
        ended = {push for push in stored if after[push] > before[push]}
        to_repeat += len(ended)
        print(
            f"kill {number + 1}: acknowledged {len(load.by_udp)} by UDP and {len(load.by_http)}"
            f" by HTTP; {len(stored)} are stored, of which {len(ended)} were just delivered"
        )
        assert len(ended) <= 2 * IN_FLIGHT + NOT_YET_REMOVED
    gateway.start()
    gateway.wait_for(1200, messages_taken_over=len(stored), messages_in_queue=0)
    assert gateway.stop() == 0
    delivered = judge.delivered()
    twice = delivered.total() - len(delivered)
    print(f"acknowledged {len(acknowledged[0])} by UDP and {len(acknowledged[1])} by HTTP")
    print(f"{twice} were sent twice, of {to_repeat} that could be")
    assert all(acknowledged)
    assert sum(map(len, acknowledged)) >= total
    assert acknowledged[0] - delivered.keys() == set()
    assert acknowledged[1] - delivered.keys() == set()
    assert twice <= to_repeat


def test_kill_9_under_load(make_gateway, tmp_path):
    """A few times; the emulator's log is the judge."""
    with emulator_judge(tmp_path / "google") as judge:
        kill_again_and_again(make_gateway, judge, 4, 2_000, ahead=200, batch=20)


@pytest.mark.long
def test_kill_9_twenty_times_under_a_million_pushes(make_gateway, tmp_path):
    """The log of nginx is the judge."""
    with nginx_judge(tmp_path / "nginx") as judge:
        kill_again_and_again(make_gateway, judge, 20, 1_000_000, ahead=5_000, batch=200)
