"""`twistd node2dm --check`: what is wrong with a configuration, and nothing else happens."""

import json
import os
import socket
import subprocess

import pytest

from node2dm_tw.emulator.files import ensure_files
from node2dm_tw.emulator.settings import EmulatorSettings
from tests.e2e.test_start import FAULTS, FAULTY, PASSWORD, files_below, taken
from tests.support.gateway import TWISTD
from tests.support.odd_files import OBEYING_MODES
from tests.support.waiting import PATIENCE

ACCOUNT = f"[c2dm]\nusername = sender@example.com\npassword = {PASSWORD}\n"


def listing(folder):
    """Everything below a folder, with what would change if it were written."""
    return {
        path: (status.st_mode, status.st_mtime_ns, status.st_ctime_ns, status.st_size)
        for path in (folder, *folder.rglob("*"))
        for status in [path.lstat()]
    }


def check(gateway, text=None, *options, prefix=(), look=listing):
    """Run a check; nothing may have been written. Gives the exit status, and what it said."""
    gateway.write_config()
    if text is not None:
        gateway.file.write_text(text, encoding="utf-8")
    before = look(gateway.folder)
    done = subprocess.run(
        [*prefix, TWISTD, *options, "node2dm", "--check", "-c", "config.ini"],
        cwd=gateway.folder,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert look(gateway.folder) == before
    assert PASSWORD not in done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done.returncode, done.stdout, done.stderr


OK = (0, "config.ini: ok\n", "")


EMULATED = "[c2dm]\n[fcm]\n[emulator]\n"


@pytest.mark.parametrize("options", [(), ("-n",)], ids=["daemon", "foreground"])
@pytest.mark.parametrize(
    "config",
    [
        ACCOUNT,
        EMULATED,
        "[c2dm]\nca_file = state/emulator/ca.pem\n"
        "[fcm]\nca_file = state/emulator/ca.pem\n"
        "service_account = state/../state/emulator/service-account.json\n[emulator]\n",
    ],
    ids=["account", "emulator", "the emulator's files"],
)
def test_a_configuration_that_is_right(make_gateway, config, options):
    """It is said to be; what a start makes, files of the emulator's too, need not be there yet."""
    assert check(make_gateway(config), None, *options) == OK


def test_a_configuration_in_use(make_gateway):
    """It can be checked while a gateway runs with it, and when it has run."""
    gateway = make_gateway(EMULATED).start()
    gateway.push(b"demo-phone:key:1", b"g|demo-phone:key:{}")
    gateway.wait_for(messages_sent=2)
    assert check(gateway, look=files_below) == OK
    assert gateway.stop() == 0
    assert check(gateway) == OK


def test_files_of_the_emulator_that_are_damaged(make_gateway):
    """The start makes them anew, so they are no error, and are left alone."""
    gateway = make_gateway(EMULATED)
    folder = gateway.folder / "state/emulator"
    folder.mkdir(parents=True)
    for name in ("ca.pem", "server.pem", "service-account.json"):
        (folder / name).write_text("nonsense", encoding="utf-8")
    assert check(gateway) == OK


def test_every_error_as_a_start_would_tell_it(make_gateway):
    """The same lines in the same order, and status 1."""
    gateway = make_gateway()
    status, out, said = check(gateway, FAULTY)
    assert (status, out) == (1, "")
    assert [line.partition(": ")[0] for line in said.splitlines()] == FAULTS
    assert gateway.run("-n", config=FAULTY).stderr == said


def test_nothing_listens(make_gateway):
    """Ports that others have are not asked for."""
    gateway = make_gateway()
    with (
        taken(gateway.udp, socket.SOCK_DGRAM),
        taken(gateway.stats_port),
        taken(gateway.emulator_port),
    ):
        assert check(gateway) == OK


@pytest.mark.parametrize("config", [ACCOUNT, "[c2dm]\n[emulator]\n"], ids=["account", "emulator"])
@pytest.mark.parametrize("place", ["state", "state/below", "file", "file/below"])
def test_a_state_dir_that_cannot_be_written(make_gateway, config, place):
    """One that is a file or may not be written, and one that cannot be made there."""
    if not OBEYING_MODES:
        pytest.skip("needs setpriv, to obey the modes of files as root")
    gateway = make_gateway(config, state_dir=place)
    (gateway.folder / "state").mkdir(mode=0o500)
    (gateway.folder / "file").touch()
    first = gateway.folder / place.partition("/")[0]
    reason = "Permission denied" if first.is_dir() else "Not a directory"
    error = f"state_dir = {place}: expected a folder that can be written ({reason}: {first})"
    assert check(gateway, prefix=OBEYING_MODES) == (1, "", f"[node2dm] {error}\n")


def test_what_is_wrong_comes_with_the_state_dir(make_gateway):
    """A state_dir that cannot be used hides no other error, nor do they hide it."""
    gateway = make_gateway()
    text = f"[node2dm]\nstate_dir = config.ini\nudp = x\n{ACCOUNT}timeout = x\n[emulator]\n"
    _, _, said = check(gateway, f"{text}phones = a b\n")
    assert [line.partition(":")[0] for line in said.splitlines()] == [
        "[node2dm] udp = x",
        "[node2dm] state_dir = config.ini",
        "[emulator] phones = a b",
        "[c2dm] timeout = x",
    ]


def test_a_secret_that_others_can_read(make_gateway):
    """It is a warning, and the configuration is ok."""
    status, out, said = check(make_gateway(ACCOUNT, mode=0o644))
    assert (status, out) == OK[:2]
    assert said.startswith("warning: ")
    assert "config.ini contains a secret and can be read by other users" in said


def test_a_key_file_that_this_user_may_not_read(make_gateway):
    """The error says whose it is, and who we are; of the configuration itself too."""
    if not OBEYING_MODES:
        pytest.skip("needs setpriv, to obey the modes of files as root")
    gateway = make_gateway("[fcm]\nservice_account = key.json\n")
    (gateway.folder / "key.json").write_text("{}", encoding="utf-8")
    (gateway.folder / "key.json").chmod(0o040)
    status, _, said = check(gateway, prefix=OBEYING_MODES)
    user = os.geteuid()
    assert status == 1
    assert f"; it belongs to user {user}, mode 040; this is user {user})" in said
    gateway.mode = 0o000
    status, _, said = check(gateway, prefix=OBEYING_MODES)
    reason = f"Permission denied; it belongs to user {user}, mode 000; this is user {user}"
    assert (status, said) == (1, f"{gateway.file}: {reason}\n")


def test_a_real_key_and_a_real_bundle(make_gateway):
    """They are read as at a start, also where there is an emulator."""
    gateway = make_gateway(
        "[fcm]\nservice_account = key.json\nca_file = ca.pem\n[emulator]\n", state_dir="own"
    )
    places = ensure_files(EmulatorSettings(gateway.folder / "other"))
    key = json.loads(places.service_account.read_bytes())
    (gateway.folder / "key.json").write_text(json.dumps(key), encoding="utf-8")
    (gateway.folder / "key.json").chmod(0o600)
    (gateway.folder / "ca.pem").write_bytes(places.ca_file.read_bytes())
    assert check(gateway) == OK
    (gateway.folder / "key.json").write_text(json.dumps(key | {"type": "x"}), encoding="utf-8")
    (gateway.folder / "ca.pem").write_bytes(places.ca_file.read_bytes()[:100])
    status, _, said = check(gateway)
    assert status == 1
    assert said == (
        "[fcm] ca_file = ca.pem: expected a file with certificates in PEM"
        " (one of them is damaged)\n"
        "[fcm] service_account = key.json: expected a service account's key file"
        " (its type is x, not service_account)\n"
    )
