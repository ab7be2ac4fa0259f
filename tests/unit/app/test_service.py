"""The whole gateway in this process: its start, what it answers, and its stop."""

import shutil
import signal
import sys

import attrs
import pytest
from twisted.application.service import Application
from twisted.internet.defer import Deferred, fail
from twisted.internet.error import CannotListenError

from node2dm_tw.app.process import StartFailed, hide_traceback
from node2dm_tw.core.snapshot import LaneState
from node2dm_tw.state.directory import StateDir
from tests.unit.app.gateway import ACCOUNT, MemoryGateway

CALLBACK = "[callback]\nprotocol = http\nhost = app.test\nevents = all\n"


def test_a_push_goes_from_the_socket_to_the_service(memory_gateway):
    """The gateway signs in first; at the stop everything is closed, and nothing is left over."""
    gateway = memory_gateway().start()
    assert "started: pushes on udp 127.0.0.1:0, stats on tcp:1, tcp:2" in gateway.log
    gateway.push(b"phone:key:hello")
    assert [path for path, _ in gateway.posted] == [b"/login", b"/send"]
    assert b"registration_id=phone" in gateway.posted[1][1]
    assert gateway.stats("messages_sent") == 1
    assert gateway.stop()
    assert gateway.statuses == []
    assert gateway.reactor.getReaders() == []
    assert gateway.reactor.getDelayedCalls() == []
    StateDir(gateway.folder / "state").lock()


def test_a_stop_reads_the_socket_and_saves_what_cannot_be_sent(memory_gateway):
    """The drain lasts as long as the configuration says; the next process sends the rest."""
    gateway = memory_gateway(node2dm="drain = 7").start()
    del gateway.answers[b"/send"]
    gateway.push(*(b"phone:key%d:x" % number for number in range(3)))
    stopped = gateway.service.stopService()
    gateway.reactor.turn(6)
    assert not stopped.called
    gateway.reactor.turn(2)
    assert stopped.called
    assert gateway.stats("messages_handed_over") == 3
    assert gateway.reactor.getReaders() == []
    (spool,) = (gateway.folder / "state").glob("c2dm.spool*")
    assert spool.read_bytes().count(b"phone") == 3


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_the_reactor_and_a_second_one_ends_the_drain(memory_gateway, number):
    """The first one also where somebody else has stopped the reactor."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    gateway = memory_gateway(node2dm="drain = 60").start()
    del gateway.answers[b"/send"]
    gateway.push(b"phone:key:x")
    signal.raise_signal(number)
    gateway.reactor.turn()
    assert gateway.reactor.hasStopped
    stopped = gateway.service.stopService()
    gateway.reactor.turn(1)
    assert not stopped.called
    signal.raise_signal(number)
    gateway.reactor.turn()
    assert stopped.called
    assert gateway.stats("messages_handed_over") == 1


def test_a_signal_before_the_drain_has_begun_leaves_no_time_for_it(memory_gateway):
    """The reactor is being stopped already when the second one comes."""
    gateway = memory_gateway(node2dm="drain = 60").start()
    for _ in range(2):
        signal.raise_signal(signal.SIGTERM)
    gateway.reactor.turn()
    assert gateway.stop(1)


def test_a_step_that_fails_gives_status_1_and_the_others_run(memory_gateway):
    """Pushes that cannot be written are lost, and the log says so."""
    gateway = memory_gateway(node2dm="drain = 0")
    gateway.answers[b"/login"] = b"Error=ServiceUnavailable\n"
    gateway.start()
    gateway.push(b"phone:key:x")
    shutil.rmtree(gateway.folder / "state")
    assert gateway.stop()
    assert gateway.statuses == [1]
    assert "stop: cannot save the pushes of c2dm" in gateway.log
    assert gateway.reactor.getReaders() == []


def lock_state_dir(gateway: MemoryGateway) -> None:
    StateDir(gateway.folder / "state").lock()


def take_port(gateway: MemoryGateway) -> None:
    def listen(port, factory, backlog, interface):
        raise CannotListenError(interface, port, OSError(98, "Address already in use"))

    gateway.reactor.listenTCP = listen


@pytest.mark.parametrize(
    ("prepare", "reason"),
    [
        (lock_state_dir, "state_dir: .*another process uses it"),
        (take_port, "stats cannot listen on .*: Address already in use"),
    ],
)
def test_what_cannot_be_opened_ends_the_start(memory_gateway, prepare, reason, monkeypatch):
    """In the foreground with a line in the log and status 1; else twistd is told."""
    for in_foreground in (True, False):
        gateway = memory_gateway(twistd={"nodaemon": in_foreground, "logfile": "-"})
        prepare(gateway)
        monkeypatch.setattr(sys, "excepthook", sys.__excepthook__)
        gateway.service.setServiceParent(Application("node2dm"))
        if in_foreground:
            gateway.service.startService()
            gateway.reactor.start()
            assert gateway.reactor.hasStopped
            assert gateway.statuses == [1]
        else:
            with pytest.raises(StartFailed, match=reason):
                gateway.service.startService()
            assert sys.excepthook is hide_traceback
        assert f"node2dm cannot start: {reason[:9]}" in gateway.log
        assert gateway.stop()


def test_the_start_ends_where_a_queue_cannot_be_opened(memory_gateway):
    """A gateway that runs in part must not seem to run."""
    gateway = memory_gateway()
    gateway.service.setServiceParent(Application("node2dm"))
    gateway.service.startService()
    (name, route), *_ = gateway.parts.routes.items()

    @attrs.frozen
    class Broken:
        inner: object

        def start(self):
            return fail(OSError("no disk"))

        def stop(self):
            return self.inner.stop()

    gateway.parts.routes[name] = attrs.evolve(route, queue=Broken(route.queue))
    gateway.reactor.start()
    assert "node2dm cannot start" in gateway.log
    assert gateway.statuses == [1]
    assert gateway.reactor.hasStopped


def test_a_stop_while_it_starts(memory_gateway):
    """What would begin once the queues are open begins no more."""
    gateway = memory_gateway()
    gateway.service.setServiceParent(Application("node2dm"))
    gateway.service.startService()
    (name, route), *_ = gateway.parts.routes.items()
    started: Deferred[None] = Deferred()

    @attrs.frozen
    class Slow:
        def start(self):
            return started

        def stop(self):
            route.queue.stop()

    gateway.parts.routes[name] = attrs.evolve(route, queue=Slow())
    gateway.reactor.start()
    signal.raise_signal(signal.SIGTERM)
    gateway.reactor.turn()
    started.callback(None)
    assert "started" not in gateway.log
    assert gateway.reactor.hasStopped


def test_a_quota_that_is_used_up_locks_the_route_and_ends_the_process(memory_gateway):
    """With status 3 where no other route sends, and a lock that the next start finds."""
    gateway = memory_gateway()
    gateway.answers[b"/send"] = b"Error=QuotaExceeded"
    gateway.start()
    gateway.push(b"phone:key:x")
    assert gateway.statuses == [3]
    assert gateway.reactor.hasStopped
    assert gateway.route.quota_lock.is_set
    assert gateway.stop()
    with pytest.raises(SystemExit) as ended:
        MemoryGateway(gateway.folder)
    assert ended.value.code == 3


def test_a_lock_that_cannot_be_written_is_logged(memory_gateway):
    """The route is locked all the same."""
    gateway = memory_gateway()
    gateway.answers[b"/send"] = b"Error=QuotaExceeded"
    gateway.start()
    shutil.rmtree(gateway.folder / "state")
    gateway.push(b"phone:key:x")
    assert gateway.route.lane.session.state is LaneState.LOCKED
    assert "quota.lock: No such file or directory" in gateway.log


def test_a_route_alone_is_locked_while_another_one_sends(memory_gateway):
    """The process goes on."""
    second = ACCOUNT.replace("[c2dm]", "[c2dm:second]").replace("/send", "/second")
    gateway = memory_gateway(ACCOUNT + second)
    gateway.answers |= {b"/send": b"Error=QuotaExceeded", b"/second": b"id=2"}
    gateway.start()
    gateway.push(b"phone:key:x", b"second|phone:key:x")
    assert gateway.statuses == []
    assert gateway.stats("messages_sent") == 1
    assert (gateway.folder / "state/quota.lock.c2dm").exists()


def test_callbacks_tell_of_bad_devices(memory_gateway):
    """What cannot be told before the stop is kept."""
    gateway = memory_gateway(ACCOUNT + CALLBACK)
    gateway.answers |= {b"/send": b"Error=NotRegistered", b"/": b""}
    gateway.start()
    gateway.push(b"phone:key:x")
    ((path, body),) = gateway.posted[2:]
    assert path == b"/"
    assert b"device_token=phone" in body
    assert b"outcome=bad_device" in body
    assert gateway.stats("callbacks_waiting") == 0
    assert gateway.stop()


def test_what_is_not_configured_is_named_and_so_is_the_environment(memory_gateway, monkeypatch):
    """At the start, as are files that others can read."""
    monkeypatch.setenv("SSL_CERT_FILE", "/certificates")
    gateway = memory_gateway()
    (gateway.folder / "state").mkdir()
    (gateway.folder / "state/old.spool").touch()
    gateway.start()
    assert "old.spool belongs to no section of the configuration: ignored" in gateway.log
    assert "SSL_CERT_FILE in the environment says which certificates" in gateway.log


def test_statsd_is_told(memory_gateway):
    """Every interval, and once more at the stop."""
    import socket

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as statsd:
        statsd.bind(("127.0.0.1", 0))
        statsd.setblocking(False)
        port = statsd.getsockname()[1]
        gateway = memory_gateway(
            f"{ACCOUNT}[statsd]\nhost = 127.0.0.1\nport = {port}\ninterval = 2\n"
        ).start()
        gateway.reactor.turn(2)
        assert b"node2dm." in statsd.recv(65_536)
        assert gateway.stop()
        assert statsd.recv(65_536)


def test_an_emulator_beside_it(memory_gateway):
    """Its routes are given its addresses and an account of its; it stops with the gateway."""
    gateway = memory_gateway("[c2dm]\n[emulator]\nlisten = tcp:3:interface=127.0.0.1\n").start()
    section = gateway.service._settings.routes[0]
    assert section.login_url == "https://127.0.0.1:3/accounts/ClientLogin"
    assert section.ca_file.path.is_relative_to(gateway.folder / "state/emulator")
    assert [port for port, *_ in gateway.reactor.tcpServers] == [3, 1, 2]
    assert gateway.stop()
    assert gateway.statuses == []


def test_a_log_file_that_cannot_be_opened_ends_it_with_a_line(memory_gateway, capsys):
    """Before anything is opened."""
    gateway = memory_gateway(twistd={"nodaemon": True, "logfile": "/nowhere/log"})
    with pytest.raises(SystemExit) as ended:
        gateway.service.setServiceParent(Application("node2dm"))
    assert ended.value.code == 1
    expected = "cannot open the log file /nowhere/log: No such file or directory\n"
    assert capsys.readouterr().err == expected
