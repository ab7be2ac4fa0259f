"""Files that are whole or not there."""

import stat

import pytest

from node2dm_tw.files import write_atomically


def test_a_file_is_written_for_its_owner_alone(tmp_path):
    """Whatever the mode of the one it takes the place of."""
    path = tmp_path / "token"
    path.write_text("old", encoding="utf-8")
    path.chmod(0o644)
    write_atomically(path, [b"ne", b"w"])
    assert path.read_bytes() == b"new"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert list(tmp_path.iterdir()) == [path]


def test_a_failure_halfway_leaves_the_old_file_alone(tmp_path):
    """And nothing beside it, if it is the disk that fails."""

    def chunks():
        yield b"ne"
        raise OSError(28, "No space left on device")

    path = tmp_path / "token"
    path.write_text("old", encoding="utf-8")
    with pytest.raises(OSError, match="No space"):
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
