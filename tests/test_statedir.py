"""The folder of what outlives the process."""

import stat
import subprocess
import sys
from pathlib import Path

import pytest

from node2dm_tw.statedir import StateDir

OTHER_PROCESS = """
import sys
from pathlib import Path
from node2dm_tw.statedir import StateDir
try:
    StateDir(Path(sys.argv[1])).lock()
except BlockingIOError as error:
    print(f"{error.filename}: {error.strerror}")
else:
    print("locked")
"""


def other_process(path):
    done = subprocess.run(
        [sys.executable, "-c", OTHER_PROCESS, path], capture_output=True, text=True, check=True
    )
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
