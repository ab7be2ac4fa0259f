"""A disk that is soon full, and can be made read-only: a small tmpfs."""

import subprocess
from pathlib import Path

import attrs
import pytest


@attrs.frozen
class SmallDisk:
    """Is mounted at `path`, which is made."""

    path: Path

    def mount(self) -> None:
        """Mount it, or skip the test where that is not allowed."""
        self.path.mkdir(mode=0o700)
        options = ["-t", "tmpfs", "-o", "size=256k,mode=700", "tmpfs"]
        done = subprocess.run(["mount", *options, self.path], capture_output=True, check=False)
        if done.returncode:
            pytest.skip("needs to mount a tmpfs, as root may")

    def unmount(self) -> None:
        subprocess.run(["umount", "--lazy", self.path], check=False)

    def remount(self, mode: str) -> None:
        """Make it read-only (`ro`) or writable (`rw`); no file may be open for writing."""
        subprocess.run(["mount", "-o", f"remount,{mode}", self.path], check=True)

    def fill(self) -> None:
        """Leave no room for another byte, until the file `ballast` is removed."""
        with (self.path / "ballast").open("wb", buffering=0) as file:
            try:
                while file.write(b"x" * 4096):
                    pass
            except OSError:
                return
