"""All the views of a process: one second hand, one snapshot."""

import json
from itertools import pairwise

import pytest
from twisted.internet.defer import succeed
from twisted.internet.task import Clock
from twisted.logger import capturedLogs, formatEvent

from node2dm_tw.admin.health import Phase
from node2dm_tw.admin.lines import StatsLines, is_counter
from node2dm_tw.admin.statsd import StatsdFormatter, StatsdSender
from node2dm_tw.admin.views import AdminServices
from node2dm_tw.core.stats import COUNTERS
from tests.unit.admin.http import Connection
from tests.unit.admin.support import FakeGateway, StatsdServer
from tests.unit.admin.transport import connect


class Port:
    """A port that listens to nothing."""

    closed = False

    def stopListening(self):
        self.closed = True


class Endpoint:
    """Remembers the factory; `listen` gives a port."""

    def __init__(self):
        self.port, self.factory = Port(), None

    def listen(self, factory):
        self.factory = factory
        return succeed(self.port)


@pytest.fixture
def statsd():
    with StatsdServer() as server:
        yield server


def statsd_sender(statsd, bench):
    """What sends reports to the server `statsd`."""

    def resolve(host):
        return succeed("127.0.0.1")

    return StatsdSender("h", statsd.port, StatsdFormatter("p"), resolve, bench.clock)


class Bench:
    """The views over a route that does not move."""

    def __init__(self):
        self.clock = Clock()
        self.gateway = FakeGateway(self.clock)
        self.route = self.gateway.add_route("shop")
        self.admin = AdminServices(self.gateway.snapshot, self.clock, lambda: 1_000.0, list)
        self.web = Endpoint()
        self.admin.open_web(self.web)

    def open_page(self):
        return Connection(self.web.factory).get("/events")

    def ready(self):
        return Connection(self.web.factory).get("/readyz").status


def events(connection, name):
    """The data of each event of this name that the page was told."""
    text = b"".join(line for line in connection.body.split(b"\r\n") if not line.isalnum()).decode()
    lines = text.split("\n")
    return [
        json.loads(data.removeprefix("data: "))
        for kind, data in pairwise(lines)
        if kind == f"event: {name}"
    ]


def test_a_page_is_told_everything_every_second():
    """The past when it opens, then each second what is, and a point every other second."""
    bench = Bench()
    bench.admin.start()
    bench.clock.pump([1] * 10)
    page = bench.open_page()
    bench.route.stats.messages_received = bench.route.stats.messages_sent = 8
    bench.clock.pump([1] * 4)
    (history,) = events(page, "history")
    assert len(history[""]) == len(history["shop"]) == 5
    told = events(page, "now")
    assert len(told) == 5
    assert [now["point"] is not None for now in told] == [False, False, True, False, True]
    assert told[2]["point"][""][:3] == [4.0, 4.0, 0.0]
    assert told[-1]["totals"]["messages_sent"] == 8
    assert told[-1]["health"]["worst"] == {"condition": "ready", "text": "ready"}
    assert told[-1]["health"]["conditions"] == {"shop": "ready"}


def test_ready_from_the_start_to_the_drain():
    """And only then."""
    bench = Bench()
    assert bench.ready() == 503
    bench.admin.start()
    assert bench.ready() == 200
    bench.admin.drain()
    assert bench.admin.health.phase is Phase.DRAINING
    assert bench.ready() == 503


def test_every_view_shows_the_same_at_the_same_moment(statsd):
    """Telnet as text and JSON, /stats, the page's events, statsd: numbers that move too."""
    bench = Bench()
    route = bench.route
    bench.gateway.invalid["colons"] += 2
    for number, name in enumerate(COUNTERS):
        setattr(route.stats, name, number)
    route.stats.count_unsent("refused", "MessageTooBig")
    route.values |= {"state": "paused", "state_reason": "503, Retry-After", "backing_off": True}
    route.live = lambda: {
        "pause_left": round(100 - bench.clock.seconds(), 1),
        "oldest_age": round(bench.clock.seconds(), 1),
    }
    telnet = Endpoint()
    bench.admin.open_telnet(telnet)
    bench.admin.open_statsd(statsd_sender(statsd, bench), 7.0)
    bench.admin.start()
    page = bench.open_page()
    bench.clock.pump([1] * 7)

    stats = json.loads(Connection(bench.web.factory).get("/stats").body)
    told = events(page, "now")[-1]
    protocol = connect(telnet.factory)
    protocol.dataReceived(b"stats json\nstats\n")
    bench.clock.pump([0] * 10)
    first, *lines = protocol.transport.value().decode().splitlines()
    by_telnet = json.loads(first)
    for values in (stats, told, by_telnet):
        values["totals"].pop("memory_rss")
    assert by_telnet == stats == {key: told[key] for key in ("totals", "routes")}
    assert stats["routes"]["shop"]["pause_left"] == 93.0
    assert [line for line in lines if "memory_rss" not in line] == StatsLines(**stats).as_text()
    numbers = {
        (f"p.{place}{name}", float(value))
        for place, values in [("", stats["totals"]), ("shop.", stats["routes"]["shop"])]
        for name, value in values.items()
        if not isinstance(value, str) and not (is_counter(name) and not value)
    }
    heard = {
        (name, float(rest.partition("|")[0]))
        for name, _, rest in (line.partition(":") for line in statsd.lines())
        if "memory_rss" not in name
    }
    assert heard == numbers
    assert told["health"]["routes"]["shop"] == "paused 1 min 33 s more: 503, Retry-After"


def test_a_fault_in_a_view_does_not_end_the_others():
    """It is logged, and the next second is looked at again."""
    bench = Bench()
    bench.admin.start()
    page = bench.open_page()
    broken = [ZeroDivisionError("no")]

    def fail_once():
        if broken:
            raise broken.pop()
        return {}

    bench.route.live = fail_once
    with capturedLogs() as logged:
        bench.clock.pump([1] * 3)
    assert [formatEvent(event) for event in logged] == ["a view could not be brought up to date"]
    assert len(events(page, "now")) == 1 + 2


def test_statsd_is_told_at_its_interval_and_at_the_stop(statsd):
    """So that nothing that was counted is missing there."""
    bench = Bench()
    bench.admin.open_statsd(statsd_sender(statsd, bench), 10.0)
    bench.admin.start()
    bench.clock.pump([1] * 9)
    assert statsd.lines() == []
    bench.route.stats.messages_sent = 3
    bench.clock.advance(1)
    lines = statsd.lines()
    assert "p.messages_sent:3|c" in lines
    assert "p.shop.messages_sent:3|c" in lines
    bench.route.stats.messages_sent = 5
    bench.admin.stop()
    assert "p.messages_sent:2|c" in statsd.lines()


def test_a_stop_leaves_nothing():
    """No timer, no page, no port; also where it never began."""
    bench = Bench()
    bench.admin.start()
    page = bench.open_page()
    bench.admin.stop()
    assert page.transport.is_closed
    page.lose()
    assert bench.web.port.closed
    assert bench.clock.getDelayedCalls() == []
    AdminServices(bench.gateway.snapshot, bench.clock, lambda: 0.0, list).stop()


def test_a_statsd_that_was_never_found_is_not_looked_up_at_the_stop():
    """A stop waits for no lookup."""
    bench = Bench()
    looked_up = []
    sender = StatsdSender("h", 1, StatsdFormatter("p"), looked_up.append, bench.clock)
    bench.admin.open_statsd(sender, 10.0)
    bench.admin.stop()
    assert looked_up == []
