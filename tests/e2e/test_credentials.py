"""A real gateway that signs in to FCM without a service account's key."""

import json
import os
import signal
import time

import pytest

from node2dm_tw.emulator.testing import push_emulator, push_emulator_process
from tests.e2e.test_proxy import QUOTED, proxy
from tests.support.tools import module
from tests.support.waiting import wait_until

google = module("google.auth")

__all__ = ["proxy", "push_emulator", "push_emulator_process"]

KINDS = {
    "metadata": "metadata",
    "default: the metadata server": "default",
    "default: a file": "default",
    "external_account": "external_account",
    "impersonated_service_account": "impersonated_account",
    "authorized_user": "authorized_user",
    "service_account": "service_account",
}
"""The names of the accounts, and their values or the emulator's files."""


def environment(emulator, folder, **more):
    """The environment of a machine in Google Cloud without anyone's own credentials."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("GOOGLE_")}
    cloud = {"CLOUDSDK_CONFIG": str(folder), "GCE_METADATA_HOST": emulator.metadata_host}
    return {**kept, **cloud, **more}


def config(emulator, account, more=""):
    return (
        f"[fcm]\nservice_account = {account}\nproject = {emulator.project}\n"
        f"url = {emulator.fcm_url}\nca_file = {emulator.ca_file}\n{more}"
    )


def push(gateway, emulator, sent):
    """Send a push to a phone that is online, and wait until the phone has it."""
    with emulator.register(emulator.project) as phone:
        line = json.dumps({"token": phone.registration_id, "data": {"n": str(sent)}})
        gateway.push(line.encode())
        assert phone.receive()["data"] == {"n": str(sent)}
    gateway.wait_for(messages_received=sent, messages_sent=sent)


@pytest.mark.parametrize("http_client", ["treq", "curl"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_push_with_each_kind_of_account(make_gateway, push_emulator, tmp_path, kind, http_client):
    """It reaches the phone; so does the next once all tokens have expired."""
    value = KINDS[kind]
    account = value if value in ("metadata", "default") else getattr(push_emulator, value)
    more = {}
    if kind == "default: a file":
        more["GOOGLE_APPLICATION_CREDENTIALS"] = str(push_emulator.authorized_user)
    gateway = make_gateway(
        config(push_emulator, account),
        node2dm=f"http_client = {http_client}",
        environment=environment(push_emulator, tmp_path, **more),
    ).start()
    push(gateway, push_emulator, 1)
    push_emulator.expire_tokens()
    push(gateway, push_emulator, 2)
    assert [entry["status"] for entry in push_emulator.log("fcm")] == [200, 401, 200]
    project = push_emulator.log("fcm")[-1]["headers"].get("x-goog-user-project")
    is_user = kind in ("authorized_user", "default: a file")
    assert project == (push_emulator.project if is_user else None)
    asked = {entry["endpoint"] for entry in push_emulator.log()}
    assert ("metadata" in asked) == ("metadata" in kind)
    secret = json.loads(push_emulator.authorized_user.read_bytes())["refresh_token"]
    assert secret not in gateway.log
    assert "Unhandled" not in gateway.log
    assert "Warning" not in gateway.log
    assert gateway.stop() == 0


@pytest.mark.parametrize("fault", [{"cut": "request"}, {"delay": 60}], ids=["cut", "silent"])
def test_a_metadata_server_that_is_dead_for_a_while(make_gateway, push_emulator, tmp_path, fault):
    """The push waits, the reason is shown, and it goes once the server is there."""
    push_emulator.fault(endpoint="metadata", times=2, **fault)
    gateway = make_gateway(
        config(push_emulator, "metadata", "timeout = 1\n"),
        environment=environment(push_emulator, tmp_path),
    ).start()
    with push_emulator.register(push_emulator.project) as phone:
        gateway.push(json.dumps({"token": phone.registration_id, "data": "x"}).encode())
        reason = wait_until(lambda: gateway.stats().get("fcm.state_reason"), "a reason is shown")
        assert reason.startswith("127.0.0.1: "), reason
        assert f"fcm: sign-in failed: {reason}; next try in " in gateway.log
        assert phone.receive(30)["data"] == {"data": "x"}
    gateway.wait_for(messages_received=1, messages_sent=1)


def test_a_stop_while_a_sign_in_hangs(make_gateway, push_emulator, tmp_path):
    """It is delayed by nothing: neither by the file that hangs, nor by the thread that reads it."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    key = json.loads(push_emulator.external_account.read_bytes())
    key["credential_source"] = {"file": str(pipe)}
    file = tmp_path / "key.json"
    file.write_text(json.dumps(key), encoding="utf-8")
    gateway = make_gateway(config(push_emulator, file)).start()

    def open_for_writing():
        try:
            return os.open(pipe, os.O_WRONLY | os.O_NONBLOCK)
        except OSError:  # nobody reads yet
            return None

    writer = wait_until(open_for_writing, "the thread reads the file")
    try:
        began = time.monotonic()
        assert gateway.stop() == 0
        assert time.monotonic() - began < 3
    finally:
        os.close(writer)


def test_a_stop_while_a_server_is_silent(make_gateway, push_emulator, tmp_path):
    """It is not delayed by the request that the thread waits for."""
    push_emulator.fault(endpoint="metadata", delay=60)
    gateway = make_gateway(
        config(push_emulator, "metadata"), environment=environment(push_emulator, tmp_path)
    ).start()
    wait_until(lambda: push_emulator.faults()[0]["hits"], "the server is asked")
    began = time.monotonic()
    assert gateway.stop() == 0
    assert time.monotonic() - began < 3


def test_a_reload_to_another_kind(make_gateway, push_emulator, tmp_path):
    """A changed file is taken over, whatever its type; so is `metadata` in its place."""
    file = tmp_path / "key.json"
    file.write_bytes(push_emulator.service_account.read_bytes())
    gateway = make_gateway(
        config(push_emulator, file), environment=environment(push_emulator, tmp_path)
    ).start()
    push(gateway, push_emulator, 1)
    file.write_bytes(push_emulator.external_account.read_bytes())
    reload(gateway, times=2)
    push(gateway, push_emulator, 2)
    gateway.config = config(push_emulator, "metadata")
    gateway.write_config()
    reload(gateway, times=3)
    push(gateway, push_emulator, 3)
    names = ("token", "sts", "impersonate", "metadata", "fcm")
    order = [entry["endpoint"] for entry in push_emulator.log() if entry["endpoint"] in names]
    assert order == ["token", "fcm", "sts", "impersonate", "fcm", "metadata", "metadata", "fcm"]


def reload(gateway, times):
    """Send SIGHUP, and wait until the gateway has signed in so many times."""
    os.kill(gateway.pid, signal.SIGHUP)
    wait_until(lambda: gateway.log.count("fcm: signed in") == times, "it signs in again")
    assert gateway.log.count("reloaded: [fcm] service_account") == times - 1


def test_google_is_asked_through_the_proxy_and_the_machine_is_not(
    make_gateway, push_emulator, tmp_path, proxy
):
    """The exchange, the impersonation and the push go through it; a metadata server never."""
    address = f"http://user:{QUOTED}@127.0.0.1:{proxy.server_address[1]}"
    for number, account in enumerate((push_emulator.external_account, "metadata"), 1):
        before = proxy.tunnels
        gateway = make_gateway(
            config(push_emulator, account),
            node2dm=f"http_client = curl\nproxy = {address}",
            environment=environment(push_emulator, tmp_path),
        ).start()
        push(gateway, push_emulator, 1)
        assert gateway.stop() == 0
        assert (proxy.tunnels - before >= 3) == (account != "metadata"), number


def test_the_check_asks_nobody(make_gateway, push_emulator, tmp_path):
    """It says what is wrong, without a request to any of the servers."""
    machine = environment(push_emulator, tmp_path)
    gateway = make_gateway(environment=machine)

    def check(text):
        gateway.file.write_text(f"[node2dm]\nstate_dir = {tmp_path}\n{text}", encoding="utf-8")
        gateway.file.chmod(0o600)
        done = gateway.run_twistd("node2dm", "--check", "-c", str(gateway.file))
        return (done.stdout + done.stderr).splitlines()[-1], done.returncode

    for account in ("metadata", "default"):
        line = f"[fcm] project: expected a project ID; {account} names none"
        assert check(f"[fcm]\nservice_account = {account}\n") == (line, 1)
    for account in KINDS.values():
        path = account if account in ("metadata", "default") else getattr(push_emulator, account)
        assert check(config(push_emulator, path)) == (f"{gateway.file}: ok", 0)
    assert push_emulator.log() == []
