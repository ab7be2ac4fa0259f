"""State files: written whole or not at all, and read as if anybody might have written them."""

import json
import math
import os
import stat
import sys

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from twisted.logger import capturedLogs, formatEvent

from node2dm_tw.state.atomic import (
    NotRegularFile,
    as_number,
    find_free_name,
    open_own_file,
    parse_json,
    read_own_file,
    write_atomically,
)
from tests.support.odd_files import ODD, is_untouched


def test_a_file_is_written_for_its_owner_alone(tmp_path):
    """Whatever the mode of the one it takes the place of."""
    path = tmp_path / "token"
    path.write_text("old", encoding="utf-8")
    path.chmod(0o644)
    write_atomically(path, [b"ne", b"w"])
    assert path.read_bytes() == b"new"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), ValueError("a fault")])
def test_a_failure_halfway_leaves_the_old_file_alone(tmp_path, error):
    """And nothing beside it, whether the disk fails or what makes the content."""

    def chunks():
        yield b"ne"
        raise error

    path = tmp_path / "token"
    path.write_text("old", encoding="utf-8")
    with pytest.raises(type(error), match=str(error.args[-1])):
        write_atomically(path, chunks())
    assert path.read_text(encoding="utf-8") == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_that_is_not_there(tmp_path):
    """An OSError, and nothing was changed."""
    with pytest.raises(FileNotFoundError):
        write_atomically(tmp_path / "nowhere" / "token", [b""])


def test_what_an_earlier_crash_left_is_no_hindrance(tmp_path):
    """A part that was never finished is written over, and its mode is set right."""
    path = tmp_path / "token"
    part = tmp_path / "token.part"
    part.write_text("half of something longer", encoding="utf-8")
    part.chmod(0o644)
    write_atomically(path, [b"new"])
    assert path.read_bytes() == b"new"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("kind", ODD)
@pytest.mark.parametrize("name", ["token", "token.part"])
def test_writing_never_goes_through_what_is_in_the_way(tmp_path, monkeypatch, kind, name):
    """A link is replaced, not followed; only a directory cannot give way to a file."""
    monkeypatch.chdir(tmp_path)
    ODD[kind](tmp_path / name)
    path = tmp_path / "token"
    if (kind, name) == ("a directory", "token"):
        with pytest.raises(IsADirectoryError):
            write_atomically(path, [b"new"])
        assert list(tmp_path.iterdir()) == [path]
    else:
        write_atomically(path, [b"new"])
        assert path.read_bytes() == b"new"
    assert is_untouched(tmp_path / name)


def test_a_free_name_is_the_first_that_nothing_has(tmp_path):
    """A dangling link has its name, too."""
    path = tmp_path / "spool"
    assert find_free_name(path) == path
    path.symlink_to("nowhere")
    assert find_free_name(path) == tmp_path / "spool.1"
    (tmp_path / "spool.1").touch()
    (tmp_path / "spool.3").touch()
    assert find_free_name(path) == tmp_path / "spool.2"


@pytest.mark.parametrize("mode", [0o600, 0o400, 0o644, 0o666])
def test_a_file_of_ours_is_read_and_made_private(tmp_path, mode):
    """Its mode is repaired on the way; one that nobody else can read stays as it is."""
    path = tmp_path / "token"
    path.write_bytes(b"content")
    path.chmod(mode)
    assert read_own_file(path, 7) == b"content"
    assert stat.S_IMODE(path.stat().st_mode) == (mode if mode in (0o600, 0o400) else 0o600)


def test_a_file_that_has_another_name_elsewhere_keeps_its_mode(tmp_path):
    """The other name may be somebody's who relies on it."""
    path, other = tmp_path / "token", tmp_path / "other"
    other.write_bytes(b"content")
    other.chmod(0o644)
    path.hardlink_to(other)
    assert read_own_file(path, 100) == b"content"
    assert stat.S_IMODE(other.stat().st_mode) == 0o644


def test_no_file_is_no_reason_to_warn(tmp_path):
    """None, and not a word."""
    with capturedLogs() as events:
        assert read_own_file(tmp_path / "token", 100) is None
        assert read_own_file(tmp_path / "nowhere" / "token", 100) is None
    assert not events


@pytest.mark.parametrize("kind", ODD)
def test_what_is_no_regular_file_is_not_read(tmp_path, monkeypatch, kind):
    """It neither blocks nor is followed; a warning names path and reason."""
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "token"
    ODD[kind](path)
    with capturedLogs() as events:
        assert read_own_file(path, 100) is None
    assert [formatEvent(event) for event in events] == [f"{path} is not used: it is {kind}"]
    assert is_untouched(path)
    with pytest.raises(NotRegularFile):
        open_own_file(path, os.O_RDWR | os.O_CREAT)


@pytest.mark.parametrize("device", ["/dev/zero", "/dev/null", "/dev/tty"])
def test_a_device_is_not_read(device, tmp_path):
    """Nor opened, which may do things of its own."""
    with pytest.raises(NotRegularFile, match="it is a device"):
        open_own_file(type(tmp_path)(device))


def test_a_file_that_is_too_large_is_not_used(tmp_path):
    """Not even a part of it."""
    path = tmp_path / "token"
    path.write_bytes(b"12345678")
    with capturedLogs() as events:
        assert read_own_file(path, 7) is None
    (line,) = map(formatEvent, events)
    assert line == f"{path} is not used: it is larger than 7 bytes"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_a_file_of_somebody_else_is_not_used(tmp_path):
    """Whoever wrote it may have meant anything."""
    path = tmp_path / "token"
    path.write_bytes(b"content")
    os.chown(path, 12_345, -1)
    with capturedLogs() as events:
        assert read_own_file(path, 100) is None
    (line,) = map(formatEvent, events)
    assert line == f"{path} is not used: it belongs to user 12345"


@given(st.binary(max_size=200))
@example(b"[" * 100_000)
@example(b'{"a":' * 100_000)
@example(b"9" * 5_000)
@example(b"\xff\xfe[\x001\x00]\x00")
def test_any_bytes_are_json_or_none(data):
    """Nothing is raised; what is none, Python's own reader refuses as well."""
    value = parse_json(data)
    if value is None and data.strip() != b"null":
        with pytest.raises((ValueError, RecursionError)):
            json.loads(data)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)


@given(JSON)
@example(10**400)
@example(-(10**400))
@example(math.inf)
@example(math.nan)
@example(True)
def test_a_number_is_finite_or_none(value):
    """Of any value that JSON can bring; a truth value is no number."""
    number = as_number(value)
    if number is None:
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        assert not is_number or not abs(value) <= sys.float_info.max
    else:
        assert math.isfinite(number)
        assert number == float(value)
