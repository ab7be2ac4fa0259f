"""Excludes objects from Python's garbage collection.

The collector looks for reference cycles, and visits every object that may be part of one: a
million queued pushes take 0.2 s. A push refers only to bytes and numbers, so it is never part of a
cycle, and is freed with the last reference to it.
"""

import ctypes
import gc
from collections import deque
from collections.abc import Callable, Iterable


def freeze() -> None:
    """Exclude all objects that exist now: modules, and objects created at the start."""
    gc.collect()
    gc.freeze()


def untrack(objects: Iterable[object]) -> None:
    """Exclude `objects`, none of which may ever be part of a reference cycle."""
    deque(map(_untrack, filter(gc.is_tracked, objects)), maxlen=0)


# Crashes the process if the type of the object is never tracked, such as a number.
_untrack: Callable[[object], None] = ctypes.pythonapi.PyObject_GC_UnTrack
_untrack.argtypes, _untrack.restype = [ctypes.py_object], None  # type: ignore[attr-defined]
