"""SIGHUP: what changes while running, what waits, and what a faulty file does."""

import signal

from tests.support.upstream import Answer, upstream
from tests.support.waiting import wait_until


def reload(gateway, says: str) -> None:
    count = gateway.log.count(says)
    gateway.write_config()
    gateway.process.send_signal(signal.SIGHUP)
    wait_until(lambda: gateway.log.count(says) > count, says)


def test_sighup_takes_over_credentials_limits_and_sources(make_gateway):
    """A new password signs in anew; allow shuts a source out; both without a restart."""
    with upstream(lambda sent: Answer()) as google:
        gateway = make_gateway(google.section()).start()
        gateway.push(b"phone:key:1")
        gateway.wait_for(messages_sent=1)
        gateway.config = google.section().replace("secret-word", "other-word")
        reload(gateway, "reloaded: [c2dm] password")
        wait_until(lambda: google.logins() == 2, "a second sign-in")
        last = [sent for sent in google.requests if sent.path == "/login"][-1]
        assert last.form["Passwd"] == "other-word"
        gateway.node2dm = "allow = 10.0.0.0/8"
        reload(gateway, "reloaded: [node2dm] allow")
        gateway.push(b"phone:key:2")
        stats = gateway.wait_for(messages_invalid=1)
        assert stats["messages_invalid.denied"] == 1
        assert stats["messages_sent"] == 1
        gateway.node2dm = "log_level = debug\nmax_age = 60\nmax_queued = 10"
        gateway.config = google.section("max_in_flight = 2\ndevice_block = 5")
        reload(gateway, "[c2dm] max_in_flight")
        gateway.push(*(b"d%d:key:x" % n for n in range(5)))
        gateway.wait_for(messages_sent=6)
        assert "other-word" not in gateway.log


def test_other_options_wait_for_a_restart_and_are_named(make_gateway):
    """What cannot change while running is logged by name, and again at the next SIGHUP."""
    with upstream(lambda sent: Answer()) as google:
        gateway = make_gateway(google.section()).start()
        gateway.node2dm = "rcvbuf = 100000"
        gateway.config = google.section("timeout = 5") + "[callback]\nhost = example.com\n"
        for _ in range(2):
            reload(gateway, "waiting for a restart: ")
        line = gateway.log.rpartition("waiting for a restart: ")[2].split("\n")[0]
        assert line == "[node2dm] rcvbuf, [c2dm] timeout, [callback]"
        gateway.push(b"phone:key:1")
        gateway.wait_for(messages_sent=1)


def test_an_emulator_that_runs_stays_as_it_is(make_gateway):
    """Its files too: a key that names another address would end the sign-in of its route."""
    gateway = make_gateway("[fcm]\nproject_rate = 1/d\n[emulator]\n").start()
    wait_until(lambda: gateway.stats()["fcm.signed_in"] == "true", "signed in")
    gateway.push(b"demo-phone::1")
    gateway.wait_for(messages_in_queue=1)
    key = (gateway.folder / "state/emulator/service-account.json").read_bytes()
    gateway.emulator_port += 1
    gateway.config = "[fcm]\nproject_rate = 1000000/s\n[emulator]\nphones = other\n"
    reload(gateway, "reloaded: [fcm] project_rate\n")
    assert "waiting for a restart: [emulator] listen, [emulator] phones\n" in gateway.log
    assert (gateway.folder / "state/emulator/service-account.json").read_bytes() == key
    gateway.wait_for(messages_sent=1)


def test_the_use_of_the_projects_rate_is_shown_while_there_is_one(make_gateway):
    """12 requests of 6,000 a minute are 0.2 %; of half as many 0.4 %."""
    gateway = make_gateway("[fcm]\nproject_rate = 6000/m\n[emulator]\n").start()
    gateway.push(*(b"device%d::x" % number for number in range(12)))
    stats = gateway.wait_for(messages_bad_device=12)
    assert 0.001 <= float(stats["fcm.project_rate_used"]) <= 0.002
    gateway.config = "[fcm]\nproject_rate = 3000/m\n[emulator]\n"
    reload(gateway, "reloaded: [fcm] project_rate\n")
    assert 0.002 <= float(gateway.stats()["project_rate_used"]) <= 0.004
    gateway.config = "[fcm]\nproject_rate =\n[emulator]\n"
    reload(gateway, "reloaded: [fcm] project_rate\n")
    assert "project_rate_used" not in gateway.stats()


def test_a_faulty_file_is_refused_whole(make_gateway):
    """Every fault is logged, nothing changes, and the gateway goes on."""
    with upstream(lambda sent: Answer()) as google:
        gateway = make_gateway(google.section()).start()
        gateway.node2dm = "max_age = soon\nallow = nowhere"
        gateway.config = google.section().replace("secret-word", "other-word")
        reload(gateway, "not reloaded")
        line = gateway.log.rpartition("not reloaded: ")[2].split("\n")[0]
        assert "[node2dm] max_age = soon: expected" in line
        assert "[node2dm] allow = nowhere: expected" in line
        gateway.push(b"phone:key:1")
        gateway.wait_for(messages_sent=1)
        assert google.logins() == 1
