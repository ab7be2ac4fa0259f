"""Gateway and emulator in one process, as `make run` starts them."""

import re
import shlex
import signal
import subprocess

import pytest

from node2dm_tw.emulator.phone.client import EmulatorClient

PUSHES = (
    b"demo-phone:greeting:hello",
    b'{"route": "fcm", "token": "demo-fcm-phone","notification": {"title": "Hi", "body": "there"}}',
)


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_the_second_run_signs_in_with_the_kept_token(make_gateway, how):
    """No 401 in either run, and no sign-in in the second while the kept token is good."""
    phones = "[emulator]\nphones = demo-phone, demo-fcm-phone\n"
    gateway = make_gateway(f"[c2dm]\n[fcm]\n{phones}")
    url = f"https://127.0.0.1:{gateway.emulator_port}"
    emulator = EmulatorClient(url, gateway.folder / "state/emulator/ca.pem")
    logins = []
    for _ in range(2):
        gateway.start()
        gateway.push(*PUSHES)
        gateway.wait_for(messages_received=2, messages_in_queue=0, messages_sent=2)
        entries = emulator.ask("GET", "/log")["entries"]
        assert {entry["status"] for entry in entries} == {200}
        logins.append([entry for entry in entries if entry["endpoint"] == "login"])
        gateway.stop(how)
    assert [len(each) for each in logins] == [1, 0]
    assert not re.search(r"\b401\b", gateway.log)
    assert gateway.log.count("phone demo-phone received collapse_key=greeting") == 2
    shown = "phone demo-fcm-phone received collapse_key= data={} notification="
    assert gateway.log.count(shown + '{"title": "Hi", "body": "there"}') == 2


def test_the_phone_that_the_log_names_gets_pushes(make_gateway):
    """The command is good as it stands; over FCM with the project as sender."""
    gateway = make_gateway("[c2dm]\n[fcm]\n[emulator]\n").start()
    shown = re.search(r"another one: (.*)$", gateway.log, re.MULTILINE)
    command = [*shlex.split(shown[1]), "--count=1"]
    fcm = [*command, "--sender=node2dm-emulator"]
    c2dm_push, fcm_push = PUSHES
    for arguments, push, received in (
        (command, c2dm_push, 'collapse_key=greeting data={"data": "hello"}'),
        (fcm, fcm_push, 'collapse_key= data={} notification={"title": "Hi", "body": "there"}'),
    ):
        with subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True) as phone:
            token = phone.stdout.readline().removeprefix("registered ").strip()
            assert phone.stdout.readline().startswith("listening")
            gateway.push(re.sub(rb"demo-[a-z-]+", token.encode(), push))
            assert phone.stdout.read().splitlines() == [f"message {received}"]
            assert phone.wait() == 0
