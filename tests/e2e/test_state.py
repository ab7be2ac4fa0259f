"""What a gateway makes of files that are damaged, unreadable, or no files, and of a bad disk."""

import json
import os
import re
import signal
import subprocess
import time
import zlib
from pathlib import Path

import pytest

from tests.e2e.test_outage import push_many
from tests.support.gateway import GatewayProcess
from tests.support.odd_files import OBEYING_MODES, ODD, is_untouched
from tests.support.upstream import Answer, Upstream, upstream
from tests.support.waiting import wait_until

HEADER = b"node2dm_tw spool 1\n"


def record(text: str, is_json: bool = False, **changed: object) -> bytes:
    """A line of a spool: a push to device `d`, with the collapse key `k`."""
    line = f"d:k:{text}"
    fields = {"device_end": 1, "key_end": 3, "received": time.time()} | changed
    return spooled(json.dumps([line, *fields.values(), is_json]).encode())


def spooled(content: bytes) -> bytes:
    return b"%08x %b\n" % (zlib.crc32(content), content)


BAD = [
    record("bad", received=float("inf")),
    record("bad", received=10**400),
    record("bad", key_end=3.0),
    record("bad", key_end=2),
    record("bad", is_json=True),
    record('{"token":"e"}', is_json=True),
    record("[" * 20_000, is_json=True),
    spooled(b"[" * 100_000),
    spooled(b'["d:k:bad",1,3,1e999,false]'),
    spooled(b"\xff\xfe\x00"),
    spooled(b"{}"),
    b"garbage\n",
    b"\n",
    b"x" * 3_000_000 + b"\n",
]


def read_text(line: bytes) -> str:
    """What `record` was given; empty for a line that is no record."""
    found = re.search(rb'"d:k:([^"]*)"', line)
    return found[1].decode() if found else ""


def state(gateway: GatewayProcess) -> Path:
    folder = gateway.folder / "state"
    folder.mkdir(mode=0o700, exist_ok=True)
    return folder


def test_bad_records_cost_no_other(make_gateway):
    """Good pushes before, between and behind them are sent; bad lines are kept, and counted."""
    with upstream(lambda sent: Answer()) as google:
        gateway = make_gateway(google.section())
        spool = state(gateway) / "c2dm.spool"
        for number, aside in enumerate(("c2dm.spool.damaged", "c2dm.spool.damaged.1")):
            lines = [HEADER]
            for each, bad in enumerate(BAD):
                lines += [record(f"{number}-{each}"), bad]
            spool.write_bytes(b"".join([*lines, record(f"{number}-last")]))
            gateway.start()
            good = len(BAD) + 1
            stats = gateway.wait_for(messages_taken_over=good, messages_sent=good)
            assert stats["spool_damaged"] >= len(BAD)
            assert not spool.exists()
            assert spool.with_name(aside).read_bytes() == HEADER + b"".join(BAD)
            assert gateway.stop() == 0
        assert len(google.delivered()) == 2 * good
        assert "Traceback" not in gateway.log
        assert gateway.log.count("was damaged: ") == 2


def test_a_stop_after_bad_records_keeps_every_push(make_gateway):
    """Those that were restored, and those that came since; also while it is still restoring."""
    with upstream(lambda sent: Answer(delay=30)) as google:
        gateway = make_gateway(google.section(), node2dm="drain = 0\nmax_queued = 100")
        spool = state(gateway) / "c2dm.spool"
        good = [record(str(n)) for n in range(150)]
        spool.write_bytes(b"".join([HEADER, *BAD, *good, *BAD]))
        gateway.start()
        gateway.wait_for(messages_taken_over=100)
        assert gateway.stop() == 0
        kept = [read_text(line) for line in spool.read_bytes().split(b"\n")]
        assert [text for text in kept if text.isdecimal()] == [str(n) for n in range(150)]
        assert "Traceback" not in gateway.log


@pytest.mark.parametrize("kind", ["a FIFO", "a directory", "a symbolic link"])
def test_what_is_in_the_place_of_a_state_file_stops_nothing(make_gateway, monkeypatch, kind):
    """The start does not hang, pushes flow, a stop keeps what is left, and no link is followed."""
    names = ("c2dm.token", "c2dm.spool", "c2dm.spool.part", "c2dm.token.part", "quota.lock")
    slow = {"delay": 30.0}
    with upstream(lambda sent: Answer(delay=slow["delay"])) as google:
        gateway = make_gateway(google.section(), node2dm="drain = 0")
        folder = state(gateway)
        monkeypatch.chdir(folder)
        for name in names:
            ODD[kind](folder / name)
        gateway.start()
        gateway.push(b"d:k:1", b"d:k:2")
        wait_until(lambda: google.in_flight == 2, "both are under way")
        for name in ("c2dm.token", "c2dm.spool", "quota.lock"):
            assert str(folder / name) in gateway.log
        assert f"c2dm.token is not used: it is {kind}" in gateway.log
        assert f"c2dm.spool (it is {kind})" in gateway.log
        assert gateway.stop() == 0
        assert (folder / "c2dm.spool.1").read_bytes().count(b"\n") == 3
        slow["delay"] = 0.0
        gateway.start()
        gateway.wait_for(messages_taken_over=2, messages_sent=2)
        assert gateway.stop() == 0
        assert "Traceback" not in gateway.log
        assert all(is_untouched(folder / name) for name in names)


@pytest.mark.parametrize("kind", ["a FIFO", "a symbolic link"])
def test_what_is_in_the_place_of_the_lock_ends_the_start(make_gateway, monkeypatch, kind):
    """At once, in one line that says why, and with status 1."""
    gateway = make_gateway("[c2dm]\nusername = a@example.com\npassword = x\n")
    folder = state(gateway)
    monkeypatch.chdir(folder)
    ODD[kind](folder / "lock")
    done = gateway.run("-n")
    assert done.returncode == 1
    line = f"node2dm cannot start: state_dir: {folder / 'lock'} cannot be used: it is {kind}"
    assert done.stdout.count(line) == 1
    assert "Traceback" not in done.stdout + done.stderr
    assert is_untouched(folder / "lock")


@pytest.mark.parametrize("kind", ["a FIFO", "a directory"])
def test_what_is_in_the_place_of_an_emulators_file_gives_way(make_gateway, monkeypatch, kind):
    """Or the start says in one line why not."""
    names = ("ca.pem", "server.pem", "service-account.json")
    gateway = make_gateway("[fcm]\n[emulator]\n")
    folder = state(gateway) / "emulator"
    folder.mkdir()
    monkeypatch.chdir(folder)
    for name in names:
        ODD[kind](folder / name)
    if kind == "a directory":
        done = gateway.run("-n")
        assert done.returncode == 1
        assert "[node2dm] state_dir = state: expected a folder that can be written" in done.stderr
        assert "Traceback" not in done.stdout + done.stderr
    else:
        gateway.start()
        gateway.push(b"demo-phone::1")
        gateway.wait_for(messages_sent=1)
        assert gateway.stop() == 0
    assert all(is_untouched(folder / name) for name in names)


@pytest.mark.skipif(not OBEYING_MODES, reason="needs setpriv, as modes do not bind root")
def test_a_spool_that_cannot_be_read_waits_until_it_can(make_gateway):
    """It is left where it is, whatever comes and goes meanwhile, and restored at SIGHUP."""
    slow = {"delay": 30.0}
    with upstream(lambda sent: Answer(delay=slow["delay"])) as google:
        gateway = make_gateway(google.section(), node2dm="drain = 0", prefix=OBEYING_MODES)
        spool = state(gateway) / "c2dm.spool"
        content = HEADER + record("old")
        spool.write_bytes(content)
        spool.chmod(0)
        for start in (1, 2):
            gateway.start()
            gateway.push(b"d:k:new%d" % start)
            gateway.wait_for(messages_received=1)
            assert gateway.stop() == 0
            spool.chmod(0o400)
            assert spool.read_bytes() == content
            spool.chmod(0)
        assert gateway.log.count("c2dm.spool (Permission denied)") == 2
        slow["delay"] = 0.0
        gateway.start()
        gateway.wait_for(messages_taken_over=2, messages_sent=2)
        spool.chmod(0o600)
        gateway.process.send_signal(signal.SIGHUP)
        gateway.wait_for(messages_taken_over=3, messages_sent=3)
        assert set(google.delivered()) == {"old", "new1", "new2"}
        assert gateway.stop() == 0
        assert not list(spool.parent.glob("c2dm.spool*"))


@pytest.mark.skipif(not OBEYING_MODES, reason="needs setpriv, as modes do not bind root")
def test_a_token_that_cannot_be_read_costs_a_sign_in(make_gateway):
    """Its file is written anew, and serves the next start."""
    with upstream(lambda sent: Answer()) as google:
        gateway = make_gateway(google.section(), prefix=OBEYING_MODES)
        token = state(gateway) / "c2dm.token"
        token.touch(0)
        for _ in range(2):
            gateway.start()
            gateway.push(b"d:k:1")
            gateway.wait_for(messages_sent=1)
            assert gateway.stop() == 0
        assert google.logins() == 1
        assert gateway.log.count(f"{token} is not used: Permission denied") == 1
        assert "Traceback" not in gateway.log


@pytest.mark.skipif(not OBEYING_MODES, reason="needs setpriv, as modes do not bind root")
@pytest.mark.parametrize(
    ("name", "status", "says"),
    [
        ("lock", 1, "lock cannot be used: Permission denied"),
        ("quota.lock", 3, "quota.lock exists: route c2dm was over its quota"),
    ],
)
def test_a_lock_that_cannot_be_read_ends_the_start(make_gateway, name, status, says):
    """In one line: another process may run, or the sender be over its quota."""
    account = "[c2dm]\nusername = a@example.com\npassword = x\n"
    gateway = make_gateway(account, prefix=OBEYING_MODES)
    (state(gateway) / name).touch(0)
    gateway.start(wait=False)
    assert gateway.process.wait(20) == status
    assert gateway.log.count(says) == 1
    assert "Traceback" not in gateway.log


def test_a_spool_on_a_disk_that_fails_is_left_where_it_is(make_gateway):
    """Reading fails at its first byte; what is left at the stop goes to another file."""
    with upstream(lambda sent: Answer(delay=30)) as google:
        gateway = make_gateway(google.section(), node2dm="drain = 0")
        spool = state(gateway) / "c2dm.spool"
        spool.touch()
        failing = subprocess.run(
            ["mount", "--bind", f"/proc/{os.getpid()}/mem", spool], check=False
        )
        if failing.returncode:
            pytest.skip("needs to mount a file that cannot be read, as root may")
        try:
            gateway.start()
            assert "c2dm.spool (Input/output error)" in gateway.log
            gateway.push(b"d:k:1")
            gateway.wait_for(messages_received=1)
            assert gateway.stop() == 0
        finally:
            subprocess.run(["umount", spool], check=True)
        assert spool.exists()
        assert (spool.parent / "c2dm.spool.1").read_bytes().count(b"\n") == 2
        assert "Traceback" not in gateway.log


def make_immutable(path: Path, flag: str = "+i") -> None:
    done = subprocess.run(["chattr", flag, path], capture_output=True, check=False)
    if done.returncode:
        pytest.skip("needs chattr, as root has it on most file systems")


def test_a_token_that_cannot_be_removed_is_not_used_again(make_gateway):
    """One 401, one sign-in, and sending goes on; the next start learns it with one 401 more."""
    revoked: set[str] = set()

    def answer(sent):
        return Answer(b"", 401) if sent.auth.rpartition("=")[2] in revoked else Answer()

    with upstream(answer) as google:
        gateway = make_gateway(google.section()).start()
        gateway.push(b"d:k:1")
        gateway.wait_for(messages_sent=1)
        gateway.stop()
        revoked.add("token-1")
        folder = state(gateway)
        token = folder / "c2dm.token"
        gateway.start()
        make_immutable(token)
        make_immutable(folder)
        try:
            for number in range(20):
                gateway.push(b"d:k:more%d" % number)
            gateway.wait_for(messages_received=20, messages_in_queue=0)
            assert google.logins() == 2
            refused = [sent for sent in google.sends() if sent.auth.endswith("token-1")]
            assert len(refused) <= 64
            assert re.search(r"c2dm\.token.*Operation not permitted", gateway.log)
            assert "Traceback" not in gateway.log
            gateway.stop()
        finally:
            make_immutable(folder, "-i")
            make_immutable(token, "-i")


def test_a_disk_that_is_full(make_gateway, mount_small_disk):
    """Sending goes on; what cannot be kept is counted in a critical line, and the status is 1."""
    slow = {"delay": 0.0}
    with upstream(lambda sent: Answer(delay=slow["delay"])) as google:
        gateway = make_gateway(google.section("token_max_age = 3"), node2dm="drain = 0")
        disk = mount_small_disk(gateway.folder / "state")
        gateway.start()
        disk.fill()
        for number in range(4):
            gateway.push(b"d:k:%d" % number)
            wait_until(lambda n=number: google.logins() > n, "it has signed in again")
        gateway.wait_for(messages_sent=4)
        assert "No space left on device" in gateway.log
        slow["delay"] = 30.0
        push_many(gateway, range(300))
        gateway.wait_for(messages_received=304)
        assert gateway.stop() == 1
        assert "300 pushes are lost: " in gateway.log
        assert "Traceback" not in gateway.log
        (disk.path / "ballast").unlink()
        slow["delay"] = 0.0
        gateway.start()
        gateway.push(b"d:k:after")
        gateway.wait_for(messages_sent=1)


def test_a_disk_that_is_full_from_the_start(make_gateway, mount_small_disk):
    """The gateway works, or says in one line why not."""
    with upstream(lambda sent: Answer()) as google:
        gateway = make_gateway(google.section())
        disk = mount_small_disk(gateway.folder / "state")
        disk.fill()
        gateway.start()
        gateway.push(b"d:k:1")
        gateway.wait_for(messages_sent=1)
        assert gateway.stop() == 0


@pytest.mark.parametrize("config", ["", "[emulator]\n"])
def test_a_disk_that_is_read_only_ends_the_start(make_gateway, mount_small_disk, config):
    """In one line, since a stop could keep nothing."""
    account = "[c2dm]\nusername = a@example.com\npassword = x\n"
    gateway = make_gateway(account + config)
    disk = mount_small_disk(gateway.folder / "state")
    disk.remount("ro")
    done = gateway.run("-n")
    assert done.returncode == 1
    said = done.stdout + done.stderr
    assert said.count("Read-only file system") == 1
    assert "Traceback" not in said


def test_a_disk_that_becomes_read_only(make_gateway):
    """Sending goes on. (A disk in use cannot be remounted: an immutable folder stands for it.)"""
    slow = {"delay": 0.0}
    with upstream(lambda sent: Answer(delay=slow["delay"])) as google:
        gateway = make_gateway(google.section(), node2dm="drain = 0").start()
        folder = state(gateway)
        make_immutable(folder)
        try:
            push_many(gateway, range(100))
            gateway.wait_for(messages_sent=100)
            slow["delay"] = 30.0
            gateway.push(b"d:k:last")
            gateway.wait_for(messages_received=101)
            assert gateway.stop() == 1
            assert "1 pushes are lost: " in gateway.log
            assert "Traceback" not in gateway.log
        finally:
            make_immutable(folder, "-i")


@pytest.mark.skipif(not OBEYING_MODES, reason="needs setpriv, as modes do not bind root")
def test_a_state_dir_that_cannot_be_entered(make_gateway):
    """One line, and status 1, whether it is its own mode or that of a folder above."""
    account = "[c2dm]\nusername = a@example.com\npassword = x\n"
    gateway = make_gateway(account, prefix=OBEYING_MODES)
    state(gateway).chmod(0)
    for count, folder in enumerate(("state", "state/below/it"), start=1):
        gateway.state_dir = folder
        gateway.start(wait=False)
        assert gateway.process.wait(20) == 1
        assert gateway.log.count("Permission denied") == count
        assert "Traceback" not in gateway.log


OVER = Answer(b"Error=QuotaExceeded")


def second(google: Upstream) -> str:
    return google.section("prefix = x").replace("[c2dm]", "[c2dm:more]")


def test_a_lock_holds_when_a_section_is_added(make_gateway):
    """And when it is taken away again: the lock names its route."""
    with upstream(lambda sent: OVER) as google:
        gateway = make_gateway(google.section()).start()
        gateway.push(b"d:k:1")
        assert gateway.process.wait(20) == 3
        asked = len(google.sends())
        gateway.config = google.section() + second(google)
        gateway.start()
        assert gateway.stats()["c2dm.state"] == "locked"
        assert gateway.stats()["more.state"] != "locked"
        assert len(google.sends()) == asked
        gateway.push(b"more|d:k:1")
        assert gateway.process.wait(20) == 3
        lock = state(gateway) / "quota.lock"
        lock.unlink()
        gateway.config = second(google)
        done = gateway.run("-n")
        assert done.returncode == 3
        assert str(state(gateway) / "quota.lock.more") in done.stderr


def test_files_of_no_route_are_named(make_gateway):
    """Nothing else would ever say that pushes wait in them."""
    with upstream(lambda sent: Answer()) as google:
        gateway = make_gateway(google.section())
        folder = state(gateway)
        stray = ("old.spool", "old.spool.1", "quota.lock.old", "callbacks.spool")
        known = ("c2dm.spool.damaged", "old.token", "x.spoolx")
        for name in (*stray, *known):
            (folder / name).touch()
        gateway.start()
        for name in stray:
            assert f"{folder / name} belongs to no section of the configuration" in gateway.log
        for name in known:
            assert f"{folder / name} belongs" not in gateway.log
        wait_until(lambda: gateway.stats()["signed_in"] == "true", "it has signed in")
        assert gateway.stop() == 0
