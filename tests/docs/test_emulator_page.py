"""docs/emulator.md says what is so: its examples run, its tables are whole."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from node2dm_tw.emulator.google.fault_responder import FaultResponder
from node2dm_tw.emulator.google.faults import ENDPOINTS, Faults
from node2dm_tw.emulator.google.messages import IncomingRequest
from node2dm_tw.emulator.settings import OPTIONS, EmulatorSettings, read_section
from tests.support.tools import module, tool

TEXT = (Path(__file__).parents[2] / "docs" / "emulator.md").read_text(encoding="utf-8")


def _blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", TEXT, re.DOTALL)


def _block(language, part):
    """The one block of this language that has `part` in it."""
    (found,) = [block for block in _blocks(language) if part in block]
    return found


def _substituted(text, emulator):
    """With the address and the folder of this emulator."""
    folder = str(emulator.ca_file.parent)
    return text.replace("https://127.0.0.1:8443", emulator.base_url).replace("run/emulator", folder)


def _run(*command, cwd="/"):
    done = subprocess.run(
        command, cwd=cwd, capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_firebase_admin_for_python(push_emulator):
    """The phone of `make run` gets what the program sends."""
    module("firebase_admin")
    program = _substituted(_block("python", "demo-fcm-phone"), push_emulator)
    phone = push_emulator.register(push_emulator.project)
    program = program.replace("demo-fcm-phone", phone.registration_id)
    with phone:
        printed = _run(sys.executable, "-c", program)
        event = phone.receive()
    assert printed == f"projects/{push_emulator.project}/messages/{event['message_id']}\n"
    assert event["notification"] == {"title": "Hello", "body": "World"}


def test_the_tests_of_an_application(tmp_path):
    """As they stand they pass, in a folder that has nothing else."""
    module("firebase_admin")
    (tmp_path / "conftest.py").write_text(_block("python", "pytest_plugins"), encoding="utf-8")
    (tmp_path / "test_push.py").write_text(_block("python", "def app("), encoding="utf-8")
    output = _run(sys.executable, "-m", "pytest", "-q", "test_push.py", cwd=tmp_path)
    assert re.search("^3 passed", output, re.MULTILINE)


def test_every_python_example_is_run():
    """By one of the tests above."""
    assert len(_blocks("python")) == 3


def test_shell_examples(push_emulator):
    """The commands work, at another port and with another folder."""
    tool("curl")
    script = _substituted(_block("sh", "curl"), push_emulator)
    assert _run("sh", "-euc", script).startswith("id=")


def test_the_phones_command(push_emulator):
    """Its options are the ones the page names."""
    command = _substituted(_block("sh", "node2dm-phone"), push_emulator)
    arguments = command.removeprefix(".venv/bin/node2dm-phone ").split()
    phone = [sys.executable, "-m", "node2dm_tw.emulator.phone.terminal", *arguments]
    with subprocess.Popen(
        [*phone, f"--url={push_emulator.base_url}"], stdout=subprocess.PIPE
    ) as process:
        try:
            assert process.stdout.readline().startswith(b"registered ")
        finally:
            process.kill()


@pytest.mark.parametrize("block", _blocks("json"))
def test_rules(block):
    """Each rule of the page is one."""
    assert (
        Faults(FaultResponder(None).errors)
        .add(IncomingRequest("POST", "/faults", body=block.encode()))
        .status
        == 200
    )


def _rows(header):
    table = re.search(rf"^\| {header} \|.*\n\|[-|]+\n((?:\|.*\n)+)", TEXT, re.MULTILINE)[1]
    return {row.split("|")[1].strip().strip("`"): row.split("|")[2] for row in table.splitlines()}


def test_every_field_of_a_rule():
    """The table has them all, and the endpoints too."""
    rows = _rows("field")
    refused = Faults({}).add(IncomingRequest("POST", "/faults", body=b'{"x": 1}'))
    known = json.loads(refused.body)["error"].split("known are ")[1].split(", ")
    assert sorted(rows) == sorted(known)
    assert [name for name in ENDPOINTS if name not in rows["endpoint"]] == []


def test_every_error_code():
    """The table of codes is whole."""
    rows = _rows("endpoint")
    for endpoint, codes in FaultResponder(None).errors.items():
        assert set(codes) == set(
            re.findall(r"[A-Za-z]+[_A-Z][A-Za-z_]*|Unknown", rows[endpoint])
        ) - {"FcmError"}


def test_every_option():
    """The table has them all, with their defaults."""
    options = {name: value.strip().strip("`") for name, value in _rows("option of .*?").items()}
    settings, errors = read_section(options, Path("/"), Path("/"))
    assert errors == []
    assert settings == EmulatorSettings(Path("/"))
    assert tuple(options) == OPTIONS
