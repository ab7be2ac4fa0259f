"""What the page costs the gateway, and what it must never show."""

import time

import pytest
from twisted.internet.task import Clock

from node2dm_tw.admin.history import POINTS
from node2dm_tw.admin.views import AdminServices
from tests.unit.admin.http import Connection
from tests.unit.admin.support import FakeGateway
from tests.unit.admin.test_views import Endpoint

ROUTES = 20
ERRORS = 10_000


class Bench:
    """Many routes with all that they may show, and an open page."""

    def __init__(self):
        self.clock = Clock()
        self.gateway = FakeGateway(self.clock)
        self.recent_errors = [self.make_route(f"route{n}") for n in range(ROUTES)]
        self.admin = AdminServices(self.gateway.snapshot, self.clock, time.time, list)
        self.web = Endpoint()
        self.admin.open_web(self.web)
        self.admin.start()
        for _ in range(POINTS):
            self.clock.advance(2)
        self.page = Connection(self.web.factory).get("/events")

    def make_route(self, name):
        route = self.gateway.add_route(name)
        for number in range(2_000):
            route.blocked.block(self.token(number), 3_600.0)
        return route.recent_errors

    @staticmethod
    def token(number):
        return b"APA91b%06d" % number + b"t" * 140

    def a_second(self):
        """Ten thousand errors, and what the views do about them; the CPU time that took."""
        tokens = [self.token(n) for n in range(ERRORS)]
        reasons = [f"reason {n % 40}" for n in range(ERRORS)]
        begin = time.process_time()
        for number in range(ERRORS):
            errors = self.recent_errors[number % ROUTES]
            errors.record("refused", reasons[number], tokens[number], number / 10)
        self.clock.advance(1)
        return time.process_time() - begin


@pytest.mark.long
def test_twenty_routes_and_ten_thousand_errors_a_second():
    """The page takes less than a hundredth of a core, and no token is whole in it."""
    bench = Bench()
    cost = min(bench.a_second() for _ in range(20))
    assert cost < 0.01
    told = bench.page.transport.value()
    assert told.count(b"event: now") == 21
    assert b"APA91b" in told
    assert b"tttttttt" not in told
    bench.admin.stop()
