"""Work that clients may ask for as often as they like, done as often as can be afforded."""

from collections.abc import Callable
from typing import Generic, TypeVar

import attrs

T = TypeVar("T")

REST = 20
"""How many times longer than it took to make, a value is given out again."""


@attrs.define(eq=False)
class Memo(Generic[T]):
    """Makes a value again only after `REST` times as long as it took: a twentieth of the time.

    A snapshot that takes 1 ms is so at most 20 ms old, however many ask for it.

    Args:
        seconds: monotonic.
        make: makes the value.
    """

    seconds: Callable[[], float]
    make: Callable[[], T]
    _value: T | None = attrs.field(default=None, init=False)
    _made: float = attrs.field(default=float("-inf"), init=False)
    _until: float = attrs.field(default=float("-inf"), init=False)

    def __call__(self) -> T:
        """Give the value, made now or a moment ago."""
        begin = self.seconds()
        if self._value is None or begin >= self._until:
            self._value = self.make()
            end = self.seconds()
            self._until = end + REST * (end - begin)
        return self._value
