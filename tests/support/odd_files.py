"""What may be in the place of a file: nothing that a program should read, block on, or follow."""

import os
import shutil
import socket
from collections.abc import Callable
from pathlib import Path


def make_symlink(path: Path) -> None:
    """A link to a file that anybody may read; `target_of` finds it."""
    target = target_of(path)
    target.write_text("the target", encoding="utf-8")
    target.chmod(0o644)
    path.symlink_to(target)


def make_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(os.path.relpath(path))


def target_of(path: Path) -> Path:
    return path.with_name(f"target of {path.name}")


def is_untouched(path: Path) -> bool:
    """Whether the target of `make_symlink`, where there is one, is as it was."""
    target = target_of(path)
    return not target.exists() or (
        target.read_text(encoding="utf-8") == "the target"
        and target.stat().st_mode & 0o777 == 0o644
    )


ODD: dict[str, Callable[[Path], None]] = {
    "a FIFO": os.mkfifo,
    "a directory": Path.mkdir,
    "a symbolic link": make_symlink,
    "a socket": make_socket,
}
"""Makes what each name says."""


def _obeying_modes() -> tuple[str, ...]:
    if os.geteuid() != 0:
        return ("env",)
    setpriv = shutil.which("setpriv")
    return () if setpriv is None else (setpriv, "--bounding-set=-dac_override,-dac_read_search")


OBEYING_MODES = _obeying_modes()
"""Runs a command that the modes of files hold for, though it be root's; empty: cannot be had."""
