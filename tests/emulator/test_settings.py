"""The emulator's settings."""

from pathlib import Path

import pytest

from node2dm_tw.emulator.settings import EmulatorSettings, address, differing, read_section


@pytest.mark.parametrize(
    ("listen", "expected"),
    [
        ("tcp:8443:interface=127.0.0.1", ("127.0.0.1", 8443)),
        ("tcp:port=99", ("127.0.0.1", 99)),
        ("tcp:0:interface=0.0.0.0", ("127.0.0.1", 0)),
        (r"tcp6:8443:interface=\:\:1", ("::1", 8443)),
        (r"tcp6:8443:interface=\:\:", ("::1", 8443)),
        ("tcp:8443:interface=192.168.1.5:backlog=9", ("192.168.1.5", 8443)),
    ],
)
def test_address(listen, expected):
    """A client's host and port come out of the endpoint string."""
    assert address(listen) == expected


@pytest.mark.parametrize(
    "listen",
    [
        "",
        "8443",
        "unix:/tmp/x",
        "tcp",
        "tcp:x",
        "tcp:70000",
        "tcp:1:interface=localhost",
        "tcp:\N{SUPERSCRIPT TWO}",
    ],
)
def test_other_endpoints_are_refused(listen, tmp_path):
    """An endpoint without a port and an address cannot be announced, so it is refused."""
    with pytest.raises(ValueError, match=r"wanted|must be"):
        EmulatorSettings(tmp_path, listen)


def test_defaults():
    """An empty section is a whole configuration."""
    settings, faults = read_section({}, Path("/state"), Path("/"))
    assert faults == []
    assert settings == EmulatorSettings(Path("/state"))
    assert settings.folder == Path("/state/emulator")


def test_everything_is_read(tmp_path):
    """Each option has its form."""
    (tmp_path / "accounts").write_text("a@x:one,two\n\nb@x:p:q\n", encoding="utf-8")
    settings, faults = read_section(
        {
            "listen": "tcp:9",
            "phones": "one, two",
            "accounts_file": "accounts",
            "sender_quota": "200000/d",
            "device_quota": "20 / m",
        },
        tmp_path,
        tmp_path,
    )
    assert faults == []
    assert settings == EmulatorSettings(
        tmp_path,
        "tcp:9",
        ("one", "two"),
        {"a@x": "one,two", "b@x": "p:q"},
        (200000, 86400.0),
        (20, 60.0),
    )


def test_all_faults_are_reported_together(tmp_path):
    """Every wrong option is named, and no secret is repeated."""
    settings, faults = read_section(
        {
            "listen": "nowhere",
            "phones": "a b",
            "accounts": "hunter2",
            "accounts_file": "absent",
            "sender_quota": "many",
            "colour": "red",
        },
        tmp_path,
        tmp_path,
    )
    assert settings is None
    assert {"colour", "listen", "phones", "accounts", "accounts_file", "sender_quota"} == {
        option for option, _ in faults
    }
    assert "hunter2" not in str(faults)


def test_secrets_stay_out_of_the_repr():
    """A password never shows in a log that prints the settings."""
    assert "hunter2" not in repr(EmulatorSettings(Path("/"), accounts={"a@x": "hunter2"}))


def test_what_differs(tmp_path):
    """Options by name; where one has none, those that the other does not have by default empty."""
    old = EmulatorSettings(tmp_path)
    assert differing(old, EmulatorSettings(tmp_path / "other")) == []
    assert differing(old, EmulatorSettings(tmp_path, "tcp:9", device_quota=(1, 1.0))) == [
        "listen",
        "device_quota",
    ]
    assert differing(None, old) == differing(old, None) == ["listen", "phones"]
    assert differing(None, None) == []
