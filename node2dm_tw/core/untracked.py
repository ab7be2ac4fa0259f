"""Excludes objects from Python's garbage collection.

The collector looks for reference cycles, and visits every object that may be part of one: a
million queued pushes take 0.2 s. A push refers to bytes and numbers only, so it is part of no cycle
and is freed with the last reference to it.
"""

import ctypes
import gc
from collections import deque
from collections.abc import Callable, Iterable


def freeze() -> None:
    """Exclude everything that exists now: modules, and what the start has made."""
    gc.collect()
    gc.freeze()


def untrack(objects: Iterable[object]) -> None:
    """Exclude `objects`, none of which may ever be part of a reference cycle."""
    deque(map(_untrack, filter(gc.is_tracked, objects)), maxlen=0)


# Crashes the process for an object of a type that is never tracked, such as a number.
_untrack: Callable[[object], None] = ctypes.pythonapi.PyObject_GC_UnTrack
_untrack.argtypes, _untrack.restype = [ctypes.py_object], None  # type: ignore[attr-defined]
