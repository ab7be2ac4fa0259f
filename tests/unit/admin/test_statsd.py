"""The snapshot to statsd."""

from itertools import pairwise

import pytest
from twisted.internet._resolver import HostResolution
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.error import DNSLookupError
from twisted.internet.interfaces import IHostnameResolver
from twisted.internet.task import Clock
from twisted.logger import capturedLogs, formatEvent
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from node2dm_tw.admin.lines import StatsLines
from node2dm_tw.admin.statsd import DATAGRAM, StatsdFormatter, StatsdSender, batches, resolve_host
from tests.unit.admin.support import StatsdServer

TOTALS = {"messages_sent": 0, "backing_off": True, "version": "1.2", "oldest_age": 1.5}


def told(report, **values):
    return list(report.lines(StatsLines(TOTALS | values, {"my.shop": values})))


def test_counters_are_told_by_what_was_added_and_gauges_as_they_are():
    """Since the start for the first time; texts are left out, reasons and routes cleaned."""
    report = StatsdFormatter("gcm")
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


def sender(resolve, port, host="statsd.example"):
    return StatsdSender(host, port, StatsdFormatter("gcm"), resolve, Clock())


def lines(**totals):
    return StatsLines(totals, {})


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
def test_a_report_goes_to_an_address_of_either_kind(address):
    """Of IPv4 or of IPv6."""
    with StatsdServer(address) as statsd:
        sender(lambda host: succeed(address), statsd.port).send(lines(messages_sent=3))
        assert statsd.lines() == ["gcm.messages_sent:3|c"]


def test_the_host_is_looked_up_for_each_report():
    """It may have moved, to another kind of address too."""
    with StatsdServer() as first, StatsdServer("::1", first.port) as second:
        addresses = iter(["127.0.0.1", "::1"])
        made = sender(lambda host: succeed(next(addresses)), first.port)
        made.send(lines(messages_sent=3))
        assert first.lines() == ["gcm.messages_sent:3|c"]
        made.send(lines(messages_sent=5))
        assert (first.lines(), second.lines()) == ([], ["gcm.messages_sent:2|c"])


def test_what_could_not_be_told_is_told_by_the_next_report():
    """A lookup that fails is logged, and loses nothing."""
    answers = [fail(DNSLookupError("no such host")), succeed("127.0.0.1")]
    with StatsdServer() as statsd:
        made = sender(lambda host: answers.pop(0), statsd.port)
        with capturedLogs() as events:
            made.send(lines(messages_sent=3))
        assert "statsd at statsd.example was not told" in formatEvent(events[0])
        made.send(lines(messages_sent=5))
        assert statsd.lines() == ["gcm.messages_sent:5|c"]


def test_a_report_that_cannot_be_sent_is_logged():
    """At the stop too, which goes on."""
    made = sender(lambda host: succeed("255.255.255.255"), 1)
    with capturedLogs() as events:
        made.send(lines(messages_sent=3))
        made.send_last(lines(messages_sent=5))
    assert {formatEvent(event).split(": ")[0] for event in events} == {
        "statsd at statsd.example was not told"
    }


def test_an_address_that_comes_after_the_stop():
    """Is of no use any more."""
    late = Deferred()
    with StatsdServer() as statsd:
        made = sender(lambda host: late, statsd.port)
        made.send(lines(messages_sent=3))
        made.send_last(lines(messages_sent=3))
        late.callback("127.0.0.1")
        assert statsd.lines() == []


@implementer(IHostnameResolver)
class Names:
    """Knows these names, each with its addresses, and answers at once."""

    def __init__(self, **addresses):
        self.addresses = addresses

    def resolveHostName(
        self, receiver, hostName, portNumber=0, addressTypes=None, transportSemantics="TCP"
    ):
        resolution = HostResolution(hostName)
        receiver.resolutionBegan(resolution)
        for address in self.addresses.get(hostName, ()):
            kind = IPv6Address if ":" in address else IPv4Address
            receiver.addressResolved(kind(transportSemantics, address, portNumber))
        receiver.resolutionComplete()
        return resolution


@pytest.mark.parametrize(
    ("addresses", "found"),
    [
        (["::1"], "::1"),
        (["::1", "127.0.0.1"], "127.0.0.1"),
        (["127.0.0.1", "::1"], "127.0.0.1"),
        (["10.0.0.2", "10.0.0.1"], "10.0.0.2"),
    ],
)
def test_a_host_with_an_address_of_ipv6_alone_is_found(addresses, found):
    """One of IPv4 goes first, and of several the one that the resolver prefers."""
    names = Names(host=addresses)
    assert SynchronousTestCase().successResultOf(resolve_host(names, "host")) == found


def test_a_host_without_an_address():
    """It is a failure, and the name is in it."""
    failure = SynchronousTestCase().failureResultOf(resolve_host(Names(), "host"), DNSLookupError)
    assert "host has no address" in str(failure.value)
