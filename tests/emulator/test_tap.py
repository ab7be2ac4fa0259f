"""``twistd c2dm-emulator``'s options."""

import pytest
from twisted.python.usage import UsageError

from node2dm_tw.emulator.service import EmulatorService
from node2dm_tw.emulator.tap import Options, makeService


def _options(*arguments):
    options = Options()
    options.parseOptions(arguments)
    return options


def test_without_a_file(tmp_path, monkeypatch):
    """The working directory is where state is kept."""
    monkeypatch.chdir(tmp_path)
    options = _options()
    assert options.settings.state_dir == tmp_path
    assert (tmp_path / "emulator" / "ca.pem").exists()
    assert isinstance(makeService(options), EmulatorService)


def test_the_gateways_file_serves(tmp_path):
    """Other sections are left alone; paths are relative to the file."""
    file = tmp_path / "config.ini"
    file.write_text(
        "[node2dm]\nstate_dir = state\nudp = x\n[c2dm]\npassword = 100%\n"
        "[emulator]\nphones = one\nlisten = tcp:9\n",
        encoding="utf-8",
    )
    settings = _options("-c", str(file)).settings
    assert settings.phones == ("one",)
    assert settings.state_dir == tmp_path / "state"


def test_all_faults_at_once(tmp_path):
    """Every fault is a line: section, option, what is wanted."""
    file = tmp_path / "config.ini"
    file.write_text("[emulator]\ncolour = red\nlisten = x\n", encoding="utf-8")
    with pytest.raises(UsageError) as raised:
        _options("--config", str(file))
    lines = str(raised.value).splitlines()
    assert [line.split(": ")[0] for line in lines] == ["[emulator] colour", "[emulator] listen"]


@pytest.mark.parametrize("content", [None, b"no section", b"\xff"])
def test_an_unreadable_file(tmp_path, content):
    """What cannot be read is one line too."""
    file = tmp_path / "config.ini"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(UsageError, match=r"config\.ini"):
        _options("-c", str(file))


def test_a_state_dir_that_cannot_be_made(tmp_path):
    """A file in the way is said so."""
    (tmp_path / "state").write_text("", encoding="utf-8")
    file = tmp_path / "config.ini"
    file.write_text("[node2dm]\nstate_dir = state\n", encoding="utf-8")
    with pytest.raises(UsageError, match=r"\[node2dm\] state_dir"):
        _options("-c", str(file))
