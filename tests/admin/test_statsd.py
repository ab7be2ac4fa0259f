"""The snapshot to statsd."""

from itertools import pairwise

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.error import DNSLookupError
from twisted.internet.task import Clock
from twisted.logger import capturedLogs, formatEvent

from node2dm_tw.admin.statsd import DATAGRAM, Report, StatsdSender, batches

TOTALS = {"messages_sent": 0, "backing_off": True, "version": "1.2", "oldest_age": 1.5}


def told(report, **values):
    return list(report.lines({"totals": TOTALS | values, "routes": {"my.shop": values}}))


def test_counters_are_told_by_what_was_added_and_gauges_as_they_are():
    """Since the start for the first time; texts are left out, reasons and routes cleaned."""
    report = Report("gcm")
    first = told(report, messages_sent=5, **{"messages_refused.Odd: reason|": 2})
    assert first == [
        b"gcm.messages_sent:5|c",
        b"gcm.backing_off:1|g",
        b"gcm.oldest_age:1.5|g",
        b"gcm.messages_refused.Odd__reason_:2|c",
        b"gcm.my_shop.messages_sent:5|c",
        b"gcm.my_shop.messages_refused.Odd__reason_:2|c",
    ]
    again = told(report, messages_sent=7)
    assert again == [
        b"gcm.messages_sent:2|c",
        b"gcm.backing_off:1|g",
        b"gcm.oldest_age:1.5|g",
        b"gcm.my_shop.messages_sent:2|c",
    ]


def test_lines_share_datagrams_that_pass_an_ethernet():
    """As many to each as fit; none is cut."""
    lines = [b"x" * (n % 90 + 1) for n in range(500)]
    made = list(batches(lines))
    assert b"\n".join(made).split(b"\n") == lines
    assert all(len(datagram) <= DATAGRAM for datagram in made)
    assert all(len(a) + 1 + len(b) > DATAGRAM - 90 for a, b in pairwise(made))
    assert list(batches([])) == []


class Transport:
    """A UDP port that remembers."""

    def __init__(self):
        self.written = []

    def write(self, datagram, address):
        self.written.append((datagram, address))


def sender(resolve):
    made = StatsdSender("statsd.example", 8125, Report("gcm"), resolve, Clock())
    made.transport = Transport()
    return made


def test_the_host_is_looked_up_for_each_report():
    """It may have moved."""
    addresses = iter(["10.0.0.1", "10.0.0.2"])
    made = sender(lambda host: succeed(next(addresses)))
    for _ in range(2):
        made.send({"totals": TOTALS, "routes": {}})
    assert [address for _, address in made.transport.written] == [
        ("10.0.0.1", 8125),
        ("10.0.0.2", 8125),
    ]


def test_what_could_not_be_told_is_told_by_the_next_report():
    """A lookup that fails is logged, and loses nothing."""
    answers = [fail(DNSLookupError("no such host")), succeed("10.0.0.1")]
    made = sender(lambda host: answers.pop(0))
    with capturedLogs() as events:
        made.send({"totals": {"messages_sent": 3}, "routes": {}})
    assert "statsd at statsd.example was not told" in formatEvent(events[0])
    made.send({"totals": {"messages_sent": 5}, "routes": {}})
    assert made.transport.written == [(b"gcm.messages_sent:5|c", ("10.0.0.1", 8125))]


def test_an_address_that_comes_after_the_stop():
    """Is of no use any more."""
    late = Deferred()
    made = sender(lambda host: late)
    made.send({"totals": TOTALS, "routes": {}})
    made.transport = None
    late.callback("10.0.0.1")
