"""SIGHUP, which ends a process that does not handle it: kept until the gateway can obey.

Import this module before others that take their time: it handles the signal from then on.
"""

import signal
from collections.abc import Callable


class HangUps:
    """Receives the signal, and remembers it as long as nobody can act on it."""

    def __init__(self) -> None:
        """Receive the signal from now on."""
        self._on_signal: Callable[[], object] | None = None
        self._is_pending = False
        signal.signal(signal.SIGHUP, self._receive)

    def obey(self, on_signal: Callable[[], object]) -> None:
        """Call `on_signal` at each signal from now on; once at once, if any came before.

        Args:
            on_signal: called in the signal handler.
        """
        self._on_signal = on_signal
        if self._is_pending:
            on_signal()

    def _receive(self, *_: object) -> None:
        if self._on_signal is None:
            self._is_pending = True
        else:
            self._on_signal()


hang_ups = HangUps()
