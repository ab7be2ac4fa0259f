"""The command line: what ends it before twistd forks, and what it hands on."""

import pytest
from twisted.python.usage import UsageError

from node2dm_tw.app.options import Options
from tests.unit.app.gateway import ACCOUNT

QUOTA = "The push service answered QuotaExceeded for route c2dm:\n"


@pytest.fixture(name="folder")
def _folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SSLKEYLOGFILE", raising=False)
    write(tmp_path, ACCOUNT)
    return tmp_path


def write(folder, text):
    file = folder / "config.ini"
    file.write_text(text, encoding="utf-8")
    file.chmod(0o600)


def parse(*arguments, parent=None):
    options = Options()
    options.parent = parent
    options.parseOptions(arguments)
    return options


def refused(capsys, *arguments, parent=None):
    with pytest.raises(SystemExit) as ended:
        parse(*arguments, parent=parent)
    return ended.value.code, "".join(capsys.readouterr())


def test_it_reads_the_file_and_remembers_where_it_is(folder, monkeypatch):
    """The file is read again at SIGHUP, when twistd has changed the folder it works in."""
    options = parse("-c", "config.ini")
    assert options.configuration.settings.gateway.state_dir == folder
    assert options.configuration.emulator is None
    monkeypatch.chdir("/")
    assert options.config_file.read() == options.configuration


def test_without_a_file_it_says_how_to_give_one():
    """The usage comes first."""
    with pytest.raises(UsageError, match=r"twistd node2dm -c config\.ini"):
        parse()


def test_check_says_ok_and_the_warnings(folder, capsys, monkeypatch):
    """Nothing is made, not even the emulator's files."""
    monkeypatch.setenv("SSLKEYLOGFILE", "/keys")
    write(folder, "[c2dm]\n[fcm]\n[emulator]\n[node2dm]\nstate_dir = state\n")
    code, text = refused(capsys, "--check", "-c", "config.ini")
    assert (code, text.count("config.ini: ok")) == (0, 1)
    assert "warning: SSLKEYLOGFILE" in text
    assert [file.name for file in folder.iterdir()] == ["config.ini"]


def test_an_emulator_gives_its_routes_their_options(folder):
    """A fault of its own is found with the others."""
    write(folder, f"[c2dm]\n[emulator]\nlisten = tcp:3\n[node2dm]\nstate_dir = {folder}/state\n")
    options = parse("-c", "config.ini")
    assert options.configuration.emulator.listen == "tcp:3"
    assert options.configuration.settings.routes[0].send_url.endswith(":3/c2dm/send")
    assert (folder / "state/emulator/service-account.json").exists()


def test_faults_end_it_with_status_1(folder, capsys):
    """Each has a line; twistd's own come first."""
    write(folder, "[c2dm]\nusername = x\n[emulator]\nlisten = nowhere\n")
    code, text = refused(capsys, "-c", "config.ini")
    assert code == 1
    assert text.startswith("[emulator] listen = nowhere: expected an endpoint")
    code, text = refused(capsys, "-c", "config.ini", parent={"pidfile": "/nowhere/pid"})
    assert (code, text) == (1, "twistd --pidfile: /nowhere is no folder\n")


def test_a_lock_on_every_route_ends_it_with_status_3(folder, capsys):
    """With what to do about it."""
    (folder / "quota.lock").write_text(QUOTA, encoding="utf-8")
    code, text = refused(capsys, "-c", "config.ini")
    assert code == 3
    assert text.startswith(f"{folder}/quota.lock exists: route c2dm was over its quota")
