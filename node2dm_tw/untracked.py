"""Objects that Python's garbage collector need not look at.

It looks for objects that refer to one another in a circle, and for that at each object that may
refer to others: at a million queued pushes for 0.2 s. A push refers to nothing but bytes and
numbers, so it is in no circle, and is freed when the last reference to it goes.
"""

import ctypes
import gc
from collections import deque
from collections.abc import Callable, Iterable


def freeze() -> None:
    """Let the collector look no more at what is there now: the modules, and what a start makes."""
    gc.collect()
    gc.freeze()


def untrack(objects: Iterable[object]) -> None:
    """Let the collector look no more at `objects`, none of which may ever be in a circle."""
    deque(map(_untrack, filter(gc.is_tracked, objects)), maxlen=0)


# Crashes for an object that the collector has no place for, such as a number.
_untrack: Callable[[object], None] = ctypes.pythonapi.PyObject_GC_UnTrack
_untrack.argtypes, _untrack.restype = [ctypes.py_object], None  # type: ignore[attr-defined]
