"""The emulator's files."""

import json
import stat
import time

import pytest
from cryptography import x509

from node2dm_tw.emulator.files import ensure_files, find_endpoints, server_file
from node2dm_tw.emulator.settings import EmulatorSettings
from tests.support.odd_files import ODD, is_untouched


@pytest.fixture(name="settings")
def _settings(tmp_path):
    return EmulatorSettings(tmp_path / "state")


def _moments(settings):
    return {path.name: path.stat().st_mtime_ns for path in settings.folder.iterdir()}


def _contents(settings):
    return {path.name: path.read_bytes() for path in settings.folder.iterdir()}


def test_files_are_for_their_owner_alone(settings):
    """Keys are readable by their owner only, and so is the folder."""
    ensure_files(settings)
    assert stat.S_IMODE(settings.folder.stat().st_mode) == 0o700
    keys = (
        "service-account",
        "authorized-user",
        "external-account",
        "impersonated-service-account",
    )
    assert set(_contents(settings)) == {
        "ca.pem",
        "server.pem",
        "subject-token",
        "impersonated-service-account.json",
        *(f"{name}.json" for name in keys),
    }
    assert {stat.S_IMODE(path.stat().st_mode) for path in settings.folder.iterdir()} == {0o600}


def test_what_is_good_is_kept(settings):
    """A second start changes nothing, so that clients may keep their copies."""
    ensure_files(settings)
    before = _contents(settings), _moments(settings)
    ensure_files(settings)
    assert (_contents(settings), _moments(settings)) == before


NAMES = ["ca.pem", "server.pem", "service-account.json", "authorized-user.json"]


@pytest.mark.parametrize("damage", [b"", b"nonsense", b"[" * 100_000, b'{"private_key": 5}', None])
@pytest.mark.parametrize("name", NAMES)
def test_what_is_damaged_is_made_again(settings, name, damage):
    """A damaged or missing file is replaced, and what belongs together fits again."""
    ensure_files(settings)
    before = _contents(settings)
    if damage is None:
        (settings.folder / name).unlink()
    else:
        (settings.folder / name).write_bytes(damage)
    ensure_files(settings)
    after = _contents(settings)
    assert after[name] not in (damage, before[name])
    authority = x509.load_pem_x509_certificate(after["ca.pem"])
    x509.load_pem_x509_certificate(after["server.pem"]).verify_directly_issued_by(authority)
    user = json.loads(after["authorized-user.json"])
    assert after["subject-token"] == user["refresh_token"].encode()
    impersonated = json.loads(after["impersonated-service-account.json"])
    assert impersonated["source_credentials"] == user


@pytest.mark.parametrize("kind", ODD)
@pytest.mark.parametrize("name", NAMES)
def test_what_is_no_file_gives_way_to_one(settings, monkeypatch, name, kind):
    """A FIFO is not waited for and a link not followed; a directory ends the start."""
    ensure_files(settings)
    monkeypatch.chdir(settings.folder)
    (settings.folder / name).unlink()
    ODD[kind](settings.folder / name)
    if kind == "a directory":
        with pytest.raises(IsADirectoryError):
            ensure_files(settings)
    else:
        ensure_files(settings)
        assert stat.S_ISREG((settings.folder / name).lstat().st_mode)
    assert is_untouched(settings.folder / name)


def test_a_folder_behind_a_link_is_left_alone(settings, tmp_path):
    """Its mode would be changed, and keys be written to where nobody expects them."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir(0o755)
    settings.state_dir.mkdir()
    settings.folder.symlink_to(elsewhere)
    with pytest.raises(NotADirectoryError, match="it is a symbolic link"):
        ensure_files(settings)
    assert stat.S_IMODE(elsewhere.stat().st_mode) == 0o755
    assert not list(elsewhere.iterdir())


def test_what_expires_is_made_again_in_time(settings):
    """A month before its end a certificate is replaced."""
    ensure_files(settings)
    before = _contents(settings)
    ensure_files(settings, now=time.time() + 710 * 86400)
    after = _contents(settings)
    assert before["ca.pem"] != after["ca.pem"]
    assert before["service-account.json"] == after["service-account.json"]


def test_another_address_is_added(tmp_path):
    """The certificate names the address it is served at."""
    ensure_files(EmulatorSettings(tmp_path))
    settings = EmulatorSettings(tmp_path, listen="tcp:1:interface=192.168.1.5")
    ensure_files(settings)
    server = x509.load_pem_x509_certificate(server_file(settings).read_bytes())
    names = server.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["localhost"]
    shown = {str(each) for each in names.get_values_for_type(x509.IPAddress)}
    assert shown == {"127.0.0.1", "::1", "192.168.1.5"}


def test_another_port_keeps_the_key(tmp_path):
    """Only token_uri follows the port."""
    first = ensure_files(EmulatorSettings(tmp_path))
    before = json.loads(first.service_account.read_text())
    second = ensure_files(EmulatorSettings(tmp_path, listen="tcp:9"))
    after = json.loads(second.service_account.read_text())
    assert after == {**before, "token_uri": "https://127.0.0.1:9/token"}
    assert after["type"] == "service_account"


def test_find_endpoints(settings):
    """URLs and files are known before anything exists."""
    where = find_endpoints(settings)
    assert where.login_url == "https://127.0.0.1:8443/accounts/ClientLogin"
    assert where.send_url == "https://127.0.0.1:8443/c2dm/send"
    assert where.fcm_url == ("https://127.0.0.1:8443/v1/projects/node2dm-emulator/messages:send")
    assert where.ca_file == settings.folder / "ca.pem"
    assert not settings.folder.exists()
    six = EmulatorSettings(settings.state_dir, listen=r"tcp6:0:interface=\:\:1")
    assert find_endpoints(six, 7).token_uri == "https://[::1]:7/token"
