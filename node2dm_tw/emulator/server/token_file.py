"""Keeps the tokens that the emulator issued for its next start."""

import json
from pathlib import Path

import attrs
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from node2dm_tw.emulator.files import read_file, replace_file
from node2dm_tw.emulator.google.accounts import Accounts
from node2dm_tw.emulator.google.messages import read_object
from node2dm_tw.emulator.google.oauth import OAuth

SAVE_INTERVAL = 1.0
"""Minimum number of seconds between two writes."""

_MAX_FILE_BYTES = 8 * 1024 * 1024

_log = Logger()


@attrs.define(eq=False)
class TokenFile:
    """The newest tokens of ClientLogin and OAuth; only their hashes, so it is not a secret.

    Args:
        clock: times the writes.
    """

    _path: Path
    _accounts: Accounts
    _oauth: OAuth
    _clock: IReactorTime
    _saved: float | None = attrs.field(default=None, init=False)
    _pending: IDelayedCall | None = attrs.field(default=None, init=False)

    def load(self, now: float) -> None:
        """Restore the valid tokens; a damaged file is the same as none.

        Args:
            now: seconds since the epoch.
        """
        try:
            content = read_object(read_file(self._path, _MAX_FILE_BYTES)) or {}
        except OSError:
            content = {}
        self._accounts.tokens.restore(content.get("login"), now, self._accounts.knows)
        self._oauth.tokens.restore(content.get("access"), now, lambda account: True)

    def save_soon(self) -> None:
        """Write the file at once, or as soon as `SAVE_INTERVAL` allows."""
        if self._pending is None:
            now = self._clock.seconds()
            wait = 0.0 if self._saved is None else self._saved + SAVE_INTERVAL - now
            self._pending = self._clock.callLater(max(0.0, wait), self._save)

    def close(self) -> None:
        """Write what is still pending."""
        if self._pending is not None:
            self._pending.cancel()
            self._save()

    def _save(self) -> None:
        self._pending, self._saved = None, self._clock.seconds()
        content = {"login": self._accounts.tokens.dump(), "access": self._oauth.tokens.dump()}
        try:
            replace_file(self._path, json.dumps(content).encode())
        except OSError as error:
            _log.warn("cannot write {path}: {error}", path=str(self._path), error=str(error))
