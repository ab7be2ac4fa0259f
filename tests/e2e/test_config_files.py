"""Files that the configuration names, as a real gateway reads them."""

import json
import os
import shutil
import signal

import pytest

from tests.support.upstream import Answer, upstream
from tests.support.waiting import wait_until


def sighup(gateway, says):
    count = gateway.log.count(says)
    gateway.process.send_signal(signal.SIGHUP)
    wait_until(lambda: gateway.log.count(says) > count, says)


def test_a_byte_order_mark_is_no_part_of_a_password(make_gateway):
    """Neither is the end of its line."""
    with upstream(lambda sent: Answer()) as google:
        config = google.section().replace("password = secret-word", "password_file = password")
        gateway = make_gateway(config)
        (gateway.folder / "password").write_bytes(b"\xef\xbb\xbfsecret-word\r\n")
        gateway.start()
        gateway.push(b"phone:key:1")
        gateway.wait_for(messages_sent=1)
        (login,) = [sent for sent in google.requests if sent.path == "/login"]
        assert login.form["Passwd"] == "secret-word"


def make_special(folder, kind):
    if kind == "fifo":
        os.mkfifo(folder / "special")
    elif kind == "folder":
        (folder / "special").mkdir()
    else:
        (folder / "special").symlink_to("/dev/zero")


SPECIAL = {
    "password_file": "[c2dm]\nusername = a\npassword_file = special\n",
    "service_account": "[fcm]\nservice_account = special\n",
    "ca_file": "[c2dm]\nusername = a\npassword = b\nca_file = special\n",
    "accounts_file": "[c2dm]\n[emulator]\naccounts_file = special\n",
    "proxy_file": "[node2dm]\nproxy_file = special\n[c2dm]\nusername = a\npassword = b\n",
}


@pytest.mark.parametrize("kind", ["fifo", "folder", "device"])
@pytest.mark.parametrize("option", SPECIAL)
def test_what_is_no_regular_file_ends_the_start(make_gateway, option, kind):
    """At once, with a line that names the option, and status 1."""
    gateway = make_gateway()
    make_special(gateway.folder, kind)
    done = gateway.run("-n", config=SPECIAL[option])
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert f"{option} = special: expected a file that can be read (Not a regular file" in line


def test_a_configuration_in_a_fifo_ends_the_start(make_gateway):
    """Nobody may ever write into it."""
    gateway = make_gateway()
    os.mkfifo(gateway.folder / "fifo")
    done = gateway.run_twistd("-n", "--pidfile=", "node2dm", "-c", "fifo")
    assert done.returncode == 1
    assert "fifo: Not a regular file" in done.stderr


def test_sighup_sees_what_changed_in_a_file(make_gateway):
    """A key takes effect; certificates wait for a restart, at each SIGHUP; the rest is the same."""
    gateway = make_gateway("[fcm]\n[emulator]\n").start()
    folder = gateway.folder / "state/emulator"
    sighup(gateway, "reloaded: nothing")
    key = json.loads((folder / "service-account.json").read_bytes())
    (folder / "service-account.json").write_text(json.dumps(key, indent=4), encoding="utf-8")
    sighup(gateway, "reloaded: [fcm] service_account\n")
    sighup(gateway, "reloaded: nothing")
    assert "waiting for a restart" not in gateway.log
    with (folder / "ca.pem").open("a", encoding="utf-8") as file:
        file.write("# a remark\n")
    for _ in range(2):
        sighup(gateway, "waiting for a restart: [fcm] ca_file\n")
    (folder / "service-account.json").write_text("{}", encoding="utf-8")
    gateway.push(b"g|demo-phone:key:{}")
    gateway.wait_for(messages_sent=1)
    assert key["private_key"][100:200] not in gateway.log


def test_certificates_that_are_damaged_are_not_reloaded(make_gateway):
    """The bundle is read again with all the rest, and the configuration is refused for it."""
    gateway = make_gateway("[c2dm]\nca_file = ca.pem\n[emulator]\n")
    first = make_gateway(emulator_port=gateway.emulator_port).start()
    first.stop()
    shutil.copytree(first.folder / "state", gateway.folder / "state")
    shutil.copy(first.folder / "state/emulator/ca.pem", gateway.folder)
    gateway.start()
    (gateway.folder / "ca.pem").write_text("nonsense", encoding="utf-8")
    sighup(gateway, "[c2dm] ca_file = ca.pem: expected a file with certificates in PEM")
    assert "the configuration is not reloaded" in gateway.log


def test_a_key_file_that_is_damaged_is_not_reloaded(make_gateway):
    """The key of before goes on to serve, and the error names the option."""
    gateway = make_gateway("[fcm]\nservice_account = key.json\n[emulator]\n")
    source = gateway.folder / "state/emulator/service-account.json"
    first = make_gateway("[fcm]\n[emulator]\n", emulator_port=gateway.emulator_port).start()
    first.stop()
    key = (first.folder / "state/emulator/service-account.json").read_bytes()
    source.parent.mkdir(parents=True)
    source.write_bytes(key)
    (gateway.folder / "key.json").write_bytes(key)
    gateway.start()
    gateway.push(b"g|demo-phone:key:{}")
    gateway.wait_for(messages_sent=1)
    (gateway.folder / "key.json").write_bytes(key[:100])
    sighup(gateway, "[fcm] service_account = key.json: expected a service account's key file")
    gateway.push(b"g|demo-phone:key:{}")
    gateway.wait_for(messages_sent=2)
