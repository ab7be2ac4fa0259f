"""What went wrong of late, for a person to look at: each kind of trouble once, with its number."""

from typing import Any

import attrs

from node2dm_tw.logs import shorten

CAPACITY = 30
"""
Kinds kept. A further one takes the place of that which was seen longest ago, but only one in a
second: an upstream that finds new words for each push is counted under `OTHERS`.
"""

LISTED = 10
"""Kinds that a person is shown."""

OTHERS = "other reasons"


@attrs.define(eq=False)
class _Trouble:
    count: int
    when: float
    device: bytes


@attrs.define(eq=False)
class Troubles:
    """Counts troubles that are of one kind and reason together; cheap at any number a second."""

    _seen: dict[tuple[str, str], _Trouble] = attrs.field(factory=dict, init=False)
    _made_room: float = attrs.field(default=0.0, init=False)

    def note(self, kind: str, reason: str, device: bytes, when: float) -> None:
        """Remember a trouble.

        Args:
            kind: what became of the push or request, in a word.
            reason: in the upstream's words.
            device: that it was met with last; shown shortened.
            when: seconds since the epoch.
        """
        known = self._seen.get((kind, reason))
        if known is not None:
            known.count += 1
            known.when = when
            known.device = device
            return
        if len(self._seen) < CAPACITY or reason == OTHERS:
            self._seen[kind, reason] = _Trouble(1, when, device)
        elif abs(when - self._made_room) >= 1.0:
            self._made_room = when
            del self._seen[min(self._seen, key=lambda key: self._seen[key].when)]
            self._seen[kind, reason] = _Trouble(1, when, device)
        else:
            self.note(kind, OTHERS, device, when)

    def latest(self) -> list[dict[str, Any]]:
        """What happened last, the latest first."""
        seen = sorted(self._seen.items(), key=lambda item: item[1].when, reverse=True)[:LISTED]
        return [
            {
                "kind": kind,
                "reason": _without(trouble.device, reason)[:200],
                "count": trouble.count,
                "when": round(trouble.when, 3),
                "device": shorten(trouble.device),
            }
            for (kind, reason), trouble in seen
        ]


def _without(device: bytes, reason: str) -> str:
    """Shorten the device in an upstream's words too."""
    return reason.replace(device.decode("utf-8", "replace"), shorten(device))
