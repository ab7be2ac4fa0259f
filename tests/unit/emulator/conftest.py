"""The emulator of the tests: the one that the package gives to applications."""

from node2dm_tw.emulator.testing import push_emulator, push_emulator_process

__all__ = ["push_emulator", "push_emulator_process"]
