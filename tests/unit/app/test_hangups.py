"""SIGHUP, from the first moment on."""

import subprocess
import sys

PROGRAM = """
import os, signal
from node2dm_tw.app.hangups import hang_ups
for _ in range({before}):
    os.kill(os.getpid(), signal.SIGHUP)
hang_ups.obey(lambda: print("reload"))
for _ in range({after}):
    os.kill(os.getpid(), signal.SIGHUP)
"""


def reloads(before: int, after: int) -> int:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(before=before, after=after)],
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.count("reload")


def test_a_signal_that_comes_too_early_is_obeyed_later():
    """Once, however many came; from then on each is obeyed."""
    assert reloads(0, 0) == 0
    assert reloads(3, 0) == 1
    assert reloads(0, 2) == 2
    assert reloads(3, 2) == 3


def test_it_is_handled_before_the_service_is_loaded():
    """Loading takes a while, in which the signal must not end the process."""
    program = (
        "import importlib.abc, os, signal, sys\n"
        "class Finder(importlib.abc.MetaPathFinder):\n"
        "    def find_spec(self, name, *_):\n"
        "        if name == 'node2dm_tw.admin':\n"
        "            os.kill(os.getpid(), signal.SIGHUP)\n"
        "sys.meta_path.insert(0, Finder())\n"
        "import node2dm_tw.app.tap\n"
        "print('loaded')\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=False)
    assert (done.returncode, done.stdout) == (0, b"loaded\n")
