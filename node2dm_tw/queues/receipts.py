"""Receipts of accepted requests, in memory."""

from collections import OrderedDict
from collections.abc import Callable

import attrs

from node2dm_tw.queues.interface import Receipt

MAX_RECEIPTS = 100_000
"""Maximum number of receipts that an engine keeps; the oldest are forgotten."""

MAX_RECEIPT_AGE = 86_400.0
"""Seconds for which an engine keeps a receipt."""

MAX_BYTES = 64 << 20
"""Maximum memory of the receipts."""

OVERHEAD_BYTES = 500
"""Bytes that a receipt takes in addition to its answer."""


@attrs.define(eq=False)
class Receipts:
    """The receipts that a process has given, newest last.

    Args:
        wall: seconds since the epoch.
    """

    wall: Callable[[], float]
    _receipts: OrderedDict[str, Receipt] = attrs.field(factory=OrderedDict, init=False)
    _bytes: int = attrs.field(default=0, init=False)

    def add(self, receipt: Receipt) -> None:
        """Keep a receipt."""
        self._forget(receipt.key)
        self._receipts[receipt.key] = receipt
        self._bytes += _size(receipt)
        while len(self._receipts) > MAX_RECEIPTS or self._bytes > MAX_BYTES:
            self._forget(next(iter(self._receipts)))

    def find(self, key: str) -> Receipt | None:
        """Return the receipt with an idempotency key; None if there is none, or it is too old."""
        receipt = self._receipts.get(key)
        if receipt is not None and self.wall() - receipt.created >= MAX_RECEIPT_AGE:
            self._forget(key)
            return None
        return receipt

    def _forget(self, key: str) -> None:
        receipt = self._receipts.pop(key, None)
        if receipt is not None:
            self._bytes -= _size(receipt)


def _size(receipt: Receipt) -> int:
    return len(receipt.answer) + OVERHEAD_BYTES
