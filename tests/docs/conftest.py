"""The emulator that the package gives to applications, for the pages that describe it."""

from node2dm_tw.emulator.testing import push_emulator, push_emulator_process

__all__ = ["push_emulator", "push_emulator_process"]
