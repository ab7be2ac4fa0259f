"""docs/emulator.md says what is so: its examples run, its tables are whole."""

import json
import re
import subprocess
import sys
import urllib.request
from pathlib import Path
from urllib.parse import urlencode

import pytest

from node2dm_tw.emulator.faults import ENDPOINTS, Faults
from node2dm_tw.emulator.faulty import FaultyAnswers
from node2dm_tw.emulator.messages import Call
from node2dm_tw.emulator.settings import DEFAULT_LISTEN, OPTIONS, read_section
from tests.support.tools import tool

TEXT = (Path(__file__).parents[2] / "docs" / "emulator.md").read_text(encoding="utf-8")
SENDER = "sender@example.com"


def _blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", TEXT, re.DOTALL)


def _push_until_it_goes(emulator, registration_id):
    """Stand for an application that signs in, pushes, and tries again."""
    context = emulator.client._connect(1)._context
    form = urlencode({"Email": SENDER, "Passwd": "x", "service": "ac2dm"}).encode()
    with urllib.request.urlopen(emulator.login_url, form, context=context) as answer:
        auth = answer.read().decode().split("Auth=")[1].strip()
    fields = {"registration_id": registration_id, "collapse_key": "k", "data.data": "hello"}
    headers = {"Authorization": f"GoogleLogin auth={auth}"}
    request = urllib.request.Request(emulator.send_url, urlencode(fields).encode(), headers)
    for _ in range(2):
        try:
            with urllib.request.urlopen(request, context=context) as answer:
                assert answer.read().startswith(b"id=")
            return
        except urllib.error.HTTPError as error:
            error.close()


@pytest.mark.parametrize("block", _blocks("python"))
def test_python_examples(block, push_emulator):
    """Each test of the page passes."""
    names = {"my_application_pushes_to": _push_until_it_goes}
    exec(block, names)
    tests = [each for name, each in names.items() if name.startswith("test_")]
    assert tests
    for test in tests:
        push_emulator.reset()
        test(push_emulator)


@pytest.mark.parametrize("block", _blocks("sh"))
def test_shell_examples(block, push_emulator):
    """Each command of the page works, at another port and with another folder."""
    tool("curl")
    script = block.replace("https://127.0.0.1:8443", push_emulator.base_url)
    script = script.replace("state/emulator/ca.pem", str(push_emulator.ca_file))
    done = subprocess.run(["sh", "-euc", script], capture_output=True, check=False, timeout=60)
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.startswith(b"id=")


def test_the_phones_command(push_emulator):
    """Its options are the ones the page names."""
    (command,) = re.findall(r"^    node2dm-phone (.*)$", TEXT, re.MULTILINE)
    arguments = command.replace("state/emulator/ca.pem", str(push_emulator.ca_file)).split()
    phone = [sys.executable, "-m", "node2dm_tw.emulator.phone", *arguments]
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
        Faults(FaultyAnswers(None).errors).add(Call("POST", "/faults", body=block.encode())).status
        == 200
    )


def _rows(header):
    table = re.search(rf"^\| {header} \|.*\n\|[-|]+\n((?:\|.*\n)+)", TEXT, re.MULTILINE)[1]
    return {row.split("|")[1].strip().strip("`"): row.split("|")[2] for row in table.splitlines()}


def test_every_field_of_a_rule():
    """The table has them all, and the endpoints too."""
    rows = _rows("field")
    refused = Faults({}).add(Call("POST", "/faults", body=b'{"x": 1}'))
    known = json.loads(refused.body)["error"].split("known are ")[1].split(", ")
    assert sorted(rows) == sorted(known)
    assert [name for name in ENDPOINTS if name not in rows["endpoint"]] == []


def test_every_error_code():
    """The table of codes is whole."""
    rows = _rows("endpoint")
    for endpoint, codes in FaultyAnswers(None).errors.items():
        assert set(codes) == set(
            re.findall(r"[A-Za-z]+[_A-Z][A-Za-z_]*|Unknown", rows[endpoint])
        ) - {"FcmError"}


def test_every_option():
    """The section of the page is good once its remarks are taken off."""
    block = re.search(r"^    \[emulator\]\n((?:    .*\n)+)", TEXT, re.MULTILINE)[1]
    options = dict(re.match(r"    (\w+) = ?(\S*)", line).groups() for line in block.splitlines())
    settings, errors = read_section(options, Path("/"), Path("/"))
    assert errors == []
    assert settings.listen == DEFAULT_LISTEN
    assert tuple(options) == OPTIONS
