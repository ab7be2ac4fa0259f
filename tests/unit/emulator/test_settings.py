"""The emulator's settings."""

import os
from pathlib import Path

import pytest

from node2dm_tw.emulator.settings import (
    OPTIONS,
    EmulatorSettings,
    address,
    changed_options,
    read_section,
)


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
def test_other_endpoints_are_rejected(listen):
    """An endpoint without a port and an address cannot be announced, so it is an error."""
    with pytest.raises(ValueError, match=r"^an (endpoint such as|IP address)"):
        address(listen)


def test_defaults():
    """An empty section is a whole configuration."""
    settings, errors = read_section({}, Path("/state"), Path("/"))
    assert errors == []
    assert settings == EmulatorSettings(Path("/state"))
    assert settings.folder == Path("/state/emulator")


def test_everything_is_read(tmp_path):
    """Each option has its form."""
    (tmp_path / "accounts").write_text("a@x:one,two\n\nb@x:p:q\n", encoding="utf-8")
    settings, errors = read_section(
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
    assert errors == []
    assert settings == EmulatorSettings(
        tmp_path,
        listen="tcp:9",
        phones=("one", "two"),
        accounts={"a@x": "one,two", "b@x": "p:q"},
        sender_quota=(200000, 86400.0),
        device_quota=(20, 60.0),
    )


def test_all_errors_are_reported_together(tmp_path):
    """Every wrong option is named, and no secret is repeated."""
    settings, errors = read_section(
        {
            "listen": "nowhere",
            "phones": "a b",
            "accounts": "hunter2",
            "sender_quota": "many",
            "colour": "red",
        },
        tmp_path,
        tmp_path,
    )
    assert settings is None
    assert errors == [
        "[emulator] listen = nowhere: expected an endpoint such as tcp:8443:interface=127.0.0.1",
        "[emulator] phones = a b:"
        " expected printable ASCII names without blanks, slashes and commas",
        "[emulator] accounts: expected email:password, several separated by commas",
        "[emulator] sender_quota = many: expected a rate such as 240/m",
        "[emulator] colour: unknown option",
    ]


def test_accounts_and_a_file_of_accounts(tmp_path):
    """One of the two; the file has an account on each line, and no error repeats it."""
    (tmp_path / "file").write_text("a@x:one\nhunter2\n", encoding="utf-8")
    assert read_section({"accounts": "a@x:b", "accounts_file": "file"}, tmp_path, tmp_path) == (
        None,
        ["[emulator] accounts: expected either accounts or accounts_file, not both"],
    )
    assert read_section({"accounts_file": "file"}, tmp_path, tmp_path) == (
        None,
        ["[emulator] accounts_file = file: expected email:password on each line"],
    )


def test_an_empty_option_has_its_default(tmp_path):
    """It is the same as none."""
    empty = dict.fromkeys(OPTIONS, "")
    assert read_section(empty, tmp_path, tmp_path) == (EmulatorSettings(tmp_path), [])


def test_a_file_of_accounts_may_begin_with_a_byte_order_mark(tmp_path):
    """It is no part of the first address."""
    (tmp_path / "accounts").write_bytes(b"\xef\xbb\xbfa@x:one\r\nb@x:two\r\n")
    settings, errors = read_section({"accounts_file": "accounts"}, tmp_path, tmp_path)
    assert errors == []
    assert settings.accounts == {"a@x": "one", "b@x": "two"}


def test_a_fifo_in_place_of_the_accounts_is_not_waited_for(tmp_path):
    """It is an error of the option."""
    os.mkfifo(tmp_path / "accounts")
    _, errors = read_section({"accounts_file": "accounts"}, tmp_path, tmp_path)
    assert errors == [
        "[emulator] accounts_file = accounts: expected a file that can be read"
        f" (Not a regular file: {tmp_path}/accounts)"
    ]


def test_secrets_stay_out_of_the_repr():
    """A password never shows in a log that prints the settings."""
    assert "hunter2" not in repr(EmulatorSettings(Path("/"), accounts={"a@x": "hunter2"}))


def test_what_differs(tmp_path):
    """Options by name; where one has none, those that the other does not have by default empty."""
    old = EmulatorSettings(tmp_path)
    assert changed_options(old, EmulatorSettings(tmp_path / "other")) == []
    assert changed_options(
        old, EmulatorSettings(tmp_path, listen="tcp:9", device_quota=(1, 1.0))
    ) == [
        "listen",
        "device_quota",
    ]
    assert changed_options(None, old) == changed_options(old, None) == ["listen", "phones"]
    assert changed_options(None, None) == []
