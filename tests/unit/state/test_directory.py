"""The folder of what outlives the process."""

import stat
import subprocess
import sys
from pathlib import Path

import pytest

from node2dm_tw.state.atomic import NotRegularFile
from node2dm_tw.state.directory import StateDir
from tests.support.odd_files import OBEYING_MODES, ODD, is_untouched

OTHER_PROCESS = """
import sys
from pathlib import Path
from node2dm_tw.state.directory import StateDir
try:
    StateDir(Path(sys.argv[1])).lock()
except OSError as error:
    print(f"{error.filename}: {error.strerror}")
else:
    print("locked")
"""


def other_process(path, *prefix):
    command = [*prefix, sys.executable, "-c", OTHER_PROCESS, path]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def open_descriptors():
    return sorted(int(entry.name) for entry in Path("/proc/self/fd").iterdir())


def test_the_folder_is_made_for_the_owner_alone(tmp_path):
    """With its parents."""
    state_dir = StateDir(tmp_path / "a" / "b")
    state_dir.lock()
    assert stat.S_IMODE(state_dir.path.stat().st_mode) == 0o700
    state_dir.unlock()


def test_one_process_at_a_time(tmp_path):
    """The second is told which folder; once the first gives it up the second may have it."""
    state_dir = StateDir(tmp_path)
    state_dir.lock()
    assert other_process(tmp_path) == f"{tmp_path}: another process uses it"
    state_dir.unlock()
    assert other_process(tmp_path) == "locked"


def test_a_refused_lock_leaves_no_descriptor_open(tmp_path):
    """Nor does unlocking, which may be done twice."""
    first, second = StateDir(tmp_path), StateDir(tmp_path)
    before = open_descriptors()
    first.lock()
    for _ in range(3):
        with pytest.raises(BlockingIOError):
            second.lock()
    first.unlock()
    first.unlock()
    assert open_descriptors() == before


def test_a_file_in_the_way(tmp_path):
    """The folder cannot be made then."""
    (tmp_path / "state").write_text("", encoding="utf-8")
    with pytest.raises(FileExistsError):
        StateDir(tmp_path / "state").lock()
    with pytest.raises(NotADirectoryError):
        StateDir(tmp_path / "state" / "below").lock()


@pytest.mark.parametrize("kind", ODD)
def test_what_is_no_regular_file_cannot_be_locked(tmp_path, monkeypatch, kind):
    """The error has the reason; nothing blocks, and no link is followed."""
    monkeypatch.chdir(tmp_path)
    ODD[kind](tmp_path / "lock")
    with pytest.raises(NotRegularFile, match=f"it is {kind}"):
        StateDir(tmp_path).lock()
    assert is_untouched(tmp_path / "lock")


@pytest.mark.skipif(not OBEYING_MODES, reason="needs setpriv, as modes do not bind root")
def test_a_lock_that_may_only_be_read_is_a_lock(tmp_path):
    """Whoever restored it from a copy may have made it so."""
    lock = tmp_path / "lock"
    lock.touch(0o400)
    assert other_process(tmp_path, *OBEYING_MODES) == "locked"
    lock.chmod(0o000)
    assert other_process(tmp_path, *OBEYING_MODES) == f"{lock}: Permission denied"
    lock.unlink()
    tmp_path.chmod(0o500)
    assert other_process(tmp_path, *OBEYING_MODES) == f"{lock}: Permission denied"
