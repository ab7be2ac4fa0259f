"""The recent errors of a route, for the status page: each kind and reason once, with a count."""

import attrs

from node2dm_tw.core.logs import shorten
from node2dm_tw.core.snapshot import RecentError

CAPACITY = 30
"""
Kinds and reasons kept. A further one replaces the one seen longest ago, but only one a second: an
upstream that words its reason anew for each push is counted under `OTHERS`.
"""

LISTED = 10
"""Entries in `latest`."""

OTHERS = "other reasons"


@attrs.define(eq=False)
class _ErrorCount:
    count: int
    when: float
    device: bytes


@attrs.define(eq=False)
class RecentErrors:
    """Counts errors of the same kind and reason together; cheap at any rate."""

    _entries: dict[tuple[str, str], _ErrorCount] = attrs.field(factory=dict, init=False)
    _latest: tuple[RecentError, ...] | None = attrs.field(default=None, init=False)
    _replaced_at: float = attrs.field(default=0.0, init=False)

    def record(self, kind: str, reason: str, device: bytes, when: float) -> None:
        """Count an error.

        Args:
            kind: what became of the push or request, in a word or two.
            reason: in the upstream's words.
            device: the last one concerned, shown shortened; empty where none is.
            when: seconds since the epoch.
        """
        self._latest = None
        known = self._entries.get((kind, reason))
        if known is not None:
            known.count += 1
            known.when = when
            known.device = device
            return
        if len(self._entries) < CAPACITY or reason == OTHERS:
            self._entries[kind, reason] = _ErrorCount(1, when, device)
        elif abs(when - self._replaced_at) >= 1.0:
            self._replaced_at = when
            del self._entries[min(self._entries, key=lambda key: self._entries[key].when)]
            self._entries[kind, reason] = _ErrorCount(1, when, device)
        else:
            self.record(kind, OTHERS, device, when)

    def latest(self) -> tuple[RecentError, ...]:
        """List the most recent errors, the latest first."""
        if self._latest is None:  # asked every second, however long ago the last error was
            latest = sorted(self._entries.items(), key=lambda item: item[1].when, reverse=True)
            self._latest = tuple(_describe(*key, entry) for key, entry in latest[:LISTED])
        return self._latest


def _describe(kind: str, reason: str, entry: _ErrorCount) -> RecentError:
    """Describe errors, with the device shortened; the upstream's words may repeat it."""
    device = shorten(entry.device)
    if entry.device:
        reason = reason.replace(entry.device.decode("utf-8", "replace"), device)
    return RecentError(kind, reason[:200], entry.count, round(entry.when, 3), device)
