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

    Attributes:
        size: requests that may be in flight now.
    """

    maximum: int
    size: int = attrs.field(init=False)
    _exact: float = attrs.field(init=False)
    _threshold: float = attrs.field(init=False)
    _ignored_timeouts: int = attrs.field(default=0, init=False)

    def __attrs_post_init__(self) -> None:
        self._resize(INITIAL)
        self._threshold = self.maximum

    def reconfigure(self, maximum: int) -> None:
        """Change the maximum."""
        self.maximum = maximum
        self._resize(self._exact)
        self._threshold = min(self._threshold, maximum)

    def on_success(self) -> None:
        """An answer showed that the upstream keeps up."""
        if self._ignored_timeouts:
            self._ignored_timeouts -= 1
        if self.size < self.maximum:
            step = 1.0 if self._exact < self._threshold else 1.0 / self._exact
            self._resize(self._exact + step)

    def on_timeout(self, in_flight: int) -> None:
        """A request took too long.

        Args:
            in_flight: other requests now in flight. They met the same trouble: what becomes of
                them does not halve the window again.
        """
        if self._ignored_timeouts:
            self._ignored_timeouts -= 1
            return
        self._ignored_timeouts = in_flight
        self._resize(max(1.0, self._exact / 2))
        self._threshold = self._exact

    def slow_start(self) -> None:
        """Begin again with one request, growing fast up to half of where trouble began."""
        self._threshold = max(1.0, self._exact / 2)
        self._resize(1.0)

    def _resize(self, size: float) -> None:
        self._exact = min(size, self.maximum)
        self.size = int(self._exact)
