"""How many requests may be in flight."""

import attrs

INITIAL = 8


@attrs.define(eq=False)
class Window:
    """Grows while answers are good, shrinks when they are not, as TCP does (RFC 5681, section 3.1).

    Below the threshold each good answer opens the window by one request; above it, each window
    full of good answers does.

    Args:
        maximum: requests in flight at the most.
    """

    maximum: int
    _size: float = attrs.field(init=False)
    _threshold: float = attrs.field(init=False)
    _same_trouble: int = attrs.field(default=0, init=False)

    def __attrs_post_init__(self) -> None:
        self._size = min(INITIAL, self.maximum)
        self._threshold = self.maximum

    @property
    def size(self) -> int:
        """Requests that may be in flight now."""
        return int(self._size)

    def limit(self, maximum: int) -> None:
        """Change the maximum."""
        self.maximum = maximum
        self._size = min(self._size, maximum)
        self._threshold = min(self._threshold, maximum)

    def good(self) -> None:
        """An answer showed that the upstream keeps up."""
        if self._same_trouble:
            self._same_trouble -= 1
        if self._size < self.maximum:
            step = 1.0 if self._size < self._threshold else 1.0 / self._size
            self._size = min(self.maximum, self._size + step)

    def halve(self, in_flight: int) -> None:
        """A request took too long.

        Args:
            in_flight: other requests now in flight. They met the same trouble: what becomes of
                them does not halve the window again.
        """
        if self._same_trouble:
            self._same_trouble -= 1
            return
        self._same_trouble = in_flight
        self._threshold = self._size = max(1.0, self._size / 2)

    def reopen(self) -> None:
        """Begin again with one request, growing fast up to half of where trouble began."""
        self._threshold = max(1.0, self._size / 2)
        self._size = 1.0
