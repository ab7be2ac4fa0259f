"""``node2dm-phone``."""

import json
import signal
import subprocess
import sys
import urllib.request
from contextlib import contextmanager
from urllib.parse import urlencode

import pytest

from node2dm_tw.emulator.phone.client import RequestRejected
from node2dm_tw.emulator.phone.terminal import PhoneTerminal, main

SENDER = "sender@example.com"


@contextmanager
def _command(emulator, *arguments):
    """Run the command in a process of its own."""
    command = [sys.executable, "-m", "node2dm_tw.emulator.phone.terminal"]
    place = [f"--url={emulator.base_url}", f"--ca-file={emulator.ca_file}"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen([*command, *place, *arguments], **pipes) as process:
        try:
            yield process
        finally:
            process.kill()


def _push(emulator, registration_id, **data):
    """Send over C2DM, with nothing but the standard library."""
    context = emulator.client._connect(1)._context
    form = {"Email": SENDER, "Passwd": "x", "service": "ac2dm"}
    body = urlencode(form).encode()
    with urllib.request.urlopen(emulator.login_url, body, context=context) as answer:
        auth = answer.read().decode().split("Auth=")[1].strip()
    fields = {"registration_id": registration_id, "collapse_key": "k"}
    fields.update({f"data.{name}": value for name, value in data.items()})
    request = urllib.request.Request(
        emulator.send_url,
        urlencode(fields).encode(),
        {"Authorization": f"GoogleLogin auth={auth}"},
    )
    with urllib.request.urlopen(request, context=context) as answer:
        assert answer.read().startswith(b"id=")


def test_register_receive_unregister(push_emulator):
    """It shows what comes as it comes, and unregisters when it is ended."""
    with _command(push_emulator, "--unregister", f"--sender={SENDER}") as process:
        name, registration_id = process.stdout.readline().decode().split()
        assert name == "registered"
        assert process.stdout.readline().decode().split() == ["listening", registration_id]
        _push(push_emulator, registration_id, data="\N{SNOWMAN}\n")
        line = process.stdout.readline().decode()
        assert line == 'message collapse_key=k data={"data": "\N{SNOWMAN}\\n"}\n'
        process.send_signal(signal.SIGTERM)
        assert process.stdout.readline().decode().split() == ["unregistered", registration_id]
        assert process.wait(60) == 0
        assert process.stderr.read() == b""
    assert push_emulator.stats()["phones"] == 1


def test_count_and_json(push_emulator):
    """After so many messages it ends; events can be lines of JSON."""
    phone = push_emulator.register(SENDER)
    _push(push_emulator, phone.registration_id, a="1")
    with _command(push_emulator, f"--id={phone.registration_id}", "--count=1", "--json") as process:
        output, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) == (0, b"")
    listening, message = map(json.loads, output.splitlines())
    assert listening["event"] == "listening"
    assert (message["event"], message["data"]) == ("message", {"a": "1"})


def _main(emulator, *arguments):
    place = [f"--url={emulator.base_url}", f"--ca-file={emulator.ca_file}"]
    return main([*place, *arguments])


def test_unregister_at_once(push_emulator, capsys):
    """With an ID it unregisters and ends; there is nothing to unregister twice."""
    phone = push_emulator.register(SENDER)
    arguments = ("--unregister", f"--id={phone.registration_id}")
    assert _main(push_emulator, *arguments) == 0
    assert capsys.readouterr().out.startswith("unregistered ")
    assert _main(push_emulator, *arguments) == 4
    assert "404" in capsys.readouterr().err


def test_a_refused_registration(push_emulator, capsys):
    """The error is named, with a status of its own."""
    assert _main(push_emulator, "--sender=nobody") == 3
    assert "INVALID_SENDER" in capsys.readouterr().err


def test_an_emulator_that_is_not_there(tmp_path, capsys):
    """One line and status 1."""
    assert main(["--url=https://127.0.0.1:1", "--tries=1"]) == 1
    assert "cannot be reached" in capsys.readouterr().err


def test_wrong_arguments(capsys):
    """Argparse's status."""
    with pytest.raises(SystemExit) as raised:
        main(["--count=0"])
    assert raised.value.code == 2
    assert "--count" in capsys.readouterr().err


def test_the_end_of_a_registration(push_emulator):
    """A phone that is unregistered by someone else says so and ends."""
    phone = push_emulator.register(SENDER)
    lines = []

    def write(line):
        lines.append(line)
        if line.startswith("listening"):
            phone.unregister()

    shown = PhoneTerminal(push_emulator.client, write, None, phone.registration_id)
    assert shown.listen(None) is False
    assert lines[-1] == f"unregistered {phone.registration_id}"


def test_a_new_id_and_a_broken_stream(push_emulator):
    """It goes on with the new ID, after a stream that broke too."""
    phone = push_emulator.register(SENDER)
    push_emulator.fault(endpoint="messages", cut="request")
    lines, slept = [], []

    shown = PhoneTerminal(push_emulator.client, lines.append, slept.append, phone.registration_id)
    former = phone.registration_id
    fresh = push_emulator.client.refresh(former)
    _push(push_emulator, fresh, a="1")
    assert shown.listen(1) is True
    assert slept == [1.0]
    assert shown.registration_id == fresh
    assert [line.split()[0] for line in lines] == ["listening", "registration", "message"]


def test_registration_is_tried_again(push_emulator):
    """SERVICE_NOT_AVAILABLE makes it wait, longer each time."""
    push_emulator.fault(endpoint="register", error="SERVICE_NOT_AVAILABLE", times=2)
    slept = []
    phone = PhoneTerminal(push_emulator.client, lambda line: None, slept.append)
    phone.register(SENDER, "app", 3)
    assert phone.registration_id
    assert 0.5 <= slept[0] <= 1 <= slept[1] <= 2
    push_emulator.fault(endpoint="register", error="SERVICE_NOT_AVAILABLE", times=2)
    with pytest.raises(RequestRejected):
        phone.register(SENDER, "app", 2)
